#include "app/bench_contest.h"

#include <algorithm>
#include <cmath>

#include "app/table.h"

namespace fastmax::app {
namespace {

// Seconds. Shorter calls are repeated inside one reading, after one that is not timed: it brings back the inputs that
// the other contestants drove out of the caches.
constexpr double kShortest = 4e-3;

}  // namespace

double allowed_error(at::ScalarType dtype) {
  return dtype == at::kFloat    ? 1e-3
         : dtype == at::kDouble ? 1e-9
         : dtype == at::kHalf   ? 1e-2
                                : 5e-2;
}

double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  const std::size_t half = x.size() / 2;
  return x.size() % 2 ? x[half] : (x[half - 1] + x[half]) / 2;
}

int Contest::enter(const Contender& c) {
  const int index = enter([c] { c.call(); }, c.useful_flops);  // which keeps its tensors
  if (c.order == 0) return index;                              // torch's own
  const SampledError error = compare(fastmax_truth(c), *c.outputs);
  if (!(error.relative <= allowed_error(c.shape.dtype)))
    throw WrongAnswer(text("wrong answer, not timed: ", c.method, " p=", c.order, " D=", c.shape.D,
                           " N=", c.shape.N, " is off by ", short_number(error.relative),
                           " of its size, allowed ", allowed_error(c.shape.dtype)));
  return index;
}

int Contest::enter(const std::function<void()>& call, double flops) {
  call();  // memory and code are there before the first reading
  const double once = clock_.time(call, 1);
  const int count = static_cast<int>(std::clamp(std::ceil(kShortest / once), 1.0, 1e4));
  calls_.push_back({call, flops, count});
  return static_cast<int>(calls_.size()) - 1;
}

void Contest::run() {
  double spent = 0;
  for (int round = 0; round < rounds_ && (round < 2 || spent < seconds_); ++round) {
    gemm_.push_back(clock_.gemm_rate());
    for (Call& c : calls_) {
      if (c.count > 1) c.call();
      c.seconds.push_back(clock_.time(c.call, c.count));
      spent += c.seconds.back() * c.count;
    }
  }
}

double Contest::ratio(const std::vector<int>& a, const std::vector<int>& b) const {
  const auto sum = [&](const std::vector<int>& calls, std::size_t round) {
    double seconds = 0;
    for (const int i : calls) seconds += calls_[static_cast<std::size_t>(i)].seconds[round];
    return seconds;
  };
  std::vector<double> ratios;
  for (std::size_t round = 0; round < gemm_.size(); ++round)
    ratios.push_back(sum(a, round) / sum(b, round));
  return median(ratios);
}

double Contest::of_gemm(int a) const {
  const Call& c = calls_[static_cast<std::size_t>(a)];
  std::vector<double> fractions;
  for (std::size_t round = 0; round < gemm_.size(); ++round)
    fractions.push_back(c.flops / c.seconds[round] / gemm_[round]);
  return median(fractions);
}

}  // namespace fastmax::app
