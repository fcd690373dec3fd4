// 16-bit elements: float copies in the workspace, the float kernels, the result rounded once. The copies are O(N D)
// numbers and their cost vanishes beside the kernels'; sums, denominators and states never see 16 bits. Where the CPU
// multiplies bf16 matrix tiles, the factorised forward of bf16 inputs rounds the factors of its products as well.
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "src/cpu/convert.h"
#include "src/cpu/layout.h"
#include "src/cpu/team.h"
#include "src/pool.h"
#include "src/run.h"

namespace fastmax {
namespace {

template <class From, class To>
void convert(const cpu::Team& team, const BhndView<From>& from, const BhndView<To>& to) {
  team.for_each(static_cast<std::size_t>(from.B * from.H), [&](std::size_t, std::size_t i) {
    const auto b = static_cast<std::int64_t>(i) / from.H, h = static_cast<std::int64_t>(i) % from.H;
    cpu::convert(from.head(b, h), to.head(b, h));
  });
}

/// A dense float array of the view's shape.
template <class S>
BhndView<float> take_copy(cpu::Arena& arena, const BhndView<S>& x) {
  return contiguous(arena.take<float>(static_cast<std::size_t>(x.B * x.H * x.N * x.D)), x.B, x.H,
                    x.N, x.D);
}

/// The float call that stands for a 16-bit one. Over an arena without memory the copies only take room.
template <class S>
struct FloatForward {
  static constexpr bool kBFloat16 = std::is_same_v<S, BFloat16>;
  const ForwardArgs<S>& a;
  BhndView<float> q, k, v, o;

  FloatForward(cpu::Arena& arena, const ForwardArgs<S>& args)
      : a(args),
        q(take_copy(arena, a.q)),
        k(take_copy(arena, a.k)),
        v(take_copy(arena, a.v)),
        o(take_copy(arena, a.o)) {}

  ForwardArgs<float> args() const {
    return {q, k, v, a.key_weight, o, a.g, a.initial_state, a.final_state};
  }
  void copy_in(const cpu::Team& team) const {
    convert(team, a.q, q);
    convert(team, a.k, k);
    convert(team, a.v, v);
  }
  void copy_out(const cpu::Team& team) const { convert(team, BhndView<const float>(o), a.o); }
};

template <class S>
struct FloatBackward {
  static constexpr bool kBFloat16 = std::is_same_v<S, BFloat16>;
  const BackwardArgs<S>& a;
  BhndView<float> q, k, v, o, d_o, dq, dk, dv;

  FloatBackward(cpu::Arena& arena, const BackwardArgs<S>& args)
      : a(args),
        q(take_copy(arena, a.q)),
        k(take_copy(arena, a.k)),
        v(take_copy(arena, a.v)),
        o(take_copy(arena, a.o)),
        d_o(take_copy(arena, a.d_o)),
        dq(take_copy(arena, a.dq)),
        dk(take_copy(arena, a.dk)),
        dv(take_copy(arena, a.dv)) {}

  BackwardArgs<float> args() const {
    return {q,
            k,
            v,
            a.key_weight,
            o,
            a.g,
            d_o,
            dq,
            dk,
            dv,
            a.initial_state,
            a.d_final_state,
            a.d_initial_state};
  }
  void copy_in(const cpu::Team& team) const {
    convert(team, a.q, q);
    convert(team, a.k, k);
    convert(team, a.v, v);
    convert(team, a.o, o);
    convert(team, a.d_o, d_o);
  }
  void copy_out(const cpu::Team& team) const {
    convert(team, BhndView<const float>(dq), a.dq);
    convert(team, BhndView<const float>(dk), a.dk);
    convert(team, BhndView<const float>(dv), a.dv);
  }
};

template <class Copies, class Args, class Run>
auto in_float(const Args& args, const Options& options, const Execution& execution,
              const Place& place, const Run& run) {
  cpu::Arena counting;
  const std::size_t kernels =
      run_plan(Copies(counting, args).args(), options, execution.threads, Copies::kBFloat16)
          .workspace_bytes;
  const WithWorkspace with(execution);
  const Execution& inner = with.execution();
  // All at once: growing later would move the copies.
  std::byte* memory = with.reserve(place.taken + counting.used() + kernels);
  cpu::Arena arena(memory + place.taken);
  const Copies copies(arena, args);
  const bool small = counting.used() < (std::size_t{1} << 18);
  const cpu::Team team = team_of(execution, small ? 1 : threads_of(execution.threads));
  copies.copy_in(team);
  const auto result =
      run(copies.args(), inner,
          Place{place.first_batch, place.taken + counting.used(), Copies::kBFloat16});
  copies.copy_out(team);
  return result;
}

template <class Copies, class Args>
Plan plan_in_float(const Args& args, const Options& options, int threads) {
  cpu::Arena counting;
  Plan plan = run_plan(Copies(counting, args).args(), options, threads, Copies::kBFloat16);
  plan.workspace_bytes += counting.used();
  return plan;
}

}  // namespace

template <class S>
requires kIs16Bit<S> Report run_forward(const ForwardArgs<S>& args, const Options& options,
                                        const Execution& execution, const Place& place) {
  return in_float<FloatForward<S>>(args, options, execution, place,
                                   [&](const auto& a, const Execution& inner, const Place& at) {
                                     return run_forward(a, options, inner, at);
                                   });
}
template <class S>
requires kIs16Bit<S>
void run_backward(const BackwardArgs<S>& args, const Options& options, const Execution& execution,
                  const Place& place) {
  in_float<FloatBackward<S>>(args, options, execution, place,
                             [&](const auto& a, const Execution& inner, const Place& at) {
                               run_backward(a, options, inner, at);
                               return 0;
                             });
}
template <class S>
requires kIs16Bit<S> Plan run_plan(const ForwardArgs<S>& args, const Options& options,
                                   int threads) {
  return plan_in_float<FloatForward<S>>(args, options, threads);
}
template <class S>
requires kIs16Bit<S> Plan run_plan(const BackwardArgs<S>& args, const Options& options,
                                   int threads) {
  return plan_in_float<FloatBackward<S>>(args, options, threads);
}

#define FASTMAX_INSTANTIATE_16_BIT(S)                                                  \
  template Report run_forward(const ForwardArgs<S>&, const Options&, const Execution&, \
                              const Place&);                                           \
  template void run_backward(const BackwardArgs<S>&, const Options&, const Execution&, \
                             const Place&);                                            \
  template Plan run_plan(const ForwardArgs<S>&, const Options&, int);                  \
  template Plan run_plan(const BackwardArgs<S>&, const Options&, int);
FASTMAX_INSTANTIATE_16_BIT(BFloat16)
FASTMAX_INSTANTIATE_16_BIT(Float16)

}  // namespace fastmax
