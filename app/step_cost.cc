#include "app/step_cost.h"

#include <malloc.h>

#include <vector>

#include "app/clock.h"
#include "app/memory.h"
#include "app/statistics.h"

namespace fastmax::app {
namespace {

constexpr int kFewestSteps = 3, kMostSteps = 50;

/// Freed blocks go back to the system at once, so that the resident size is what is alive, or are kept for
/// the next step, which is quicker. The second is what glibc arrives at by itself after a few steps.
void return_freed_memory(bool at_once) {
  mallopt(M_MMAP_THRESHOLD, at_once ? 64 << 10 : 32 << 20);
  mallopt(M_TRIM_THRESHOLD, at_once ? 64 << 10 : 1 << 30);
}

}  // namespace

nlohmann::ordered_json StepCost::json() const {
  return {{"steps", steps},
          {"steps_per_second", steps_per_second},
          {"peak_memory_bytes", peak_memory_bytes}};
}

StepCost measure_steps(const std::function<std::function<void()>()>& begin, double budget) {
  return_freed_memory(true);
  reset_peak_memory();
  const std::int64_t before = peak_memory_bytes();
  const std::function<void()> step = begin();
  const auto timed = [&] {
    const auto began = Clock::now();
    step();
    return seconds_since(began);
  };
  std::vector<double> seconds = {timed()};
  const std::int64_t peak = peak_memory_bytes() - before;
  return_freed_memory(false);

  double spent = seconds[0];
  if (spent < budget) seconds.clear();  // it warmed up; there is time for better ones
  const auto enough = [&] {
    const int steps = static_cast<int>(seconds.size());
    return steps >= kMostSteps || (spent >= budget && steps >= 1) ||
           (spent * 2 >= budget && steps >= kFewestSteps);
  };
  while (!enough()) {
    seconds.push_back(timed());
    spent += seconds.back();
  }
  return {.steps = static_cast<std::int64_t>(seconds.size()),
          .steps_per_second = 1 / median(seconds),
          .peak_memory_bytes = peak};
}

}  // namespace fastmax::app
