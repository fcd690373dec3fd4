#include "app/prefetch.h"

namespace fastmax::app {

Batch Prefetch::batch(std::int64_t step) {
  Batch batch;
  if (next_.valid()) batch = next_.get();
  if (coming_ != step) batch = task_.train_batch(step);
  coming_ = step + 1;
  if (coming_ < steps_) {
    next_ = std::async(std::launch::async, [this, step] { return task_.train_batch(step + 1); });
  }
  return batch;
}

}  // namespace fastmax::app
