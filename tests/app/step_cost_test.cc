#include "app/step_cost.h"

#include <gtest/gtest.h>

#include "app/sampled_batches.h"

namespace fastmax::app {
namespace {

/// Batch i has the i-th length, over and over, and the step as its only target.
class OfLengths : public Task {
 public:
  explicit OfLengths(std::vector<std::int64_t> lengths) : lengths_(std::move(lengths)) {}
  Batch train_batch(std::int64_t step) override {
    return {
        .B = 1, .N = lengths_[static_cast<std::size_t>(step) % lengths_.size()], .targets = {step}};
  }
  std::int64_t examples(Split, std::int64_t) const override { return 0; }
  std::vector<Batch> evaluation(Split, std::int64_t) const override { return {}; }

 private:
  std::vector<std::int64_t> lengths_;
};

TEST(SampledBatches, AreTheMiddleOfEachThirdByLength) {
  std::vector<std::int64_t> lengths;
  for (std::int64_t step = 0; step < 50; ++step) lengths.push_back(7 * step % 50 + 1);
  OfLengths task(lengths);  // 1 .. 50, each once
  const SampledBatches sampled = sample_batches(task);
  ASSERT_EQ(sampled.batches.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(sampled.batches[i].N, (std::vector<std::int64_t>{9, 26, 42})[i]);
    EXPECT_EQ(sampled.batches[i].targets[0], sampled.steps[i]);
  }
  EXPECT_GE(sampled.seconds, 0);
}

TEST(SampledBatches, AreOneWhereAllAreEquallyLong) {
  OfLengths task({16});
  EXPECT_EQ(sample_batches(task).batches.size(), 1u);
}

TEST(StepCost, TimesEveryBatchAlikeAfterAWarmUp) {
  std::vector<std::size_t> taken;
  const auto begin = [&]() -> std::function<void(std::size_t)> {
    return [&](std::size_t i) { taken.push_back(i); };
  };
  const StepCost once = measure_steps(begin, 3, /*budget=*/0);
  EXPECT_EQ(taken, (std::vector<std::size_t>{2, 0, 1, 2}));
  EXPECT_EQ(once.steps, 3);
  EXPECT_EQ(once.seconds.size(), 3u);
  taken.clear();
  EXPECT_EQ(measure_steps(begin, 3, /*budget=*/60).steps, 51);
  EXPECT_EQ(taken.size(), 52u);
}

TEST(StepCost, IsTheMeanOverItsBatches) {
  const StepCost cost{.steps = 3, .seconds = {0.1, 0.2, 0.6}, .peak_memory_bytes = 1};
  EXPECT_NEAR(cost.steps_per_second(), 1 / 0.3, 1e-12);
}

}  // namespace
}  // namespace fastmax::app
