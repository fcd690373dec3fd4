// Keys on their way into a state, panel by panel:
//
//   S_f += sum_m w_m phi_f(kappa_m) [v_m - mean, 1],   sum_m a_nm v_m = mean + sum_m a_nm (v_m - mean)
//
// Tokens are packed to kappa, their values as the products read them: in place, in padded rows less a mean, or as
// matrix tiles less a mean, near which bf16 rounds what values differ by and not how large they are.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <type_traits>

#include "hwy/highway.h"
#include "src/cpu/amx.h"
#include "src/cpu/factorised_scratch.h"

#if defined(FASTMAX_CPU_JOINING_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FASTMAX_CPU_JOINING_INL_H_
#undef FASTMAX_CPU_JOINING_INL_H_
#else
#define FASTMAX_CPU_JOINING_INL_H_
#endif

#include "src/cpu/lanes-inl.h"
#include "src/cpu/state-inl.h"
#include "src/cpu/tokens-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

/// v - mean must not overflow.
template <class T>
inline constexpr T kMostMean = T(0x1p100);

/// A vector near the values, which tiles subtract from them. Made only of what every reader of the state sees, so that
/// nothing leaks back in time, be it an infinity: the tokens of the initial state, or else the first keys. It is a
/// multiple of the largest value's last bit in bf16, so that most differences of bf16 numbers are bf16 numbers again;
/// any other mean would round all of them the same way.
template <class Call, class T>
HWY_INLINE void take_mean(const Call& call, const FactorisedShape& shape, std::size_t b,
                          std::size_t key_head, const StateScratch<T>& state) {
  if (!shape.tiles) return;
  const auto v =
      call.args.v.head(static_cast<std::int64_t>(b), static_cast<std::int64_t>(key_head));
  const T* past =
      call.initial_state.head(static_cast<std::int64_t>(b), static_cast<std::int64_t>(key_head));
  const auto shared = static_cast<std::size_t>(shape.causal ? shape.offset : 0);
  const std::size_t chunk = shape.chunk * kPanel;
  const std::size_t count = std::min(shape.M, shared ? std::min(shared, chunk) : chunk);
  const Tag<T> d;
  const auto share = hn::Set(d, static_cast<T>(count));
  for (std::size_t first = 0; first < shape.E; first += kLanes<T>) {
    auto sum = hn::Zero(d), most = sum;
    for (std::size_t n = 0; n < count; ++n) {
      const auto x = hn::LoadU(d, v[static_cast<std::int64_t>(n)].data() + first);
      sum = hn::Add(sum, hn::Div(x, share));
      most = hn::Max(most, hn::Abs(x));
    }
    alignas(64) T means[kLanes<T>], largest[kLanes<T>];
    hn::Store(sum, d, means);
    hn::Store(most, d, largest);
    for (std::size_t i = 0; i < kLanes<T>; ++i) {
      if (past) means[i] = past[shape.E] > 0 ? past[first + i] / past[shape.E] : T{0};
      int exponent = 0;
      std::frexp(largest[i], &exponent);
      const T bit = std::ldexp(T{1}, exponent - 8);
      const T mean = std::round(means[i] / bit) * bit;
      state.mean[first + i] = std::abs(mean) <= kMostMean<T> ? mean : T{0};
    }
  }
}

/// n keys of one head from `first`, packed: kappa, weights, and values, less `mean` if one is given; in place, padded,
/// or as tiles.
template <class Call, class T>
HWY_INLINE JoiningPanel<T> pack_joining(const Call& call, const FactorisedShape& shape,
                                        std::size_t b, std::size_t key_head, std::size_t first,
                                        std::size_t n, const T* mean,
                                        const TokenScratch<T>& scratch, std::size_t panel) {
  T* x = scratch.x + panel * shape.dims * kPanel;
  T* w = scratch.weight + panel * kPanel;
  const T* given = call.args.key_weight.row(static_cast<std::int64_t>(b));
  const auto v =
      call.args.v.head(static_cast<std::int64_t>(b), static_cast<std::int64_t>(key_head));
  pack_keys(call, shape, b, key_head, first, n, x, scratch.inverse + panel * kPanel);
  pack_weights(given, first, n, w);
  JoiningPanel<T> tokens{.x = x,
                         .n = n,
                         .weight = given ? w : nullptr,
                         .rows = v[static_cast<std::int64_t>(first)].data(),
                         .ld = static_cast<std::size_t>(v.stride),
                         .last = nullptr};
  if (!shape.template reads_values_in_place<T>()) {
    T* rows = scratch.values + panel * kPanel * shape.value_stride;
    if (shape.centred && !shape.tiles) {
      center_rows(tokens.rows, tokens.ld, n, shape.E, mean, rows, shape.value_stride);
    } else {
      pad_rows(tokens.rows, tokens.ld, n, shape.E, rows, shape.value_stride);
    }
    tokens.rows = rows;
    tokens.ld = shape.value_stride;
  }
  if constexpr (std::is_same_v<T, float>) {
    if (shape.tiles) {
      amx::Bits* tiles = scratch.tiles + panel * amx::value_size(shape.E);
      amx::pack_values(tokens.rows, tokens.ld, n, mean, shape.E, tiles);
      tokens.tiles = tiles;
    }
  }
  return tokens;
}

/// The first `count` keys of one head join the state, features [block_from, block_to) of the table, chunk by chunk.
template <class Call, class T>
HWY_INLINE void join_keys(const Call& call, const FactorisedShape& shape,
                          const StateScratch<T>& state, std::size_t b, std::size_t key_head,
                          std::size_t count, std::size_t block_from, std::size_t block_to,
                          const TokenScratch<T>& scratch, T* S, amx::Bits* phi) {
  JoiningPanel<T> panels[kMaxChunk];
  for (std::size_t first = 0; first < count; first += shape.chunk * kPanel) {
    const std::size_t in_chunk = divide_up(std::min(count - first, shape.chunk * kPanel), kPanel);
    for (std::size_t i = 0; i < in_chunk; ++i) {
      const std::size_t at = first + i * kPanel;
      panels[i] = pack_joining(call, shape, b, key_head, at, std::min(kPanel, count - at),
                               state.mean, scratch, i);
    }
    join_panels(shape, state, block_from, block_to, panels, in_chunk, S, phi);
  }
}

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // FASTMAX_CPU_JOINING_INL_H_
