#include "src/call.h"
#include "src/check.h"
#include "src/pool.h"

namespace fastmax {

template <class T>
void attention_weights(const WeightsArgs<T>& args, const Options& options,
                       const Execution& execution) {
  check(args, options);
  if (args.a.B == 0 || args.a.H == 0 || args.a.N == 0 || args.a.D == 0) return;
  auto call =
      make_call<T, cpu::WeightsCall>(args, options, {.chunk = static_cast<int>(cpu::kPanel)}, 0);
  const int threads = execution.threads > 0 ? execution.threads : available_threads();
  const std::size_t scratch_bytes = call_scratch_bytes<T>(args, options);
  Workspace own;
  std::byte* memory = (execution.workspace ? *execution.workspace : own)
                          .reserve(scratch_bytes + cpu::attention_weights_workspace(
                                                       call, static_cast<std::size_t>(threads)))
                          .data();
  cpu::Arena arena(memory);
  prepare(CallScratch<T>(arena, args, options), options, call);
  static const ParallelRun pool = pool_run;
  cpu::attention_weights(call, cpu::Team(threads, execution.run ? &execution.run : &pool),
                         memory + scratch_bytes);
}

template void attention_weights(const WeightsArgs<float>&, const Options&, const Execution&);
template void attention_weights(const WeightsArgs<double>&, const Options&, const Execution&);

}  // namespace fastmax
