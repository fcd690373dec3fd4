// One thread while it lives: where work is tiny, more only wait for each other.
#pragma once
#include <ATen/Parallel.h>

namespace fastmax::app {

class OneThread {
 public:
  OneThread() { at::set_num_threads(1); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;
  ~OneThread() { at::set_num_threads(before_); }

 private:
  const int before_ = at::get_num_threads();
};

}  // namespace fastmax::app
