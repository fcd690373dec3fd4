// Packed sequences: one call each on a part of the views, several at a time where there are enough.
#include <limits>
#include <vector>

#include "src/check.h"
#include "src/cpu/team.h"
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

/// body(i, execution) for every sequence: whole sequences a thread if there are enough, else all threads on each.
template <class Body>
void for_each_sequence(std::size_t count, const Execution& execution, const Body& body) {
  const int threads = execution.threads > 0 ? execution.threads : available_threads();
  if (threads == 1 || count < 4 * static_cast<std::size_t>(threads)) {
    Workspace own;
    Execution each = execution;
    if (!each.workspace) each.workspace = &own;
    for (std::size_t i = 0; i < count; ++i) body(i, each);
    return;
  }
  static const ParallelRun pool = pool_run;
  std::vector<Workspace> workspaces(static_cast<std::size_t>(threads));
  cpu::Team(threads, execution.run ? &execution.run : &pool)
      .for_each(count,
                [&](std::size_t worker, std::size_t i) { body(i, serial(&workspaces[worker])); });
}

}  // namespace

template <class T>
Report forward(const ForwardArgs<T>& args, const Sequences& sequences, const Options& options,
               const Execution& execution) {
  check(args, sequences, options);
  const std::size_t count = sequences.cu_q.size() - 1;
  std::vector<Report> reports(count);
  Options clamped = options;
  clamped.floor = Floor::kClamp;  // an error waits until every sequence is done
  for_each_sequence(count, execution, [&](std::size_t i, const Execution& each) {
    reports[i] = run_forward(part(args, sequences, i), clamped, each, {.first_batch = i});
  });
  Report all{.form = Form::kAuto, .smallest_denominator = std::numeric_limits<double>::quiet_NaN()};
  for (const Report& report : reports) {
    if (report.form == Form::kAuto) continue;
    all.form = report.form;
    if (!(all.smallest_denominator <= report.smallest_denominator)) {
      all.smallest_denominator = report.smallest_denominator;
    }
  }
  require_denominators<Compute<T>>(all.smallest_denominator, options);
  return all;
}

template <class T>
void backward(const BackwardArgs<T>& args, const Sequences& sequences, const Options& options,
              const Execution& execution) {
  check(args, sequences, options);
  for_each_sequence(sequences.cu_q.size() - 1, execution,
                    [&](std::size_t i, const Execution& each) {
                      run_backward(part(args, sequences, i), options, each, {.first_batch = i});
                    });
}

#define FASTMAX_INSTANTIATE_SEQUENCES(T)                                           \
  template Report forward(const ForwardArgs<T>&, const Sequences&, const Options&, \
                          const Execution&);                                       \
  template void backward(const BackwardArgs<T>&, const Sequences&, const Options&, \
                         const Execution&);
FASTMAX_INSTANTIATE_SEQUENCES(float)
FASTMAX_INSTANTIATE_SEQUENCES(double)
FASTMAX_INSTANTIATE_SEQUENCES(BFloat16)
FASTMAX_INSTANTIATE_SEQUENCES(Float16)

}  // namespace fastmax
