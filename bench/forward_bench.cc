// Forward kernels, one thread, two heads.
#include "bench/support.h"

namespace fastmax::bench {
namespace {

template <Form kForm>
void forward_pass(benchmark::State& state) {
  const Options options = options_of(state, kForm);
  const std::int64_t N = state.range(2), D = state.range(3);
  if (!answers_are_right(N, D, options)) return state.SkipWithError("wrong result: not timing it");
  Call call(N, D);
  Workspace workspace;
  const auto args = call.forward_args();
  for (auto _ : state) {
    forward(args, options, serial(&workspace));
    benchmark::ClobberMemory();
  }
  report(state, useful_flops(N, D, options, false), plan(args, options, 1));
}

BENCHMARK_TEMPLATE(forward_pass, Form::kDirect)->Name("direct_forward")->Apply(direct_shapes);
BENCHMARK_TEMPLATE(forward_pass, Form::kFactorised)
    ->Name("factorised_forward")
    ->Apply(factorised_shapes);

}  // namespace
}  // namespace fastmax::bench
