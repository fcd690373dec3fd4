// The next batch is made while the model learns from this one.
#pragma once
#include <cstdint>
#include <future>

#include "app/task.h"

namespace fastmax::app {

class Prefetch {
 public:
  /// Batches of steps 0 .. steps - 1 of a task that outlives this.
  Prefetch(Task& task, std::int64_t steps) : task_(task), steps_(steps) {}

  /// The batch of a step; the next one's is begun. Only one thread at a time makes batches.
  Batch batch(std::int64_t step);

 private:
  Task& task_;
  std::int64_t steps_, coming_ = -1;  // the step whose batch is being made
  std::future<Batch> next_;
};

}  // namespace fastmax::app
