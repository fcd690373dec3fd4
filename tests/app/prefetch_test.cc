#include "app/prefetch.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "app/clock.h"

namespace fastmax::app {
namespace {

constexpr auto kMaking = std::chrono::milliseconds(200);

/// Whose batch of step s says s, after a while.
struct SlowTask : Task {
  std::vector<std::int64_t> made;

  Batch train_batch(std::int64_t step) override {
    std::this_thread::sleep_for(kMaking);
    made.push_back(step);
    return {.B = 1, .N = 1, .tokens = {step}};
  }
  std::int64_t examples(Split, std::int64_t) const override { return 0; }
  std::vector<Batch> evaluation(Split, std::int64_t) const override { return {}; }
};

TEST(Prefetch, MakesTheNextBatchWhileTheModelLearns) {
  SlowTask task;
  Prefetch batches(task, 4);
  const double making = std::chrono::duration<double>(kMaking).count();
  for (std::int64_t step = 0; step < 4; ++step) {
    const auto began = Clock::now();
    EXPECT_EQ(batches.batch(step).tokens, std::vector<std::int64_t>{step});
    if (step > 0) EXPECT_LT(seconds_since(began), making / 2) << step;
    std::this_thread::sleep_for(2 * kMaking);  // the model learns
  }
  EXPECT_EQ(task.made, (std::vector<std::int64_t>{0, 1, 2, 3}));  // and none after the last step
}

TEST(Prefetch, GivesTheBatchOfTheStepThatIsAskedFor) {
  SlowTask task;
  Prefetch batches(task, 9);
  for (const std::int64_t step : {5, 6, 3, 4, 8}) {  // as after a resumption, in any order
    EXPECT_EQ(batches.batch(step).tokens, std::vector<std::int64_t>{step});
  }
}

}  // namespace
}  // namespace fastmax::app
