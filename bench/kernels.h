// A benchmark a kernel: for each name of the list, a function that times it and one that says at which shapes. What is
// missing does not link.
#pragma once
#include <benchmark/benchmark.h>

#include "src/cpu/kernels.h"

namespace fastmax::bench {

#define FASTMAX_DECLARE_BENCHMARK(name, Call) \
  void name(benchmark::State& state);         \
  void name##_shapes(benchmark::internal::Benchmark* benchmark);
FASTMAX_CPU_KERNELS(FASTMAX_DECLARE_BENCHMARK)
#undef FASTMAX_DECLARE_BENCHMARK

}  // namespace fastmax::bench
