// What the suite measures with: two ways to compute a shape against each other or against torch.mm, in rounds, and the
// figures that take more than that.
#pragma once
#include <ATen/Parallel.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>

#include "app/bench_contender.h"
#include "app/bench_contest.h"
#include "app/bench_suite.h"
#include "app/error.h"
#include "app/table.h"

namespace fastmax::app {

inline constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

/// What a row's measurement gives.
struct Finding {
  double value = kNone, gemm_rate = kNone;
  std::string note = {}, also = {}, not_run = {};

  /// Keeps the worse of two.
  void join(const Finding& other, bool higher_is_better) {
    if (std::isnan(value) || (higher_is_better ? other.value < value : other.value > value))
      *this = other;
  }
};

/// One way to compute one shape.
struct Way {
  std::string method = "factorised";
  int p = 2;
  BenchShape shape = {};
};

inline std::string mask(bool causal) { return causal ? "causal" : "unmasked"; }
inline std::string place(const BenchShape& s) {
  return text("D=", s.D, " N=", short_length(s.N), " BH=", s.B * s.H, " ", mask(s.causal));
}

/// The points at which Fastmax and torch's softmax attention meet.
struct SdpaGrid {
  Finding worst;
  double log_sum = 0;  // of the speed-ups up to N = 1024
  int count = 0;
};

/// Measures in rounds, on a number of threads.
class Lab {
 public:
  explicit Lab(const SuiteOptions& options)
      : quick(options.quick), threads(options.threads), clock_(options.threads, at::kFloat) {
    at::set_num_threads(threads);
    clock_.gemm_rate();  // the first one sets up threads and code
  }

  const bool quick;
  const int threads;

  BenchShape shape(std::int64_t N, std::int64_t D, bool causal = false,
                   bool backward = false) const {
    return {.H = threads, .N = N, .D = D, .causal = causal, .backward = backward};
  }
  Contest contest() { return contest(clock_); }
  Contest contest(BenchClock& clock) const { return {clock, quick ? 7 : 21, quick ? 0.5 : 3}; }
  BenchClock wall_clock() const { return {2, at::kFloat}; }

  static Contender contender(const Way& way) {
    const BenchInputs in = bench_inputs(way.shape);
    if (way.method == "sdpa") return softmax_contender(way.method, way.shape, in);
    return fastmax_contender(way.method, way.p, way.shape, in, std::make_shared<BenchOutputs>());
  }

  /// useful_flops a second over torch.mm's.
  Finding of_gemm(const Way& way) {
    Contest c = contest();
    const int a = c.enter(contender(way));
    c.run();
    return {.value = c.of_gemm(a), .gemm_rate = c.gemm_rate(), .note = place(way.shape)};
  }
  /// Time of a over time of b.
  Finding ratio(const Way& a, const Way& b) {
    Contest c = contest();
    const int i = c.enter(contender(a)), j = c.enter(contender(b));
    c.run();
    return {.value = c.ratio(i, j), .gemm_rate = c.gemm_rate(), .note = place(a.shape)};
  }
  /// Time with the change over time without.
  template <class Change>
  Finding cost(const Way& plain, const Change& change) {
    Way changed = plain;
    change(changed);
    return ratio(changed, plain);
  }

  const SdpaGrid& sdpa_grid() {
    if (!sdpa_) sdpa_ = measure_sdpa_grid();
    return *sdpa_;
  }

 private:
  SdpaGrid measure_sdpa_grid();
  void meet_sdpa(BenchShape shape, SdpaGrid& grid);

  BenchClock clock_;
  std::optional<SdpaGrid> sdpa_;
};

/// The planner's choice over the better form, time, around where they cost the same, and where that is.
Finding planner(Lab& lab);

/// One thread's time over two threads', by the wall clock: the worst over masks and passes.
Finding two_threads(Lab& lab, std::int64_t heads);

/// Workspace of a thread beyond its states, one for forward and two for backward, in MiB.
Finding workspace(Lab& lab, bool backward);

/// Bytes of the state read and written a second by one decode step, over those of a copy of the same size.
Finding decode_step(Lab& lab);

}  // namespace fastmax::app
