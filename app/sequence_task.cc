#include "app/sequence_task.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "app/error.h"
#include "app/random.h"

namespace fastmax::app {
namespace {

// Sorting by length inside groups of this many batches makes padding small and leaves batches varied.
constexpr std::int64_t kGroup = 50;

void sort_by_length(const Examples& examples, std::span<std::int64_t> order) {
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return examples[a].size() < examples[b].size();
  });
}

}  // namespace

SequenceTask::SequenceTask(const Recipe& recipe, Parts parts, TokenForm form, Accuracies baselines)
    : seed_(static_cast<std::uint64_t>(recipe.seed)),
      batch_(recipe.train.batch),
      group_by_length_(recipe.train.group_by_length),
      parts_(std::move(parts)),
      form_(form),
      baselines_(std::move(baselines)) {}

Batch SequenceTask::train_batch(std::int64_t step) {
  const std::int64_t batches = parts_.train.size() / batch_, epoch = step / batches;
  if (epoch != epoch_) order_epoch(epoch);
  const std::int64_t first = first_of_batch_[step % batches];
  return collect(parts_.train, std::span(order_).subspan(first, batch_));
}

std::int64_t SequenceTask::examples(Split split, std::int64_t limit) const {
  return limit > 0 ? std::min(limit, part(split).size()) : part(split).size();
}

std::vector<Batch> SequenceTask::evaluation(Split split, std::int64_t limit) const {
  std::vector<std::int64_t> order = evenly(examples(split, limit), part(split).size());
  sort_by_length(part(split), order);
  std::vector<Batch> batches;
  for (std::size_t first = 0; first < order.size(); first += batch_) {
    const std::size_t count = std::min<std::size_t>(batch_, order.size() - first);
    batches.push_back(collect(part(split), std::span(order).subspan(first, count)));
  }
  return batches;
}

const Examples& SequenceTask::part(Split split) const {
  return split == Split::kTrain ? parts_.train : split == Split::kVal ? parts_.val : parts_.test;
}

void SequenceTask::order_epoch(std::int64_t epoch) {
  Random random(seed_, static_cast<std::uint64_t>(epoch));
  order_.resize(parts_.train.size());
  std::iota(order_.begin(), order_.end(), 0);
  random.shuffle(order_);
  const std::int64_t whole =
      parts_.train.size() / batch_ * batch_;  // what is left over waits an epoch
  for (std::int64_t first = 0; group_by_length_ && first < whole; first += kGroup * batch_) {
    const std::int64_t count = std::min(kGroup * batch_, whole - first);
    sort_by_length(parts_.train, std::span(order_).subspan(first, count));
  }
  first_of_batch_.resize(parts_.train.size() / batch_);
  for (std::size_t i = 0; i < first_of_batch_.size(); ++i) {
    first_of_batch_[i] = static_cast<std::int64_t>(i) * batch_;
  }
  random.shuffle(first_of_batch_);
  epoch_ = epoch;
}

Batch SequenceTask::collect(const Examples& examples, std::span<const std::int64_t> which) const {
  if (form_.patch > 1) return patches(examples, which);
  Batch batch{.B = static_cast<std::int64_t>(which.size()), .mask_zero = form_.mask_zero};
  for (const std::int64_t i : which) {
    batch.lengths.push_back(static_cast<std::int64_t>(examples[i].size()));
    batch.targets.push_back(examples.labels[i]);
  }
  batch.N = *std::max_element(batch.lengths.begin(), batch.lengths.end());
  batch.tokens.assign(batch.B * batch.N, 0);
  for (std::int64_t b = 0; b < batch.B; ++b) {
    std::transform(examples[which[b]].begin(), examples[which[b]].end(),
                   batch.tokens.begin() + b * batch.N,
                   [&](std::uint8_t byte) { return byte + form_.first; });
  }
  return batch;
}

// Row by row; inside a patch, too.
Batch SequenceTask::patches(const Examples& examples, std::span<const std::int64_t> which) const {
  const std::int64_t p = form_.patch, across = form_.side / p;
  Batch batch{.B = static_cast<std::int64_t>(which.size()), .N = across * across};
  batch.lengths.assign(which.size(), batch.N);
  batch.values.reserve(which.size() * examples[which[0]].size());
  for (const std::int64_t i : which) {
    batch.targets.push_back(examples.labels[i]);
    const auto image = examples[i];
    for (std::int64_t n = 0; n < batch.N; ++n) {
      for (std::int64_t j = 0; j < p * p; ++j) {
        const std::int64_t row = n / across * p + j / p, column = n % across * p + j % p;
        batch.values.push_back(static_cast<float>(image[row * form_.side + column]) / 255);
      }
    }
  }
  return batch;
}

void require_examples(const Parts& parts, const Recipe& recipe, const std::filesystem::path& from) {
  const std::int64_t batch = recipe.train.batch;
  if (parts.train.size() >= batch && parts.val.size() > 0 && parts.test.size() > 0) return;
  throw UsageError(text("expected at least train.batch = ", batch,
                        " training examples and one of validation and test each, ", from.string(),
                        " has ", parts.train.size(), ", ", parts.val.size(), " and ",
                        parts.test.size()));
}

double majority(const Parts& parts) {
  std::array<std::int64_t, 256> counts{};
  for (const std::uint8_t label : parts.train.labels) ++counts[label];
  const auto commonest = std::max_element(counts.begin(), counts.end()) - counts.begin();
  const auto right = std::count(parts.test.labels.begin(), parts.test.labels.end(), commonest);
  return static_cast<double>(right) / static_cast<double>(parts.test.size());
}

}  // namespace fastmax::app
