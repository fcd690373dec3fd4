// A few training batches that stand for all of them: what a step costs depends on how long its sequences are.
#pragma once
#include <cstdint>
#include <vector>

#include "app/task.h"

namespace fastmax::app {

struct SampledBatches {
  std::vector<std::int64_t> steps;  ///< whose batches they are, the shortest first
  std::vector<Batch> batches;
  double seconds = 0;  ///< that making a batch takes, by the median
};

/// Of the first 50 training steps, in the order of their lengths, the middle one of each third: the mean of what these cost is about
/// the mean of all. One step where all are equally long.
SampledBatches sample_batches(Task& task);

}  // namespace fastmax::app
