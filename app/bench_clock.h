// Time, and the speed of torch.mm at that time.
#pragma once
#include <ATen/ATen.h>
#include <time.h>

#include <functional>

namespace fastmax::app {

/// The CPU time of this thread where it does all the work, which neighbours on a shared machine
/// disturb least; else the wall clock.
class BenchClock {
 public:
  BenchClock(int threads, at::ScalarType dtype)
      : clock_(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC), size_(128) {
    // Where torch has no kernel for the type, 1024^3 take seconds; its loop is as fast at any size.
    for (const std::int64_t size : {128, 256, 1024}) {
      const double expected = size_ == size ? 0 : cubed(size) / gemm_rate();
      if (expected > kLongest) break;
      size_ = size;
      a_ = at::rand({size, size}, dtype);
      b_ = at::rand({size, size}, dtype);
      c_ = at::empty_like(a_);
      gemm_rate();  // the first one of a size sets up
    }
  }

  /// Flops a second of one torch.mm, now: of 1024^3, or the largest that takes no longer than a fifth of a second.
  double gemm_rate() {
    const double start = now();
    at::mm_out(c_, a_, b_);
    return cubed(size_) / (now() - start);
  }

  /// Seconds of one call, from `count` of them.
  double time(const std::function<void()>& call, int count) const {
    const double start = now();
    for (int i = 0; i < count; ++i) call();
    return (now() - start) / count;
  }

 private:
  static constexpr double kLongest = 0.2;  // seconds

  static double cubed(std::int64_t size) {
    const auto n = static_cast<double>(size);
    return 2 * n * n * n;
  }
  double now() const {
    timespec t{};
    clock_gettime(clock_, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  }

  clockid_t clock_;
  std::int64_t size_;
  at::Tensor a_, b_, c_;
};

}  // namespace fastmax::app
