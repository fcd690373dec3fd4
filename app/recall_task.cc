#include "app/recall_task.h"

#include <algorithm>

#include "app/recall_data.h"

namespace fastmax::app {
namespace {

class Recall : public Task {
 public:
  explicit Recall(const Recipe& recipe) : recipe_(recipe), options_(recall_options(recipe)) {}

  Batch train_batch(std::int64_t step) override {
    recall::Options options = options_;
    options.length = training_length(recipe_, step);
    const std::int64_t B = recipe_.train.batch * options_.length / options.length;
    return collect(options, Split::kTrain, step * B, (step + 1) * B);
  }

  std::int64_t examples(Split, std::int64_t limit) const override {
    const std::int64_t all = recall::evaluation_count(options_);
    return limit > 0 ? std::min(limit, all) : all;
  }

  std::vector<Batch> evaluation(Split split, std::int64_t limit) const override {
    const std::int64_t count = examples(split, limit), B = recipe_.train.batch;
    std::vector<Batch> batches;
    for (std::int64_t first = 0; first < count; first += B) {
      batches.push_back(collect(options_, split, first, std::min(first + B, count)));
    }
    return batches;
  }

  std::vector<std::pair<std::string, double>> baselines() const override {
    std::vector<recall::Sequence> test;
    for (std::int64_t i = 0; i < examples(Split::kTest, 0); ++i) {
      test.push_back(recall::sequence(options_, Split::kTest, seed(), i));
    }
    return recall::baselines(options_, test);
  }

 private:
  Batch collect(const recall::Options& options, Split split, std::int64_t first,
                std::int64_t end) const {
    Batch batch{.B = end - first, .N = options.length};
    for (std::int64_t i = first; i < end; ++i) {
      const recall::Sequence s = recall::sequence(options, split, seed(), i);
      batch.tokens.insert(batch.tokens.end(), s.tokens.begin(), s.tokens.end());
      batch.targets.insert(batch.targets.end(), s.targets.begin(), s.targets.end());
    }
    batch.lengths.assign(batch.B, batch.N);
    return batch;
  }

  std::uint64_t seed() const { return static_cast<std::uint64_t>(recipe_.seed); }

  Recipe recipe_;
  recall::Options options_;
};

}  // namespace

bool is_recall(const std::string& task) { return task == "mqar" || task == "needle"; }

recall::Options recall_options(const Recipe& recipe) {
  return {.task = recipe.task,
          .length = recipe.data.length,
          .pairs = recipe.data.pairs,
          .keys = recipe.data.keys};
}

std::int64_t training_length(const Recipe& recipe, std::int64_t step) {
  const std::int64_t whole = recipe.data.length, from = recipe.data.length_from;
  if (from == 0) return whole;
  std::int64_t stages = 1;
  while (from << (stages - 1) < whole) ++stages;
  return std::min(from << (step * stages / recipe.train.steps), whole);
}

std::unique_ptr<Task> load_recall(const Recipe& recipe) { return std::make_unique<Recall>(recipe); }

}  // namespace fastmax::app
