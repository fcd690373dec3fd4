// Backward: the direct form, and the factorised one of order 1 (linear) and of others.
#include "bench/kernels.h"
#include "bench/support.h"

namespace fastmax::bench {
namespace {

void backward_pass(benchmark::State& state, Form form) {
  const Options options = options_of(state, form);
  const std::int64_t N = state.range(2), D = state.range(3);
  if (!answers_are_right(N, D, options)) return state.SkipWithError("wrong result: not timing it");
  Call call(N, D);
  Workspace workspace;
  forward(call.forward_args(), options, serial(&workspace));
  const auto args = call.backward_args();
  for (auto _ : state) {
    backward(args, options, serial(&workspace));
    benchmark::ClobberMemory();
  }
  report(state, useful_flops(N, D, options, true), plan(args, options, 1));
}

}  // namespace

void direct_backward(benchmark::State& state) { backward_pass(state, Form::kDirect); }
void factorised_backward(benchmark::State& state) { backward_pass(state, Form::kFactorised); }
void linear_backward(benchmark::State& state) { backward_pass(state, Form::kFactorised); }

void direct_backward_shapes(benchmark::internal::Benchmark* b) { direct_shapes(b); }
void factorised_backward_shapes(benchmark::internal::Benchmark* b) { factorised_shapes(b, 2); }
void linear_backward_shapes(benchmark::internal::Benchmark* b) { factorised_shapes(b, 1); }

}  // namespace fastmax::bench
