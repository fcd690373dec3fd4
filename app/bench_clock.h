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
      : clock_(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC),
        a_(at::rand({kSize, kSize}, dtype)),
        b_(at::rand({kSize, kSize}, dtype)),
        c_(at::empty_like(a_)) {}

  /// Flops a second of one torch.mm of 1024^3, now.
  double gemm_rate() {
    const double start = now();
    at::mm_out(c_, a_, b_);
    return 2.0 * kSize * kSize * kSize / (now() - start);
  }

  /// Seconds of one call, from `count` of them.
  double time(const std::function<void()>& call, int count) const {
    const double start = now();
    for (int i = 0; i < count; ++i) call();
    return (now() - start) / count;
  }

 private:
  static constexpr std::int64_t kSize = 1024;

  double now() const {
    timespec t{};
    clock_gettime(clock_, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  }

  clockid_t clock_;
  at::Tensor a_, b_, c_;
};

}  // namespace fastmax::app
