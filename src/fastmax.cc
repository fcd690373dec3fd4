// Validate, plan, run: start reading here.
#include "fastmax/fastmax.h"

#include <algorithm>

#include "src/call.h"
#include "src/check.h"
#include "src/machine.h"
#include "src/max_norm.h"
#include "src/padding.h"
#include "src/plan.h"
#include "src/pool.h"
#include "src/run.h"

namespace fastmax {
namespace {

template <class Args>
Choice choose(const Args& a, const Options& options, int threads, bool bf16) {
  const Problem problem{.B = a.q.B,
                        .H = a.q.H,
                        .N = a.q.N,
                        .M = a.k.N,
                        .D = a.q.D,
                        .E = a.v.D,
                        .p = options.p,
                        .causal = options.causal,
                        .backward = kIsBackward<Args>,
                        .state = has_state(a),
                        .bf16 = bf16};
  return make_choice(problem, this_machine(threads_of(threads)), options);
}

template <class T>
void fill_zero(const BhndView<T>& x) {
  for (std::int64_t b = 0; b < x.B; ++b) {
    for (std::int64_t h = 0; h < x.H; ++h) {
      for (std::int64_t n = 0; n < x.N; ++n) std::ranges::fill(x.head(b, h)[n], T{0});
    }
  }
}

/// What runs a call, and the bytes of workspace it takes for a number of threads.
template <class Call>
struct Kernel {
  void (*run)(const Call& call, const cpu::Team& team, std::byte* workspace);
  std::size_t (*workspace)(const Call& call, std::size_t threads);
};

template <class T>
Kernel<cpu::ForwardCall<T>> kernel_of(const cpu::ForwardCall<T>& call, Form form) {
  if (form == Form::kDirect) return {cpu::direct_forward, cpu::direct_forward_workspace};
  if (cpu::is_linear(call)) return {cpu::linear_forward, cpu::linear_forward_workspace};
  return {cpu::factorised_forward, cpu::factorised_forward_workspace};
}
template <class T>
Kernel<cpu::BackwardCall<T>> kernel_of(const cpu::BackwardCall<T>& call, Form form) {
  if (form == Form::kDirect) return {cpu::direct_backward, cpu::direct_backward_workspace};
  if (cpu::is_linear(call)) return {cpu::linear_backward, cpu::linear_backward_workspace};
  return {cpu::factorised_backward, cpu::factorised_backward_workspace};
}

template <class T, template <class> class Call, class Args>
Plan make_plan(const Args& args, const Options& options, int threads, bool bf16) {
  const Choice choice = choose(args, options, threads, bf16);
  const auto call = make_call<T, Call>(args, options, choice, 0);
  return {
      .form = choice.form,
      .chunk = choice.chunk,
      .workspace_bytes =
          call_scratch_bytes<T>(args, options) +
          kernel_of(call, choice.form).workspace(call, static_cast<std::size_t>(choice.threads)),
      .why = choice.why};
}

/// Reports on, and under Floor::kError refuses, what a finished forward met.
template <class T>
Report look_at_denominators(const cpu::ForwardCall<T>& call, const Options& options, Form form) {
  Report report{.form = form};
  if (!call.floors) return report;
  const auto& q = call.args.q;
  report.smallest_denominator = smallest_of(call.ratio, q.B * q.H * q.N);
  require_denominators<T>(report.smallest_denominator, options, q.D);
  return report;
}

/// Runs a checked call that has work to do; calls after(call) when its kernel has finished.
template <class T, template <class> class Call, class Args, class After>
auto run(const Args& args, const Options& options, const Execution& execution, const Place& place,
         const After& after) {
  const Choice choice = choose(args, options, execution.threads, place.bf16);
  auto call = make_call<T, Call>(args, options, choice, place.first_batch);
  const auto kernel = kernel_of(call, choice.form);
  const std::size_t scratch_bytes = call_scratch_bytes<T>(args, options);
  const WithWorkspace with(execution);
  std::byte* memory =
      with.reserve(place.taken + scratch_bytes +
                   kernel.workspace(call, static_cast<std::size_t>(choice.threads))) +
      place.taken;
  cpu::Arena arena(memory);
  const CallScratch<T> scratch(arena, args, options);
  prepare(scratch, options, call);
  kernel.run(call, team_of(execution, choice.threads), memory + scratch_bytes);
  return after(call, choice.form);
}

}  // namespace

double default_scale(int p, std::int64_t D, Normalize normalize) {
  if (p % 2 == 0) return 1;
  require(normalize != Normalize::kNone,
          "an explicit scale for odd p with kNone, where s has no bound, got none");
  const double largest =
      normalize == Normalize::kStandardize ? static_cast<double>(D) : 1;  // of |q^ . k^|
  constexpr double kRoot1 = 1, kRoot3 = 1.5960716379833216;               // -roots of f_1 and f_3
  return (p == 1 ? kRoot1 : kRoot3) / largest;
}

std::int64_t state_features(int p, std::int64_t D) {
  require(1 <= p && p <= 4, "p in 1..4, got ", p);
  require(D >= 1, "D >= 1, got ", D);
  const double F = packed_features(D, p);
  require(F < 0x1p53, "C(D + p, p) below 2^53, got p ", p, ", D ", D);
  return static_cast<std::int64_t>(F);
}

template <class T>
requires(!kIs16Bit<T>) Report run_forward(const ForwardArgs<T>& args, const Options& options,
                                          const Execution& execution, const Place& place) {
  if (args.q.B == 0 || args.q.H == 0) return {};
  if (!has_state(args) && args.q.N == 0) return {};
  if (!has_state(args) && args.k.N == 0) {
    fill_zero(args.o);
    for (std::int64_t b = 0; args.g.data && b < args.g.B; ++b) {
      for (std::int64_t h = 0; h < args.g.H; ++h) std::fill_n(args.g.head(b, h), args.g.N, T{0});
    }
    return {};
  }
  return run<T, cpu::ForwardCall>(
      args, options, execution, place,
      [&](const auto& call, Form form) { return look_at_denominators(call, options, form); });
}

template <class T>
requires(!kIs16Bit<T>) void run_backward(const BackwardArgs<T>& args, const Options& options,
                                         const Execution& execution, const Place& place) {
  if (args.q.B == 0) return;
  if (args.q.H == 0 || (!has_state(args) && (args.q.N == 0 || args.k.N == 0))) {
    fill_zero(args.dq);
    fill_zero(args.dk);
    fill_zero(args.dv);
    return;
  }
  run<T, cpu::BackwardCall>(args, options, execution, place, [&](const auto&, Form) {
    if (options.normalize != Normalize::kMaxNorm) return;
    for (std::int64_t b = 0; b < args.q.B; ++b) {
      for (std::int64_t h = 0; h < args.q.H; ++h) {
        max_norm::add_gradient<T>(args.q.head(b, h), nullptr, args.dq.head(b, h));
      }
      for (std::int64_t h = 0; h < args.k.H; ++h) {
        max_norm::add_gradient<T>(args.k.head(b, h), args.key_weight.row(b), args.dk.head(b, h));
      }
    }
  });
}

template <class T>
Report forward(const ForwardArgs<T>& args, const Options& options, const Execution& execution) {
  check(args, options, execution.threads);
  if (leaves_out_padding(args, options)) return forward_without_padding(args, options, execution);
  return run_forward(args, options, execution, {});
}

template <class T>
void backward(const BackwardArgs<T>& args, const Options& options, const Execution& execution) {
  check(args, options, execution.threads);
  if (leaves_out_padding(args, options)) return backward_without_padding(args, options, execution);
  run_backward(args, options, execution, {});
}

template <class T>
requires(!kIs16Bit<T>) Plan
    run_plan(const ForwardArgs<T>& args, const Options& options, int threads, bool bf16) {
  return make_plan<T, cpu::ForwardCall>(args, options, threads, bf16);
}
template <class T>
requires(!kIs16Bit<T>) Plan
    run_plan(const BackwardArgs<T>& args, const Options& options, int threads, bool bf16) {
  return make_plan<T, cpu::BackwardCall>(args, options, threads, bf16);
}

template <class T>
Plan plan(const ForwardArgs<T>& args, const Options& options, int threads) {
  check(args, options, threads);
  if (leaves_out_padding(args, options)) return plan_without_padding(args, options, threads);
  return run_plan(args, options, threads);
}
template <class T>
Plan plan(const BackwardArgs<T>& args, const Options& options, int threads) {
  check(args, options, threads);
  if (leaves_out_padding(args, options)) return plan_without_padding(args, options, threads);
  return run_plan(args, options, threads);
}

#define FASTMAX_INSTANTIATE_RUN(T)                                                     \
  template Report run_forward(const ForwardArgs<T>&, const Options&, const Execution&, \
                              const Place&);                                           \
  template void run_backward(const BackwardArgs<T>&, const Options&, const Execution&, \
                             const Place&);                                            \
  template Plan run_plan(const ForwardArgs<T>&, const Options&, int, bool);            \
  template Plan run_plan(const BackwardArgs<T>&, const Options&, int, bool);
FASTMAX_INSTANTIATE_RUN(float)
FASTMAX_INSTANTIATE_RUN(double)

#define FASTMAX_INSTANTIATE_API(T)                                                  \
  template Report forward(const ForwardArgs<T>&, const Options&, const Execution&); \
  template void backward(const BackwardArgs<T>&, const Options&, const Execution&); \
  template Plan plan(const ForwardArgs<T>&, const Options&, int);                   \
  template Plan plan(const BackwardArgs<T>&, const Options&, int);
FASTMAX_INSTANTIATE_API(float)
FASTMAX_INSTANTIATE_API(double)
FASTMAX_INSTANTIATE_API(BFloat16)
FASTMAX_INSTANTIATE_API(Float16)

}  // namespace fastmax
