#include "app/listops_task.h"

#include <algorithm>
#include <numeric>

#include "app/error.h"
#include "app/files.h"
#include "app/listops_data.h"
#include "app/random.h"

namespace fastmax::app {
namespace fs = std::filesystem;
namespace {

// Sorting by length inside groups of this many batches makes padding small and leaves batches varied.
constexpr std::int64_t kGroup = 50;

class Listops : public Task {
 public:
  Listops(const Recipe& recipe, const fs::path& folder)
      : seed_(static_cast<std::uint64_t>(recipe.seed)), batch_(recipe.train.batch) {
    listops::Examples* parts[] = {&train_, &val_, &test_};
    for (int i = 0; i < 3; ++i) {
      *parts[i] = listops::read_tsv(folder / listops::kFiles[i], recipe.data.length);
    }
    if (train_.size() < batch_ || val_.size() < 1 || test_.size() < 1) {
      throw UsageError(text("expected at least train.batch = ", batch_,
                            " training examples and one of ", "validation and test each, ",
                            folder.string(), " has ", train_.size(), ", ", val_.size(), " and ",
                            test_.size()));
    }
  }

  Batch train_batch(std::int64_t step) override {
    const std::int64_t batches = train_.size() / batch_, epoch = step / batches;
    if (epoch != epoch_) order_epoch(epoch);
    const std::int64_t first = first_of_batch_[step % batches];
    return collect(train_, std::span(order_).subspan(first, batch_));
  }

  std::int64_t examples(Split split, std::int64_t limit) const override {
    return limit > 0 ? std::min(limit, part(split).size()) : part(split).size();
  }

  std::vector<Batch> evaluation(Split split, std::int64_t limit) const override {
    std::vector<std::int64_t> order(examples(split, limit));
    std::iota(order.begin(), order.end(), 0);
    sort_by_length(part(split), order);
    std::vector<Batch> batches;
    for (std::size_t first = 0; first < order.size(); first += batch_) {
      const std::size_t count = std::min<std::size_t>(batch_, order.size() - first);
      batches.push_back(collect(part(split), std::span(order).subspan(first, count)));
    }
    return batches;
  }

  std::vector<std::pair<std::string, double>> baselines() const override {
    const listops::Baselines known = listops::baselines(train_, test_);
    return {{"majority class", known.majority}, {"root operator only", known.root_operator}};
  }

 private:
  const listops::Examples& part(Split split) const {
    return split == Split::kTrain ? train_ : split == Split::kVal ? val_ : test_;
  }

  static void sort_by_length(const listops::Examples& examples, std::span<std::int64_t> order) {
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
      return examples[a].size() < examples[b].size();
    });
  }

  void order_epoch(std::int64_t epoch) {
    Random random(seed_, static_cast<std::uint64_t>(epoch));
    order_.resize(train_.size());
    std::iota(order_.begin(), order_.end(), 0);
    random.shuffle(order_);
    const std::int64_t whole = train_.size() / batch_ * batch_;  // what is left over waits an epoch
    for (std::int64_t first = 0; first < whole; first += kGroup * batch_) {
      const std::int64_t count = std::min(kGroup * batch_, whole - first);
      sort_by_length(train_, std::span(order_).subspan(first, count));
    }
    first_of_batch_.resize(train_.size() / batch_);
    for (std::size_t i = 0; i < first_of_batch_.size(); ++i) {
      first_of_batch_[i] = static_cast<std::int64_t>(i) * batch_;
    }
    random.shuffle(first_of_batch_);
    epoch_ = epoch;
  }

  static Batch collect(const listops::Examples& examples, std::span<const std::int64_t> which) {
    Batch batch{.B = static_cast<std::int64_t>(which.size())};
    for (const std::int64_t i : which) {
      batch.lengths.push_back(static_cast<std::int64_t>(examples[i].size()));
      batch.targets.push_back(examples.labels[i]);
    }
    batch.N = *std::max_element(batch.lengths.begin(), batch.lengths.end());
    batch.tokens.assign(batch.B * batch.N, 0);
    for (std::int64_t b = 0; b < batch.B; ++b) {
      const auto tokens = examples[which[b]];
      std::copy(tokens.begin(), tokens.end(), batch.tokens.begin() + b * batch.N);
    }
    return batch;
  }

  std::uint64_t seed_;
  std::int64_t batch_;
  listops::Examples train_, val_, test_;
  std::int64_t epoch_ = -1;  // the one that order_ and first_of_batch_ are for
  std::vector<std::int64_t> order_, first_of_batch_;
};

}  // namespace

fs::path listops_folder(const fs::path& data_folder, const std::string& variant) {
  return data_folder / (variant == "lra" ? "listops" : "listops_" + variant);
}

std::unique_ptr<Task> load_listops(const Recipe& recipe) {
  const fs::path folder = recipe.data.path.empty()
                              ? listops_folder(data_folder(""), recipe.data.variant)
                              : fs::path(recipe.data.path);
  if (!fs::exists(folder)) {
    throw UsageError(text("expected ListOps data in ", folder.string(),
                          ", there is none: make it with `fastmax data make listops",
                          recipe.data.variant == "short" ? " --short" : "", "`"));
  }
  return std::make_unique<Listops>(recipe, folder);
}

}  // namespace fastmax::app
