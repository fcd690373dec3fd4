#include "app/prefetch.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "app/clock.h"

namespace fastmax::app {
namespace {

constexpr auto kMaking = std::chrono::milliseconds(200);

/// Batches that take long to make; of step s the only target is s.
class Slow : public Task {
 public:
  Batch train_batch(std::int64_t step) override {
    EXPECT_EQ(++makers_, 1) << "only one thread at a time makes batches";
    std::this_thread::sleep_for(kMaking);
    ++made_;
    --makers_;
    return {.B = 1, .N = 1, .targets = {step}};
  }
  std::int64_t examples(Split, std::int64_t) const override { return 0; }
  std::vector<Batch> evaluation(Split, std::int64_t) const override { return {}; }
  int made() const { return made_; }

 private:
  std::atomic<int> made_{0}, makers_{0};
};

TEST(Prefetch, MakesTheNextBatchWhileTheModelLearns) {
  Slow task;
  Prefetch batches(task, 3);
  EXPECT_EQ(batches.batch(0).targets[0], 0);
  for (const std::int64_t step : {1, 2}) {
    std::this_thread::sleep_for(2 * kMaking);  // learning from the one before
    const auto asked = Clock::now();
    EXPECT_EQ(batches.batch(step).targets[0], step);
    EXPECT_LT(seconds_since(asked), 0.1);  // of 0.2 for making it
  }
  EXPECT_EQ(task.made(), 3);  // none behind the last step
}

TEST(Prefetch, GivesTheBatchThatIsAskedForAfterAResume) {
  Slow task;
  Prefetch batches(task, 100);
  EXPECT_EQ(batches.batch(41).targets[0], 41);
  EXPECT_EQ(batches.batch(42).targets[0], 42);
  EXPECT_EQ(batches.batch(7).targets[0], 7);  // not the 43 that it has in hand
  EXPECT_EQ(batches.batch(8).targets[0], 8);
}

}  // namespace
}  // namespace fastmax::app
