#include "app/sampled_batches.h"

#include <algorithm>
#include <numeric>

#include "app/clock.h"
#include "app/statistics.h"

namespace fastmax::app {
namespace {

constexpr std::int64_t kSteps = 50, kThirds = 3;

}  // namespace

SampledBatches sample_batches(Task& task) {
  std::vector<Batch> all;
  std::vector<double> seconds;
  for (std::int64_t step = 0; step < kSteps; ++step) {
    const auto began = Clock::now();
    all.push_back(task.train_batch(step));
    seconds.push_back(seconds_since(began));
  }
  std::vector<std::int64_t> order(kSteps);
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [&](std::int64_t step) { return all[step].N; });

  const bool alike = all[order.front()].N == all[order.back()].N;
  const std::int64_t parts = alike ? 1 : kThirds;
  SampledBatches sampled{.steps = {}, .batches = {}, .seconds = median(seconds)};
  for (std::int64_t i = 0; i < parts; ++i) {
    sampled.steps.push_back(order[(2 * i + 1) * kSteps / (2 * parts)]);
    sampled.batches.push_back(std::move(all[sampled.steps.back()]));
  }
  return sampled;
}

}  // namespace fastmax::app
