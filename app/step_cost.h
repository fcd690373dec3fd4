// What a step of training costs: its time, and the memory that it and what it trains take.
#pragma once
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>

namespace fastmax::app {

struct StepCost {
  std::int64_t steps = 0;              ///< that were timed
  double steps_per_second = 0;         ///< by the median step
  std::int64_t peak_memory_bytes = 0;  ///< above what the process held before

  nlohmann::ordered_json json() const;  ///< by these names
};

/// `begin` makes what is trained and returns its step, which is repeated for about `budget` seconds: at least once, and no more
/// than 50 times; the first is a warm-up unless there is no time for more. To be called once in a process.
StepCost measure_steps(const std::function<std::function<void()>()>& begin, double budget);

}  // namespace fastmax::app
