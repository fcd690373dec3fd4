#include "app/step_cost.h"

#include <malloc.h>

#include <vector>

#include "app/clock.h"
#include "app/memory.h"
#include "app/statistics.h"

namespace fastmax::app {
namespace {

constexpr int kMostSteps = 50;

/// Freed blocks go back to the system at once, so that the resident size is what is alive, or are kept for
/// the next step, which is quicker. The second is what glibc arrives at by itself after a few steps.
void return_freed_memory(bool at_once) {
  mallopt(M_MMAP_THRESHOLD, at_once ? 64 << 10 : 32 << 20);
  mallopt(M_TRIM_THRESHOLD, at_once ? 64 << 10 : 1 << 30);
}

}  // namespace

double StepCost::steps_per_second() const { return 1 / mean(seconds); }

nlohmann::ordered_json StepCost::json() const {
  return {{"steps", steps},
          {"steps_per_second", steps_per_second()},
          {"peak_memory_bytes", peak_memory_bytes}};
}

StepCost measure_steps(const std::function<std::function<void(std::size_t)>()>& begin,
                       std::size_t batches, double budget) {
  return_freed_memory(true);
  reset_peak_memory();
  const std::int64_t before = peak_memory_bytes();
  const auto began = Clock::now();
  const std::function<void(std::size_t)> step = begin();
  step(batches - 1);
  const std::int64_t peak = peak_memory_bytes() - before;
  return_freed_memory(false);

  std::vector<std::vector<double>> timed(batches);
  std::int64_t steps = 0;
  double round = 0;  // seconds of the last one
  do {
    const auto round_began = Clock::now();
    for (std::size_t i = 0; i < batches; ++i, ++steps) {
      const auto step_began = Clock::now();
      step(i);
      timed[i].push_back(seconds_since(step_began));
    }
    round = seconds_since(round_began);
  } while (steps < kMostSteps && seconds_since(began) + round <= budget);

  StepCost cost{.steps = steps, .seconds = {}, .peak_memory_bytes = peak};
  for (const auto& seconds : timed) cost.seconds.push_back(median(seconds));
  return cost;
}

}  // namespace fastmax::app
