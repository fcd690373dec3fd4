// Operands of the tile products (amx.h), rounded to bf16 on the way: features of a block, formed for 32 or 64 tokens in
// vectors of 16,
//
//   phi_f(n) = x[a1][n] .. x[ap][n] (times w_n)      one multiply a feature and vector: a run shares its first factors
//
// as rows of A tiles (join: a feature's tokens side by side) or as pairs of rows of B tiles (read: two features,
// element by element); and rows of the state, transposed to A tiles. Sums over tokens and products with y are of the
// features before they are rounded. Included by amx.cc alone, where the compiler knows AMX.
#pragma once
#include <immintrin.h>

#include <cstddef>

#include "src/cpu/amx.h"
#include "src/cpu/layout.h"

#ifndef __clang__
// g++ 12 takes the undefined operand that its own intrinsics pass on purpose for ours.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
// Compiled for CPUs with AMX, function by function.
#define FASTMAX_AMX \
  __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512bf16")))
#define FASTMAX_AMX_INLINE FASTMAX_AMX __attribute__((always_inline)) inline

namespace fastmax::cpu::amx {
namespace {

constexpr std::size_t kTile = 512;  // elements of a tile of bf16: 16 rows of 64 bytes
constexpr int kRowBytes = 64;
constexpr std::size_t kGroup =
    32;  // tokens: the inner dimension of join, two tiles of columns of read
constexpr std::size_t kGroups = kPanel / kGroup;
constexpr std::size_t kLanes = 16;

/// Two vectors as one of 32 bf16: `low` first.
FASTMAX_AMX_INLINE __m512i round_pair(__m512 low, __m512 high) {
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/// Two rows as a row of a B tile: a0 b0 a1 b1 ..
FASTMAX_AMX_INLINE __m512i interleave(__m512 a, __m512 b) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                         8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, round_pair(a, b));
}

/// 16 x 16 numbers of 32 bits, in place: pairs of rows, pairs of pairs, then 128-bit lanes.
FASTMAX_AMX_INLINE void transpose(__m512i (&r)[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  // Lane l of r[4 i + j] now holds column 4 l + j of rows 4 i .. 4 i + 3.
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512i even_top = _mm512_shuffle_i32x4(r[j], r[4 + j], 0x88);
    const __m512i even_bottom = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0x88);
    const __m512i odd_top = _mm512_shuffle_i32x4(r[j], r[4 + j], 0xdd);
    const __m512i odd_bottom = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0xdd);
    t[j] = _mm512_shuffle_i32x4(even_top, even_bottom, 0x88);
    t[4 + j] = _mm512_shuffle_i32x4(odd_top, odd_bottom, 0x88);
    t[8 + j] = _mm512_shuffle_i32x4(even_top, even_bottom, 0xdd);
    t[12 + j] = _mm512_shuffle_i32x4(odd_top, odd_bottom, 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = t[i];
}

/// The product of a run's common factors for Z vectors of tokens, times a weight a token if given.
template <int Z>
FASTMAX_AMX_INLINE void common_factor(const Segment& s, int p, const float* x, const float* weight,
                                      __m512 (&common)[Z]) {
#pragma GCC unroll 4
  for (int z = 0; z < Z; ++z)
    common[z] = weight ? _mm512_loadu_ps(weight + z * kLanes) : _mm512_set1_ps(1);
  for (int i = 0; i + 1 < p; ++i) {
    const float* factor = x + static_cast<std::size_t>(s.prefix[i]) * kPanel;
#pragma GCC unroll 4
    for (int z = 0; z < Z; ++z)
      common[z] = _mm512_mul_ps(common[z], _mm512_loadu_ps(factor + z * kLanes));
  }
}

/// phi of one panel to A tiles [2 groups of tokens][2 tiles of features], and its sums over tokens added to
/// sums [kBlock][kLanes].
FASTMAX_AMX void form_rows(const FeatureBlock& block, int p, const Keys& keys, Bits* tiles,
                           float* sums) {
  const auto row = [tiles](std::size_t f) { return tiles + f / 16 * kTile + f % 16 * 32; };
  for (const Segment* s = block.begin; s != block.end; ++s) {
    __m512 common[4];
    common_factor(*s, p, keys.x, keys.weight, common);
    const float* x = keys.x + static_cast<std::size_t>(s->b) * kPanel;
    const auto first = static_cast<std::size_t>(s->first);
    const std::size_t end = first + static_cast<std::size_t>(s->count);
    for (std::size_t f = first; f < end; ++f, x += kPanel) {
      __m512 phi[4];
#pragma GCC unroll 4
      for (int z = 0; z < 4; ++z)
        phi[z] = _mm512_mul_ps(common[z], _mm512_loadu_ps(x + z * kLanes));
      Bits* to = row(f);
      _mm512_storeu_si512(to, round_pair(phi[0], phi[1]));
      _mm512_storeu_si512(to + 2 * kTile, round_pair(phi[2], phi[3]));
      float* sum = sums + f * kLanes;
      const __m512 all =
          _mm512_add_ps(_mm512_add_ps(phi[0], phi[1]), _mm512_add_ps(phi[2], phi[3]));
      _mm512_storeu_ps(sum, _mm512_add_ps(_mm512_loadu_ps(sum), all));
    }
  }
  for (std::size_t f = block.count; f < kBlock; ++f) {
    _mm512_storeu_si512(row(f), _mm512_setzero_si512());
    _mm512_storeu_si512(row(f) + 2 * kTile, _mm512_setzero_si512());
  }
}

/// phi of 32 tokens to B tiles [2][16 pairs of features][16 tokens][2], and y . phi added to g.
FASTMAX_AMX void form_columns(const FeatureBlock& block, int p, const float* x, const float* y,
                              Bits* tiles, float* g) {
  __m512 even[2] = {_mm512_setzero_ps(),
                    _mm512_setzero_ps()};  // the feature that waits for its pair
  __m512 sum[2] = {_mm512_loadu_ps(g), _mm512_loadu_ps(g + kLanes)};
  const auto store = [tiles](int f, const __m512(&a)[2], const __m512(&b)[2]) FASTMAX_AMX {
    Bits* to = tiles + static_cast<std::size_t>(f / 2) * 32;
    _mm512_storeu_si512(to, interleave(a[0], b[0]));
    _mm512_storeu_si512(to + kTile, interleave(a[1], b[1]));
  };
  for (const Segment* s = block.begin; s != block.end; ++s) {
    __m512 common[2];
    common_factor(*s, p, x, nullptr, common);
    const float* at = x + static_cast<std::size_t>(s->b) * kPanel;
    const auto next = [&](int f, __m512(&phi)[2]) FASTMAX_AMX {
      const __m512 y_f = _mm512_set1_ps(y[f]);
#pragma GCC unroll 2
      for (int z = 0; z < 2; ++z) {
        phi[z] = _mm512_mul_ps(common[z], _mm512_loadu_ps(at + z * kLanes));
        sum[z] = _mm512_fmadd_ps(y_f, phi[z], sum[z]);
      }
      at += kPanel;
    };
    int f = s->first;
    const int end = f + s->count;
    __m512 odd[2];
    if (f % 2 == 1) {
      next(f, odd);
      store(f - 1, even, odd);
      ++f;
    }
    for (; f + 1 < end; f += 2) {
      next(f, even);
      next(f + 1, odd);
      store(f, even, odd);
    }
    if (f < end) next(f, even);
  }
  const int count = static_cast<int>(block.count);
  const __m512 zero[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  if (count % 2 == 1) store(count - 1, even, zero);
  for (int f = (count + 1) / 2 * 2; f < static_cast<int>(kBlock); f += 2) store(f, zero, zero);
  _mm512_storeu_ps(g, sum[0]);
  _mm512_storeu_ps(g + kLanes, sum[1]);
}

}  // namespace
}  // namespace fastmax::cpu::amx
