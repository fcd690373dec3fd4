// From sums to outputs, one panel of queries at a time.
#include <algorithm>
#include <cstddef>

#include "hwy/highway.h"
#include "src/cpu/kernels.h"
#include "src/cpu/scratch.h"

#if defined(FASTMAX_CPU_OUTPUT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FASTMAX_CPU_OUTPUT_INL_H_
#undef FASTMAX_CPU_OUTPUT_INL_H_
#else
#define FASTMAX_CPU_OUTPUT_INL_H_
#endif

#include "src/cpu/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

/// Keys that query n sees.
template <class T>
HWY_INLINE std::int64_t visible_keys(const Settings<T>& s, const Geometry& shape, std::size_t n) {
  return s.causal ? static_cast<std::int64_t>(n) + shape.offset + 1
                  : static_cast<std::int64_t>(shape.M);
}

/// to += part 0 + part 1 + .., one after the other, parts `stride` apart.
template <class T>
HWY_INLINE void add_parts(T* HWY_RESTRICT to, const T* HWY_RESTRICT part, std::size_t stride,
                          std::size_t parts, std::size_t n) {
  for (std::size_t i = 0; i < n; i += kLanes<T>) {
    auto sum = load_n(to + i, n - i);
    for (std::size_t p = 0; p < parts; ++p)
      sum = hn::Add(sum, load_n(part + p * stride + i, n - i));
    store_n(sum, to + i, n - i);
  }
}

/// visible_weight of kLanes queries from `first` of one head.
template <class T>
HWY_INLINE Vec<T> visible_weights(const Settings<T>& s, const Geometry& shape, std::size_t b,
                                  std::size_t head, std::size_t first, std::size_t n) {
  const Tag<T> d;
  const T* past = s.initial_state.head(static_cast<std::int64_t>(b),
                                       static_cast<std::int64_t>(head / shape.heads));
  const auto visible = static_cast<std::size_t>(visible_keys(s, shape, first));
  auto weight = hn::Set(d, static_cast<T>(visible));
  if (s.weight_prefix) {
    const T* prefix = s.weight_prefix + b * (shape.M + 1) + visible;
    weight = s.causal ? load_n(prefix, n) : hn::Set(d, *prefix);
  } else if (s.causal) {
    weight = hn::Add(weight, hn::Iota(d, T{0}));
  }
  return past ? hn::Add(weight, hn::Set(d, past[s.initial_state.E])) : weight;
}

/// From the sums g of n queries, in units of `leading`, to their denominators g', floored as denominator.h says, and to
/// the factors leading / g' of their outputs, 0 where nothing is visible. inverse is [kPanel] and ends in zeros. If
/// `write`, the call's g gets g', and its ratio what they were of their weights before the floor.
template <class T>
HWY_NOINLINE void invert_denominators(const ForwardCall<T>& call, const Geometry& shape,
                                      std::size_t b, std::size_t head, std::size_t first,
                                      std::size_t n, const T* g, T* inverse, bool write) {
  const Tag<T> d;
  const auto leading = hn::Set(d, static_cast<T>(call.score.leading));
  T* const g_out =
      write ? call.args.g.head(static_cast<std::int64_t>(b), static_cast<std::int64_t>(head))
            : nullptr;
  T* const ratio = write && call.floors ? call.ratio + (b * shape.H + head) * shape.N : nullptr;
  for (std::size_t j = 0; j < kPanel; j += kLanes<T>) {
    if (j >= n) {
      hn::StoreU(hn::Zero(d), d, inverse + j);
      continue;
    }
    auto denominator = hn::Mul(leading, hn::LoadU(d, g + j)), floor = hn::Zero(d);
    if (call.floors) {
      const auto weight = visible_weights(call, shape, b, head, first + j, n - j);
      if (ratio) store_n(hn::Div(denominator, weight), ratio + first + j, n - j);
      floor = hn::Mul(weight, hn::Set(d, kDenominatorFloor<T>));
    }
    denominator = hn::IfThenElse(hn::Lt(denominator, floor), floor, denominator);
    hn::StoreU(hn::IfThenElseZero(hn::Gt(denominator, hn::Zero(d)), hn::Div(leading, denominator)),
               d, inverse + j);
    if (g_out) store_n(denominator, g_out + first + j, n - j);
  }
}

/// o = ot / g with both in units of `leading`, and g', floored as denominator.h says.
template <class T>
HWY_INLINE void write_outputs(const ForwardCall<T>& call, const Geometry& shape, std::size_t batch,
                              std::size_t head, const T* ot, const T* g, std::size_t first,
                              std::size_t n) {
  alignas(64) T inverse[kPanel];
  invert_denominators(call, shape, batch, head, first, n, g, inverse, true);
  const auto o =
      call.args.o.head(static_cast<std::int64_t>(batch), static_cast<std::int64_t>(head));
  unpack_plain(ot, shape.E, inverse, n, o.data + static_cast<std::int64_t>(first) * o.stride,
               static_cast<std::size_t>(o.stride));
}

/// What turns gradients of n outputs from `first` into u = c_p d_o / g, and 1 where g passes its gradient on: where it
/// stands at its floor it is a constant. Both [kPanel], ending in zeros.
template <class T>
HWY_INLINE void output_factors(const BackwardCall<T>& call, const Geometry& shape, std::size_t b,
                               std::size_t head, std::size_t first, std::size_t n, T* inverse,
                               T* through_g) {
  const Tag<T> d;
  const T* g = call.args.g.head(static_cast<std::int64_t>(b), static_cast<std::int64_t>(head));
  const auto zero = hn::Zero(d), one = hn::Set(d, T{1});
  for (std::size_t j = 0; j < kPanel; j += kLanes<T>) {
    const std::size_t count = n > j ? n - j : 0;
    const auto denominator = load_n(g + first + (count ? j : 0), count);
    auto floor = zero;
    if (call.floors && count) {
      floor = hn::Mul(visible_weights(call, shape, b, head, first + j, count),
                      hn::Set(d, kDenominatorFloor<T>));
    }
    const auto leading = hn::Set(d, static_cast<T>(call.score.leading));
    hn::StoreU(hn::IfThenElseZero(hn::Gt(denominator, zero), hn::Div(leading, denominator)), d,
               inverse + j);
    hn::StoreU(hn::IfThenElseZero(hn::Gt(denominator, floor), one), d, through_g + j);
  }
}

/// What backward needs of n queries from `first`: u = c_p d_o / g and c = -u . o as panels; with a `mean` [E] that
/// values lack, c = -u . (o - mean). scratch: [channels][kPanel].
template <class T>
HWY_INLINE void pack_output_gradients(const BackwardCall<T>& call, const Geometry& shape,
                                      std::size_t batch, std::size_t head, std::size_t first,
                                      std::size_t n, const T* mean, T* u, T* c, T* scratch) {
  const Tag<T> d;
  const auto d_o =
      call.args.d_o.head(static_cast<std::int64_t>(batch), static_cast<std::int64_t>(head));
  const auto o =
      call.args.o.head(static_cast<std::int64_t>(batch), static_cast<std::int64_t>(head));
  alignas(64) T inverse[kPanel], through_g[kPanel];
  output_factors(call, shape, batch, head, first, n, inverse, through_g);
  pack_plain(d_o[static_cast<std::int64_t>(first)].data(), static_cast<std::size_t>(d_o.stride), n,
             shape.E, u, shape.whole_panels);
  pack_plain(o[static_cast<std::int64_t>(first)].data(), static_cast<std::size_t>(o.stride), n,
             shape.E, scratch, shape.whole_panels);
  const std::size_t lanes = shape.whole_panels ? kPanel : used_lanes<T>(n);
  for (std::size_t lane = 0; lane < lanes; lane += kLanes<T>) {
    const auto f = hn::Load(d, inverse + lane), through = hn::Load(d, through_g + lane);
    auto dot = hn::Zero(d);
    for (std::size_t e = 0; e < shape.E; ++e) {
      const auto u_e = hn::Mul(f, hn::LoadU(d, u + e * kPanel + lane));
      hn::StoreU(u_e, d, u + e * kPanel + lane);
      auto o_e = hn::Mul(through, hn::LoadU(d, scratch + e * kPanel + lane));
      if (mean) o_e = hn::Sub(o_e, hn::Set(d, mean[e]));
      dot = hn::MulAdd(u_e, o_e, dot);
    }
    hn::StoreU(hn::Neg(dot), d, c + lane);
  }
}

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // FASTMAX_CPU_OUTPUT_INL_H_
