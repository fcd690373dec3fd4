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

template <class T>
HWY_INLINE void add(T* HWY_RESTRICT to, const T* HWY_RESTRICT more, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) to[i] += more[i];
}

/// o = ot / g with both in units of `leading`, floored as denominator.h says; g_out, if wanted,
/// gets the g' used.
template <class T>
HWY_INLINE void write_outputs(const Settings<T>& settings, const Geometry& shape, std::size_t batch,
                              std::size_t head, const T* ot, const T* g, std::size_t first,
                              std::size_t n, Rows<T> o, T* g_out) {
  alignas(64) T inverse[kPanel];
  const auto leading = static_cast<T>(settings.score.leading);
  for (std::size_t j = 0; j < n; ++j) {
    const T floor = settings.denominator_floor(
        static_cast<std::int64_t>(batch), static_cast<std::int64_t>(head / shape.heads),
        static_cast<std::int64_t>(shape.M), visible_keys(settings, shape, first + j));
    const T denominator = std::max(leading * g[j], floor);
    inverse[j] = denominator > 0 ? leading / denominator : T{0};
    if (g_out) g_out[first + j] = denominator;
  }
  std::fill(inverse + n, inverse + kPanel, T{0});
  unpack_plain(ot, shape.E, inverse, n, o.data + static_cast<std::int64_t>(first) * o.stride,
               static_cast<std::size_t>(o.stride));
}

/// What backward needs of n queries from `first`: u = c_p d_o / g and c = -u . o as panels. Where g
/// stands at its floor it is a constant and c = 0. scratch: [channels][kPanel].
template <class T>
HWY_INLINE void pack_output_gradients(const BackwardCall<T>& call, const Geometry& shape,
                                      std::size_t batch, std::size_t head, std::size_t first,
                                      std::size_t n, T* u, T* c, T* scratch) {
  const Tag<T> d;
  const auto d_o =
      call.args.d_o.head(static_cast<std::int64_t>(batch), static_cast<std::int64_t>(head));
  const auto o =
      call.args.o.head(static_cast<std::int64_t>(batch), static_cast<std::int64_t>(head));
  const T* g = call.args.g.head(static_cast<std::int64_t>(batch), static_cast<std::int64_t>(head));
  alignas(64) T inverse[kPanel] = {}, through_g[kPanel] = {};
  for (std::size_t j = 0; j < n; ++j) {
    const T floor = call.denominator_floor(
        static_cast<std::int64_t>(batch), static_cast<std::int64_t>(head / shape.heads),
        static_cast<std::int64_t>(shape.M), visible_keys(call, shape, first + j));
    const T denominator = g[first + j];
    inverse[j] = denominator > 0 ? static_cast<T>(call.score.leading) / denominator : T{0};
    through_g[j] = denominator > floor ? T{1} : T{0};
  }
  pack_plain(d_o[static_cast<std::int64_t>(first)].data(), static_cast<std::size_t>(d_o.stride), n,
             shape.E, u);
  pack_plain(o[static_cast<std::int64_t>(first)].data(), static_cast<std::size_t>(o.stride), n,
             shape.E, scratch);
  for (std::size_t lane = 0; lane < kPanel; lane += kLanes<T>) {
    const auto f = hn::Load(d, inverse + lane);
    auto dot = hn::Zero(d);
    for (std::size_t e = 0; e < shape.E; ++e) {
      const auto u_e = hn::Mul(f, hn::LoadU(d, u + e * kPanel + lane));
      hn::StoreU(u_e, d, u + e * kPanel + lane);
      dot = hn::MulAdd(u_e, hn::LoadU(d, scratch + e * kPanel + lane), dot);
    }
    hn::StoreU(hn::Neg(hn::Mul(dot, hn::Load(d, through_g + lane))), d, c + lane);
  }
}

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // FASTMAX_CPU_OUTPUT_INL_H_
