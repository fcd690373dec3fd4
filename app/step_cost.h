// What a step of training costs: its time, and the memory that it and what it trains take.
#pragma once
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <vector>

namespace fastmax::app {

struct StepCost {
  std::int64_t steps = 0;              ///< that were timed
  std::vector<double> seconds;         ///< of each batch: the median of its steps
  std::int64_t peak_memory_bytes = 0;  ///< above what the process held before

  double steps_per_second() const;      ///< by the mean over the batches
  nlohmann::ordered_json json() const;  ///< {"steps", "steps_per_second", "peak_memory_bytes"}
};

/// `begin` makes what is trained and returns its step, which takes the number of a batch below `batches`. The last batch, which
/// should be the largest, is the warm-up and the one whose memory counts. Then all of them are timed in turn: once however
/// long that takes, and again while `budget` seconds are likely to suffice, up to 50 steps. To be called once in a process.
StepCost measure_steps(const std::function<std::function<void(std::size_t)>()>& begin,
                       std::size_t batches, double budget);

}  // namespace fastmax::app
