// Calls that are timed against each other: in rounds, taking turns, each round beside one torch.mm, so that their
// ratios mean something on a machine that others use too. A call whose answer is wrong is not timed.
#pragma once
#include <functional>
#include <vector>

#include "app/bench_clock.h"
#include "app/bench_contender.h"
#include "app/error.h"

namespace fastmax::app {

/// An answer is off by far more than rounding.
struct WrongAnswer : WorkError {
  using WorkError::WorkError;
};

/// Of the size of the answer: a correct kernel is a hundred times better, a wrong one is off by its size.
double allowed_error(at::ScalarType dtype);

double median(std::vector<double> x);

class Contest {
 public:
  /// At least two rounds, and then until `seconds` are spent.
  Contest(BenchClock& clock, int rounds, double seconds)
      : clock_(clock), rounds_(rounds), seconds_(seconds) {}

  /// Computes once. Throws WrongAnswer.
  int enter(const Contender& contender);
  int enter(const std::function<void()>& call, double flops = 0);

  void run();

  /// Medians over the rounds: of a's time over b's, and of sums of times.
  double ratio(int a, int b) const { return ratio(std::vector{a}, std::vector{b}); }
  double ratio(const std::vector<int>& a, const std::vector<int>& b) const;
  double of_gemm(int a) const;
  double seconds(int a) const { return median(calls_[static_cast<std::size_t>(a)].seconds); }
  double gemm_rate() const { return median(gemm_); }

 private:
  struct Call {
    std::function<void()> call;
    double flops = 0;
    int count = 1;  // of calls a reading
    std::vector<double> seconds = {};
  };

  BenchClock& clock_;
  int rounds_;
  double seconds_;
  std::vector<Call> calls_;
  std::vector<double> gemm_;
};

}  // namespace fastmax::app
