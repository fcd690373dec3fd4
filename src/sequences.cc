// Packed sequences: one call each on a part of the views, several at a time where there are enough.
#include <algorithm>
#include <cmath>

#include "src/check.h"
#include "src/cpu/layout.h"
#include "src/cpu/team.h"
#include "src/denominator.h"
#include "src/pool.h"
#include "src/run.h"

namespace fastmax {
namespace {

template <class View>
View part(View x, std::span<const std::int32_t> cu, std::size_t i) {
  x.data += cu[i] * x.stride_n;
  x.N = cu[i + 1] - cu[i];
  return x;
}
template <class T>
BhnView<T> part(BhnView<T> x, std::span<const std::int32_t> cu, std::size_t i) {
  if (x.data) x.data += cu[i];
  x.N = cu[i + 1] - cu[i];
  return x;
}
template <class T>
BnView<T> part(BnView<T> x, std::span<const std::int32_t> cu, std::size_t i) {
  if (x.data) x.data += cu[i];
  x.N = cu[i + 1] - cu[i];
  return x;
}
template <class T>
StateView<T> one(StateView<T> x, std::size_t i) {
  return {x.head(static_cast<std::int64_t>(i), 0), x.data ? 1 : 0, x.H, x.F, x.E};
}

template <class T>
ForwardArgs<T> part(const ForwardArgs<T>& a, const Sequences& s, std::size_t i) {
  return {.q = part(a.q, s.cu_q, i),
          .k = part(a.k, s.cu_k, i),
          .v = part(a.v, s.cu_k, i),
          .key_weight = part(a.key_weight, s.cu_k, i),
          .o = part(a.o, s.cu_q, i),
          .g = part(a.g, s.cu_q, i),
          .initial_state = one(a.initial_state, i),
          .final_state = one(a.final_state, i)};
}
template <class T>
BackwardArgs<T> part(const BackwardArgs<T>& a, const Sequences& s, std::size_t i) {
  return {.q = part(a.q, s.cu_q, i),
          .k = part(a.k, s.cu_k, i),
          .v = part(a.v, s.cu_k, i),
          .key_weight = part(a.key_weight, s.cu_k, i),
          .o = part(a.o, s.cu_q, i),
          .g = part(a.g, s.cu_q, i),
          .d_o = part(a.d_o, s.cu_q, i),
          .dq = part(a.dq, s.cu_q, i),
          .dk = part(a.dk, s.cu_k, i),
          .dv = part(a.dv, s.cu_k, i),
          .initial_state = one(a.initial_state, i),
          .d_final_state = one(a.d_final_state, i),
          .d_initial_state = one(a.d_initial_state, i)};
}

/// How the sequences share the threads and the workspace, and the plan of the longest of them.
struct Sharing {
  std::size_t workers = 1;  ///< sequences at a time
  int threads = 1;          ///< on each
  std::size_t reports = 0;  ///< bytes at the start of the workspace
  std::size_t each = 0;     ///< bytes a worker, behind them
  Plan longest = {.form = Form::kAuto};

  std::size_t bytes() const { return reports + workers * each; }
  Plan plan() const { return {longest.form, longest.chunk, bytes(), longest.why}; }
};

template <class Args>
Sharing share(const Args& args, const Sequences& sequences, const Options& options, int threads) {
  constexpr std::size_t kLine = 64;  // of cache
  threads = threads_of(threads);
  const std::size_t count = sequences.cu_q.size() - 1;
  Sharing sharing{.reports = cpu::round_up(count * sizeof(Report), kLine)};
  if (threads == 1 || count >= 4 * static_cast<std::size_t>(threads)) {  // enough for a thread each
    sharing.workers = static_cast<std::size_t>(threads);
  } else {
    sharing.threads = threads;
  }
  std::int64_t tokens = -1;
  for (std::size_t i = 0; i < count; ++i) {
    const Args one = part(args, sequences, i);
    const Plan plan = run_plan(one, options, sharing.threads);
    sharing.each = std::max(sharing.each, cpu::round_up(plan.workspace_bytes, kLine));
    if (one.q.N + one.k.N > tokens) {
      tokens = one.q.N + one.k.N;
      sharing.longest = plan;
    }
  }
  return sharing;
}

/// body(i, execution, taken) for every sequence, in a workspace that holds all that they need.
template <class Body>
void for_each_sequence(std::size_t count, const Sharing& sharing, const Execution& execution,
                       const Body& body) {
  const Execution alone = serial(execution.workspace);
  const Execution& each = sharing.threads == 1 ? alone : execution;
  team_of(execution, static_cast<int>(sharing.workers))
      .for_each(count, [&](std::size_t worker, std::size_t i) {
        body(i, each, sharing.reports + worker * sharing.each);
      });
}

}  // namespace

template <class T>
Report forward(const ForwardArgs<T>& args, const Sequences& sequences, const Options& options,
               const Execution& execution) {
  check(args, sequences, options, execution.threads);
  const std::size_t count = sequences.cu_q.size() - 1;
  const Sharing sharing = share(args, sequences, options, execution.threads);
  const WithWorkspace with(execution);
  auto* const reports = reinterpret_cast<Report*>(with.reserve(sharing.bytes()));
  Options clamped = options;
  clamped.floor = Floor::kClamp;  // an error waits until every sequence is done
  for_each_sequence(count, sharing, with.execution(),
                    [&](std::size_t i, const Execution& each, std::size_t taken) {
                      reports[i] = run_forward(part(args, sequences, i), clamped, each,
                                               {.first_batch = i, .taken = taken});
                    });
  Report all;
  for (const Report& report : std::span(reports, count)) {
    if (report.form == Form::kAuto) continue;
    all.form = report.form;
    all.smallest_denominator = std::fmin(all.smallest_denominator, report.smallest_denominator);
  }
  require_denominators<Compute<T>>(all.smallest_denominator, options, args.q.D);
  return all;
}

template <class T>
void backward(const BackwardArgs<T>& args, const Sequences& sequences, const Options& options,
              const Execution& execution) {
  check(args, sequences, options, execution.threads);
  const Sharing sharing = share(args, sequences, options, execution.threads);
  const WithWorkspace with(execution);
  with.reserve(sharing.bytes());
  for_each_sequence(sequences.cu_q.size() - 1, sharing, with.execution(),
                    [&](std::size_t i, const Execution& each, std::size_t taken) {
                      run_backward(part(args, sequences, i), options, each,
                                   {.first_batch = i, .taken = taken});
                    });
}

template <class T>
Plan plan(const ForwardArgs<T>& args, const Sequences& sequences, const Options& options,
          int threads) {
  check(args, sequences, options, threads);
  return share(args, sequences, options, threads).plan();
}
template <class T>
Plan plan(const BackwardArgs<T>& args, const Sequences& sequences, const Options& options,
          int threads) {
  check(args, sequences, options, threads);
  return share(args, sequences, options, threads).plan();
}

#define FASTMAX_INSTANTIATE_SEQUENCES(T)                                            \
  template Report forward(const ForwardArgs<T>&, const Sequences&, const Options&,  \
                          const Execution&);                                        \
  template void backward(const BackwardArgs<T>&, const Sequences&, const Options&,  \
                         const Execution&);                                         \
  template Plan plan(const ForwardArgs<T>&, const Sequences&, const Options&, int); \
  template Plan plan(const BackwardArgs<T>&, const Sequences&, const Options&, int);
FASTMAX_INSTANTIATE_SEQUENCES(float)
FASTMAX_INSTANTIATE_SEQUENCES(double)
FASTMAX_INSTANTIATE_SEQUENCES(BFloat16)
FASTMAX_INSTANTIATE_SEQUENCES(Float16)

}  // namespace fastmax
