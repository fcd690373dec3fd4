// What the kernel benchmarks share: inputs, the check against the reference, the rate.
#pragma once
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "fastmax/fastmax.h"
#include "src/plan.h"
#include "src/reference.h"

namespace fastmax::bench {

inline constexpr std::int64_t kHeads = 2;
inline constexpr std::int64_t kCheckedTokens = 512;  // the reference is O(N^2)
inline constexpr double kLargestError =
    1e-3;  // of the largest true entry; a wrong kernel is off by its size

/// A dense [1, kHeads, N, D] array.
struct Array {
  std::int64_t N, D;
  std::vector<float> data;

  Array(std::int64_t N, std::int64_t D, float fill = std::numeric_limits<float>::quiet_NaN())
      : N(N), D(D), data(static_cast<std::size_t>(kHeads * N * D), fill) {}
  template <class Rng>
  static Array normal(std::int64_t N, std::int64_t D, Rng& rng) {
    Array a(N, D);
    std::normal_distribution<float> dist;
    std::generate(a.data.begin(), a.data.end(), [&] { return dist(rng); });
    return a;
  }
  BhndView<float> view() { return contiguous(data.data(), 1, kHeads, N, D); }
  BhnView<float> denominators() { return contiguous(data.data(), 1, kHeads, N); }
};

/// Everything a call reads and writes; outputs start as NaN.
struct Call {
  Array q, k, v, d_o, o, g, dq, dk, dv;

  Call(std::int64_t N, std::int64_t D, std::mt19937 rng = std::mt19937(42))
      : q(Array::normal(N, D, rng)),
        k(Array::normal(N, D, rng)),
        v(Array::normal(N, D, rng)),
        d_o(Array::normal(N, D, rng)),
        o(N, D),
        g(N, 1),
        dq(N, D),
        dk(N, D),
        dv(N, D) {}

  ForwardArgs<float> forward_args() {
    return {.q = q.view(), .k = k.view(), .v = v.view(), .o = o.view(), .g = g.denominators()};
  }
  BackwardArgs<float> backward_args() {
    return {.q = q.view(),
            .k = k.view(),
            .v = v.view(),
            .o = o.view(),
            .g = g.denominators(),
            .d_o = d_o.view(),
            .dq = dq.view(),
            .dk = dk.view(),
            .dv = dv.view()};
  }
};

inline bool close(const Array& got, const Array& truth) {
  float size = 0, error = 0;
  for (std::size_t i = 0; i < truth.data.size(); ++i) {
    const float difference = std::abs(got.data[i] - truth.data[i]);
    if (std::isnan(difference)) return false;
    error = std::max(error, difference);
    size = std::max(size, std::abs(truth.data[i]));
  }
  return error <= kLargestError * size;
}

/// The kernels that will be timed, at a length the reference can afford.
inline bool answers_are_right(std::int64_t N, std::int64_t D, const Options& options) {
  Call fast(std::min(N, kCheckedTokens), D), truth = fast;
  reference::forward<double>(truth.forward_args(), options);
  reference::backward<double>(truth.backward_args(), options);
  forward(fast.forward_args(), options, serial());
  backward(fast.backward_args(), options, serial());
  return close(fast.o, truth.o) && close(fast.dq, truth.dq) && close(fast.dk, truth.dk) &&
         close(fast.dv, truth.dv);
}

/// Factorised 4 N F (E + 1), direct 2 N M (D + E), halved when causal; backward 2.5 times as much.
inline double useful_flops(std::int64_t N, std::int64_t D, const Options& options, bool backward) {
  const double n = static_cast<double>(N), d = static_cast<double>(D);
  const double forward = options.form == Form::kFactorised
                             ? 4 * n * packed_features(D, options.p) * (d + 1)
                             : 4 * n * n * d / (options.causal ? 2 : 1);
  return kHeads * forward * (backward ? 2.5 : 1);
}

inline Options options_of(const benchmark::State& state, Form form) {
  Options options;
  options.p = static_cast<int>(state.range(0));
  options.causal = state.range(1) != 0;
  options.form = form;
  return options;
}

inline void report(benchmark::State& state, double flops, const Plan& plan) {
  state.SetLabel(std::string(plan.why) + ", chunk " + std::to_string(plan.chunk));
  state.counters["FLOP/s"] =
      benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
}

/// Lengths on both sides of where a form begins to pay.
inline void direct_shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"p", "causal", "N", "D"})->ArgsProduct({{1, 2}, {0, 1}, {256, 1024}, {32, 64, 128}});
}
inline void factorised_shapes(benchmark::internal::Benchmark* b, int p) {
  b->ArgNames({"p", "causal", "N", "D"})->ArgsProduct({{p}, {0, 1}, {1024, 8192}, {32, 64, 128}});
}

}  // namespace fastmax::bench
