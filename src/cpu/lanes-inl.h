// What the kernels need of a vector and Highway 1.0 does not have: partial loads, transposes, row sums.
#include <cstddef>
#include <cstring>

#include "hwy/highway.h"
#include "src/cpu/layout.h"

#if defined(FASTMAX_CPU_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FASTMAX_CPU_LANES_INL_H_
#undef FASTMAX_CPU_LANES_INL_H_
#else
#define FASTMAX_CPU_LANES_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
using Tag = hn::ScalableTag<T>;
template <class T>
using Vec = hn::Vec<Tag<T>>;

/// Lanes are a compile-time number: register tiles are arrays of vectors, which scalable vectors
/// (SVE, RVV) do not allow.
template <class T>
inline constexpr std::size_t kLanes = HWY_TARGET == HWY_SCALAR ? 1 : HWY_MAX_BYTES / sizeof(T);

/// Vectors across a register tile. 6 x 4 accumulators need the 32 registers of AVX-512 or NEON.
inline constexpr std::size_t kWide = HWY_TARGET <= HWY_AVX3 || HWY_TARGET == HWY_NEON ? 4 : 2;

// A masked load or store touches nothing behind the mask on these targets only; elsewhere go
// through a copy.
#define FASTMAX_MASKED_MEMORY (HWY_TARGET <= HWY_AVX2)

/// The first n elements at p, then zeros; reads nothing behind them.
template <class T>
HWY_INLINE Vec<T> load_n(const T* p, std::size_t n) {
  const Tag<T> d;
  if (n >= kLanes<T>) return hn::LoadU(d, p);
#if FASTMAX_MASKED_MEMORY
  return hn::MaskedLoad(hn::FirstN(d, n), d, p);
#else
  alignas(64) T copy[kLanes<T>] = {};
  std::memcpy(copy, p, n * sizeof(T));
  return hn::Load(d, copy);
#endif
}

/// Writes the first n lanes to p and nothing behind them.
template <class T>
HWY_INLINE void store_n(Vec<T> v, T* p, std::size_t n) {
  const Tag<T> d;
  if (n >= kLanes<T>) return hn::StoreU(v, d, p);
#if FASTMAX_MASKED_MEMORY
  hn::BlendedStore(v, hn::FirstN(d, n), d, p);
#else
  alignas(64) T copy[kLanes<T>];
  hn::Store(v, d, copy);
  std::memcpy(p, copy, n * sizeof(T));
#endif
}

#if HWY_TARGET == HWY_SCALAR
template <class T>
HWY_INLINE void transpose(Vec<T> (&)[1]) {}
template <class T>
HWY_INLINE Vec<T> row_sums(Vec<T> (&r)[1]) {
  return r[0];
}
#else

/// The even and odd halves of two vectors, interleaved by 8-byte pairs within each 16-byte block.
template <class T>
HWY_INLINE Vec<T> interleave_lower_pairs(Vec<T> a, Vec<T> b) {
  const Tag<T> d;
  const Tag<double> d64;
  return hn::BitCast(d, hn::InterleaveLower(d64, hn::BitCast(d64, a), hn::BitCast(d64, b)));
}
template <class T>
HWY_INLINE Vec<T> interleave_upper_pairs(Vec<T> a, Vec<T> b) {
  const Tag<T> d;
  const Tag<double> d64;
  return hn::BitCast(d, hn::InterleaveUpper(d64, hn::BitCast(d64, a), hn::BitCast(d64, b)));
}

/// r[i] lane j becomes r[j] lane i, for kLanes vectors: first inside blocks of 16 bytes, then the blocks.
template <class T>
HWY_INLINE void transpose(Vec<T> (&r)[kLanes<T>]) {
  const Tag<T> d;
  constexpr std::size_t L = kLanes<T>;
  [[maybe_unused]] constexpr std::size_t kInBlock =
      16 / sizeof(T);  // targets of one block have no second step
  Vec<T> t[L];
  if constexpr (sizeof(T) == 4) {
    HWY_UNROLL(16)
    for (std::size_t i = 0; i < L; i += 2) {
      t[i] = hn::InterleaveLower(d, r[i], r[i + 1]);
      t[i + 1] = hn::InterleaveUpper(d, r[i], r[i + 1]);
    }
    HWY_UNROLL(16)
    for (std::size_t i = 0; i < L; i += 4) {
      r[i] = interleave_lower_pairs<T>(t[i], t[i + 2]);
      r[i + 1] = interleave_upper_pairs<T>(t[i], t[i + 2]);
      r[i + 2] = interleave_lower_pairs<T>(t[i + 1], t[i + 3]);
      r[i + 3] = interleave_upper_pairs<T>(t[i + 1], t[i + 3]);
    }
  } else {
    HWY_UNROLL(16)
    for (std::size_t i = 0; i < L; i += 2) {
      t[i] = interleave_lower_pairs<T>(r[i], r[i + 1]);
      t[i + 1] = interleave_upper_pairs<T>(r[i], r[i + 1]);
    }
    HWY_UNROLL(16)
    for (std::size_t i = 0; i < L; ++i) r[i] = t[i];
  }
#if HWY_MAX_BYTES == 32
  HWY_UNROLL(16)
  for (std::size_t i = 0; i < kInBlock; ++i) {
    const auto a = r[i], b = r[i + kInBlock];
    r[i] = hn::ConcatLowerLower(d, b, a);
    r[i + kInBlock] = hn::ConcatUpperUpper(d, b, a);
  }
#elif HWY_MAX_BYTES == 64
  HWY_UNROLL(16)
  for (std::size_t i = 0; i < kInBlock; ++i) {
    const auto a = r[i], b = r[i + kInBlock], c = r[i + 2 * kInBlock], e = r[i + 3 * kInBlock];
    const auto ab_even = hn::OddEvenBlocks(hn::SwapAdjacentBlocks(b), a);
    const auto ab_odd = hn::OddEvenBlocks(b, hn::SwapAdjacentBlocks(a));
    const auto ce_even = hn::OddEvenBlocks(hn::SwapAdjacentBlocks(e), c);
    const auto ce_odd = hn::OddEvenBlocks(e, hn::SwapAdjacentBlocks(c));
    r[i] = hn::ConcatLowerLower(d, ce_even, ab_even);
    r[i + kInBlock] = hn::ConcatLowerLower(d, ce_odd, ab_odd);
    r[i + 2 * kInBlock] = hn::ConcatUpperUpper(d, ce_even, ab_even);
    r[i + 3 * kInBlock] = hn::ConcatUpperUpper(d, ce_odd, ab_odd);
  }
#endif
}

/// Lane i of the result is the sum of the lanes of r[i]: a transpose that adds on the way.
template <class T>
HWY_INLINE Vec<T> row_sums(Vec<T> (&r)[kLanes<T>]) {
  constexpr std::size_t L = kLanes<T>;
  Vec<T> t[L];
  std::size_t n = L;
  if constexpr (sizeof(T) == 4) {
    const Tag<T> d;
    HWY_UNROLL(16)
    for (std::size_t i = 0; i < L / 2; ++i) {
      t[i] = hn::Add(hn::InterleaveLower(d, r[2 * i], r[2 * i + 1]),
                     hn::InterleaveUpper(d, r[2 * i], r[2 * i + 1]));
    }
    n = L / 2;
  } else {
    HWY_UNROLL(16)
    for (std::size_t i = 0; i < L; ++i) t[i] = r[i];
  }
  HWY_UNROLL(16)
  for (std::size_t i = 0; i < n / 2; ++i) {
    t[i] = hn::Add(interleave_lower_pairs<T>(t[2 * i], t[2 * i + 1]),
                   interleave_upper_pairs<T>(t[2 * i], t[2 * i + 1]));
  }
  // Now each t[i] holds, block by block, partial sums of the rows of one 16-byte block of the result.
#if HWY_MAX_BYTES == 32
  const Tag<T> d;
  return hn::Add(hn::ConcatLowerLower(d, t[1], t[0]), hn::ConcatUpperUpper(d, t[1], t[0]));
#elif HWY_MAX_BYTES == 64
  const Tag<T> d;
  const auto a = hn::Add(hn::ConcatLowerLower(d, t[2], t[0]), hn::ConcatUpperUpper(d, t[2], t[0]));
  const auto c = hn::Add(hn::ConcatLowerLower(d, t[3], t[1]), hn::ConcatUpperUpper(d, t[3], t[1]));
  return hn::Add(hn::OddEvenBlocks(hn::SwapAdjacentBlocks(c), a),
                 hn::OddEvenBlocks(c, hn::SwapAdjacentBlocks(a)));
#else
  return t[0];
#endif
}
#endif  // HWY_TARGET == HWY_SCALAR

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // FASTMAX_CPU_LANES_INL_H_
