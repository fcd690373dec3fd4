// A token of decoding: the time of one token, and the rate at which its state goes through memory.
#include "bench/kernels.h"
#include "bench/support.h"

namespace fastmax::bench {
namespace {

constexpr std::int64_t kPast = 100;  // tokens in the state before the one that is timed

/// One token, and the state of those before it.
struct Token {
  Call call;
  std::vector<float> state;

  Token(std::int64_t D, const Options& options) : call(1, D) {
    const std::int64_t F = state_features(options.p, D);
    state.resize(static_cast<std::size_t>(kHeads * F * (D + 1)));
    Call past(kPast, D);
    auto args = past.forward_args();
    args.q.N = args.o.N = args.g.N = 0;
    args.final_state = view(D, options);
    forward(args, options, serial());
  }
  StateView<float> view(std::int64_t D, const Options& options) {
    return {state.data(), 1, kHeads, state_features(options.p, D), D};
  }
  StepArgs<float> args(std::int64_t D, const Options& options) {
    const auto all = call.forward_args();
    return {.q = all.q, .k = all.k, .v = all.v, .state = view(D, options), .o = all.o};
  }
};

bool answer_is_right(std::int64_t D, const Options& options) {
  Token fast(D, options), truth = fast;
  auto args = truth.call.forward_args();
  args.initial_state = truth.view(D, options);
  reference::forward<double>(args, options);
  step(fast.args(D, options), options, serial());
  return close(fast.call.o, truth.call.o);
}

}  // namespace

void step(benchmark::State& state) {
  const std::int64_t D = state.range(1);
  const Options options{.p = static_cast<int>(state.range(0))};
  if (!answer_is_right(D, options)) return state.SkipWithError("wrong result: not timing it");
  Token token(D, options);
  Workspace workspace;
  const auto args = token.args(D, options);
  for (auto _ : state) {
    fastmax::step(args, options, serial(&workspace));
    benchmark::ClobberMemory();
  }
  const auto bytes = static_cast<std::int64_t>(2 * token.state.size() * sizeof(float));
  state.SetBytesProcessed(state.iterations() * bytes);
}
void step_shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"p", "D"})->ArgsProduct({{1, 2}, {32, 64, 128}});
}

}  // namespace fastmax::bench
