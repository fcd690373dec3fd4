#include "src/call.h"
#include "src/check.h"
#include "src/denominator.h"
#include "src/pool.h"
#include "src/run.h"

namespace fastmax {
namespace {

template <class T>
cpu::WeightsCall<T> call_of(const WeightsArgs<T>& args, const Options& options) {
  return make_call<T, cpu::WeightsCall>(args, options, {.chunk = static_cast<int>(cpu::kPanel)}, 0);
}

template <class T>
bool empty(const WeightsArgs<T>& args) {
  return args.a.B == 0 || args.a.H == 0 || args.a.N == 0 || args.a.D == 0;
}

}  // namespace

template <class T>
void attention_weights(const WeightsArgs<T>& args, const Options& options,
                       const Execution& execution) {
  check(args, options, execution.threads);
  if (empty(args)) return;
  auto call = call_of(args, options);
  const int threads = threads_of(execution.threads);
  const std::size_t scratch_bytes = call_scratch_bytes<T>(args, options);
  const WithWorkspace with(execution);
  std::byte* memory = with.reserve(
      scratch_bytes + cpu::attention_weights_workspace(call, static_cast<std::size_t>(threads)));
  cpu::Arena arena(memory);
  prepare(CallScratch<T>(arena, args, options), options, call);
  cpu::attention_weights(call, team_of(execution, threads), memory + scratch_bytes);
  if (call.floors) {
    const double smallest = smallest_of(call.ratio, args.a.B * args.a.H * args.a.N);
    require_denominators<T>(smallest, options, args.q.D);
  }
}

template <class T>
Plan plan(const WeightsArgs<T>& args, const Options& options, int threads) {
  check(args, options, threads);
  Plan plan{.why = "rows of scores, whatever their number"};
  if (drops_features(options.dropout)) {
    plan.form = Form::kFactorised;
    plan.why = "dropout of features needs features";
  }
  if (empty(args)) return plan;
  plan.workspace_bytes = call_scratch_bytes<T>(args, options) +
                         cpu::attention_weights_workspace(
                             call_of(args, options), static_cast<std::size_t>(threads_of(threads)));
  return plan;
}

template void attention_weights(const WeightsArgs<float>&, const Options&, const Execution&);
template void attention_weights(const WeightsArgs<double>&, const Options&, const Execution&);
template Plan plan(const WeightsArgs<float>&, const Options&, int);
template Plan plan(const WeightsArgs<double>&, const Options&, int);

}  // namespace fastmax
