#include "src/padding.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "src/cpu/layout.h"
#include "src/dropout.h"
#include "src/parts.h"

namespace fastmax {
namespace {

/// visit(m, i): key m weighs something and is the i-th that does.
template <class W, class Visit>
void for_each_kept(const W* weight, std::int64_t M, const Visit& visit) {
  std::int64_t i = 0;
  for (std::int64_t m = 0; m < M; ++m) {
    if (weight[m] != 0) visit(m, i++);
  }
}
template <class W>
std::int64_t count_kept(const W* weight, std::int64_t M) {
  return M - std::count(weight, weight + M, W{0});
}

/// The call of batch entry b over `keys` keys.
template <class Args>
Args entry_of(const Args& a, std::size_t b, std::int64_t keys) {
  Args one = a;
  one.q = entry(a.q, b);
  one.k = entry(a.k, b);
  one.v = entry(a.v, b);
  one.key_weight = entry(a.key_weight, b);
  one.k.N = one.v.N = one.key_weight.N = keys;
  one.o = entry(a.o, b);
  one.g = entry(a.g, b);
  one.initial_state = entry(a.initial_state, b);
  if constexpr (requires { a.d_o; }) {
    one.d_o = entry(a.d_o, b);
    one.dq = entry(a.dq, b);
    one.dk = entry(a.dk, b);
    one.dv = entry(a.dv, b);
    one.dk.N = one.dv.N = keys;
    one.d_final_state = entry(a.d_final_state, b);
    one.d_initial_state = entry(a.d_initial_state, b);
  } else {
    one.final_state = entry(a.final_state, b);
  }
  return one;
}

/// Rows of x without those that are left out, in memory from the arena.
template <class T>
auto take_rows(cpu::Arena& arena, const BhndView<T>& x, std::int64_t rows) {
  using Element = std::remove_const_t<T>;
  return contiguous(arena.take<Element>(static_cast<std::size_t>(x.H * rows * x.D)), 1, x.H, rows,
                    x.D);
}

/// The batch entries of a call, each over the keys that weigh something.
template <class T, class Args>
class Entries {
 public:
  explicit Entries(const Args& args) : a_(args) {}

  std::size_t size() const { return static_cast<std::size_t>(a_.q.B); }
  Args planned(std::size_t b) const { return entry_of(a_, b, kept(b)); }
  std::size_t bytes(std::size_t b) const {
    cpu::Arena counting;
    take_copies(counting, b);
    return counting.used();
  }

  template <class Body>
  void run(std::size_t b, std::byte* memory, const cpu::Team& team, const Body& body) const {
    cpu::Arena arena(memory);
    const Copies copy = take_copies(arena, b);
    const auto* weight = a_.key_weight.row(static_cast<std::int64_t>(b));
    for_each_kept(weight, a_.k.N,
                  [&](std::int64_t m, std::int64_t i) { copy.weight[i] = weight[m]; });
    for_each_head(team, b, [&](std::int64_t h, const Args& whole) {
      gather(weight, whole.k.head(0, h), copy.k.head(0, h));
      gather(weight, whole.v.head(0, h), copy.v.head(0, h));
    });
    Args kept = planned(b);
    kept.k = copy.k;
    kept.v = copy.v;
    kept.key_weight.data = copy.weight;
    if constexpr (kBackward) {
      kept.dk = copy.dk;
      kept.dv = copy.dv;
    }
    body(kept);
    if constexpr (kBackward) {
      for_each_head(team, b, [&](std::int64_t h, const Args& whole) {
        scatter(weight, copy.dk.head(0, h), whole.dk.head(0, h));
        scatter(weight, copy.dv.head(0, h), whole.dv.head(0, h));
      });
    }
  }

 private:
  static constexpr bool kBackward = requires(Args a) { a.d_o; };

  struct Copies {
    BhndView<T> k, v, dk, dv;
    Compute<T>* weight;
  };

  std::int64_t kept(std::size_t b) const {
    return count_kept(a_.key_weight.row(static_cast<std::int64_t>(b)), a_.k.N);
  }
  Copies take_copies(cpu::Arena& arena, std::size_t b) const {
    const std::int64_t n = kept(b);
    Copies copy{.k = take_rows(arena, a_.k, n),
                .v = take_rows(arena, a_.v, n),
                .dk = {},
                .dv = {},
                .weight = arena.take<Compute<T>>(static_cast<std::size_t>(n))};
    if constexpr (kBackward) {
      copy.dk = take_rows(arena, a_.dk, n);
      copy.dv = take_rows(arena, a_.dv, n);
    }
    return copy;
  }

  template <class Body>
  void for_each_head(const cpu::Team& team, std::size_t b, const Body& body) const {
    const Args whole = entry_of(a_, b, a_.k.N);
    team.for_each(static_cast<std::size_t>(a_.k.H),
                  [&](std::size_t, std::size_t h) { body(static_cast<std::int64_t>(h), whole); });
  }
  static void gather(const Compute<T>* weight, const Rows<const T>& from, const Rows<T>& to) {
    for_each_kept(weight, from.N, [&](std::int64_t m, std::int64_t i) {
      std::ranges::copy(from[m], to[i].begin());
    });
  }
  /// What is left out has no gradient.
  static void scatter(const Compute<T>* weight, const Rows<T>& from, const Rows<T>& to) {
    std::int64_t i = 0;
    for (std::int64_t m = 0; m < to.N; ++m) {
      if (weight[m] != 0) {
        std::ranges::copy(from[i++], to[m].begin());
      } else {
        std::ranges::fill(to[m], T{0});
      }
    }
  }

  const Args& a_;
};

/// Fewer keys an entry do not pay for a call of its own, which takes some microseconds.
constexpr std::int64_t kFewKeys = 16;

}  // namespace

template <class Args>
bool leaves_out_padding(const Args& args, const Options& options) {
  if (!args.key_weight.data || options.causal || drops_tokens(options.dropout)) return false;
  const std::int64_t keys = args.k.B * args.k.N;
  std::int64_t kept = 0;
  for (std::int64_t b = 0; b < args.k.B; ++b) kept += count_kept(args.key_weight.row(b), args.k.N);
  const std::int64_t dropped = keys - kept;
  return keys > 0 && dropped >= std::max(keys / 8, args.k.B * kFewKeys);
}

template <class T>
Report forward_without_padding(const ForwardArgs<T>& args, const Options& options,
                               const Execution& execution) {
  run_plan(args, options, execution.threads);  // refuses what overflows, before any entry runs
  return forward_parts(Entries<T, ForwardArgs<T>>(args), args, options, execution);
}
template <class T>
void backward_without_padding(const BackwardArgs<T>& args, const Options& options,
                              const Execution& execution) {
  backward_parts(Entries<T, BackwardArgs<T>>(args), options, execution);
}
template <class T>
Plan plan_without_padding(const ForwardArgs<T>& args, const Options& options, int threads) {
  run_plan(args, options, threads);
  return share(Entries<T, ForwardArgs<T>>(args), options, threads).plan();
}
template <class T>
Plan plan_without_padding(const BackwardArgs<T>& args, const Options& options, int threads) {
  return share(Entries<T, BackwardArgs<T>>(args), options, threads).plan();
}

#define FASTMAX_INSTANTIATE_PADDING(T)                                            \
  template bool leaves_out_padding(const ForwardArgs<T>&, const Options&);        \
  template bool leaves_out_padding(const BackwardArgs<T>&, const Options&);       \
  template Report forward_without_padding(const ForwardArgs<T>&, const Options&,  \
                                          const Execution&);                      \
  template void backward_without_padding(const BackwardArgs<T>&, const Options&,  \
                                         const Execution&);                       \
  template Plan plan_without_padding(const ForwardArgs<T>&, const Options&, int); \
  template Plan plan_without_padding(const BackwardArgs<T>&, const Options&, int);
FASTMAX_INSTANTIATE_PADDING(float)
FASTMAX_INSTANTIATE_PADDING(double)
FASTMAX_INSTANTIATE_PADDING(BFloat16)
FASTMAX_INSTANTIATE_PADDING(Float16)

}  // namespace fastmax
