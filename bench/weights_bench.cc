// All rows of the attention matrix.
#include "bench/kernels.h"
#include "bench/support.h"

namespace fastmax::bench {
namespace {

WeightsArgs<float> weights_args(Call& call, Array& a) {
  return {.q = call.q.view(), .k = call.k.view(), .a = a.view()};
}

bool answer_is_right(std::int64_t N, std::int64_t D, const Options& options) {
  const std::int64_t n = std::min(N, kCheckedTokens);
  Call call(n, D);
  Array fast(n, n), truth(n, n);
  attention_weights(weights_args(call, fast), options, serial());
  for (std::int64_t h = 0; h < kHeads; ++h) {
    const auto rows = reference::attention_weights<double>(call.forward_args(), options, 0, h);
    for (std::int64_t i = 0; i < n; ++i)
      std::copy(rows[i].begin(), rows[i].end(), truth.view().head(0, h)[i].begin());
  }
  return close(fast, truth);
}

}  // namespace

void attention_weights(benchmark::State& state) {
  const Options options = options_of(state, Form::kAuto);
  const std::int64_t N = state.range(2), D = state.range(3);
  if (!answer_is_right(N, D, options)) return state.SkipWithError("wrong result: not timing it");
  Call call(N, D);
  Array a(N, N);
  Workspace workspace;
  const auto args = weights_args(call, a);
  for (auto _ : state) {
    fastmax::attention_weights(args, options, serial(&workspace));
    benchmark::ClobberMemory();
  }
  const auto n = static_cast<double>(N);
  state.counters["FLOP/s"] = benchmark::Counter(2.0 * kHeads * n * n * static_cast<double>(D),
                                                benchmark::Counter::kIsIterationInvariantRate);
}
void attention_weights_shapes(benchmark::internal::Benchmark* b) { direct_shapes(b); }

}  // namespace fastmax::bench
