#include "src/cpu/amx.h"

#include "src/cpu/layout.h"

// Compiled for CPUs with AMX, function by function; what the compiler does not offer is not available.
#if defined(__x86_64__) && defined(__linux__) && (defined(__clang__) || __GNUC__ >= 11)
#define FASTMAX_HAS_AMX 1
#ifndef __clang__
// g++ 12 takes the undefined operand that its own intrinsics pass on purpose for ours.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#define FASTMAX_AMX \
  __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512bf16")))
#define FASTMAX_AMX_INLINE FASTMAX_AMX __attribute__((always_inline)) inline
#endif

namespace fastmax::cpu::amx {

#ifdef FASTMAX_HAS_AMX
namespace {

constexpr std::size_t kTile = 512;  // elements of a tile of bf16: 16 rows of 64 bytes
constexpr int kRowBytes = 64;
constexpr std::size_t kGroup =
    32;  // tokens: the inner dimension of join, two tiles of columns of read
constexpr std::size_t kGroups = kPanel / kGroup;
constexpr std::size_t kLanes = 16;

bool cpu_has_tiles() {
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kAvx512 = (1u << 16) | (1u << 30) | (1u << 31);  // F, BW, VL
  constexpr unsigned kTiles = (1u << 22) | (1u << 24);                // AMX-BF16, AMX-TILE
  if ((b & kAvx512) != kAvx512 || (d & kTiles) != kTiles) return false;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 5));  // AVX512-BF16
}

/// Linux saves tiles only for processes that ask.
bool system_saves_tiles() {
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}

/// All eight tiles are 16 rows of 64 bytes. The compiler knows of the instruction's first eight bytes only, so this must
/// lie in memory whole: a constant.
struct alignas(64) TileConfiguration {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
constexpr TileConfiguration kConfiguration;

FASTMAX_AMX void configure() { _tile_loadconfig(&kConfiguration); }
FASTMAX_AMX void release() { _tile_release(); }

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

/// M [block][16 Z] += weight times the sum over all panels.
template <int Z>
FASTMAX_AMX void join_channels(const Bits* phi, const Keys* keys, std::size_t count, std::size_t E,
                               std::size_t channel, std::size_t rows, const float* weight, float* M,
                               std::size_t ld) {
  alignas(64) float sums[kBlock * kLanes * Z];
  constexpr int kStride = Z * kRowBytes;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const std::size_t step = E / kChannels * kTile;
  for (std::size_t i = 0; i < count; ++i) {
    const Bits* v = keys[i].values + channel / kChannels * kTile;
    for (std::size_t group = 0; group < kGroups; ++group, phi += 2 * kTile, v += step) {
      _tile_loadd(4, phi, kRowBytes);
      _tile_loadd(6, v, kRowBytes);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(5, phi + kTile, kRowBytes);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (Z == 2) {
        _tile_loadd(7, v + kTile, kRowBytes);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(3, 5, 7);
      }
    }
  }
  _tile_stored(0, sums, kStride);
  _tile_stored(2, sums + 16 * kLanes * Z, kStride);
  if constexpr (Z == 2) {
    _tile_stored(1, sums + kLanes, kStride);
    _tile_stored(3, sums + 16 * kLanes * Z + kLanes, kStride);
  }
  for (std::size_t f = 0; f < rows; ++f) {
    const __m512 w = _mm512_set1_ps(weight[f]);
#pragma GCC unroll 2
    for (int z = 0; z < Z; ++z) {
      float* to = M + f * ld + channel + z * kLanes;
      const __m512 sum = _mm512_load_ps(sums + (f * Z + z) * kLanes);
      _mm512_storeu_ps(to, _mm512_fmadd_ps(w, sum, _mm512_loadu_ps(to)));
    }
  }
}

/// ot [32 channels or 16][32 tokens] (+)= the state's tiles times phi.
template <int R>
FASTMAX_AMX void read_channels(const Bits* phi, const Bits* state, std::size_t count, std::size_t E,
                               std::size_t channel, bool add, float* ot) {
  constexpr int kStride = kPanel * sizeof(float);
  float* const top = ot + channel * kPanel;
  float* const bottom = top + (R - 1) * 16 * kPanel;
  if (add) {
    _tile_loadd(0, top, kStride);
    _tile_loadd(1, top + kLanes, kStride);
    _tile_loadd(2, bottom, kStride);
    _tile_loadd(3, bottom + kLanes, kStride);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  const Bits* a = state + channel / kChannels * kTile;
  for (std::size_t i = 0; i < count; ++i, a += state_size(E), phi += 2 * kTile) {
    _tile_loadd(4, a, kRowBytes);
    _tile_loadd(6, phi, kRowBytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, phi + kTile, kRowBytes);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (R == 2) {
      _tile_loadd(5, a + kTile, kRowBytes);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, top, kStride);
  _tile_stored(1, top + kLanes, kStride);
  if constexpr (R == 2) {
    _tile_stored(2, bottom, kStride);
    _tile_stored(3, bottom + kLanes, kStride);
  }
}

}  // namespace

Tiles::Tiles(bool use) : used_(use) {
  if (used_) configure();
}
Tiles::~Tiles() {
  if (used_) release();
}

bool available() {
  static const bool both = cpu_has_tiles() && system_saves_tiles();
  return both;
}

FASTMAX_AMX void pack_values(const float* rows, std::size_t ld, std::size_t n, const float* mean,
                             std::size_t E, Bits* tiles) {
  for (std::size_t token = 0; token < kPanel; token += 2) {
    Bits* to = tiles + token / kGroup * E / kChannels * kTile + token % kGroup / 2 * 32;
    for (std::size_t e = 0; e < E; e += kChannels, to += kTile) {
      const __m512 m = _mm512_loadu_ps(mean + e);
      const float* row = rows + token * ld + e;
      const __m512 a = token < n ? _mm512_sub_ps(_mm512_loadu_ps(row), m) : _mm512_setzero_ps();
      const __m512 b =
          token + 1 < n ? _mm512_sub_ps(_mm512_loadu_ps(row + ld), m) : _mm512_setzero_ps();
      _mm512_storeu_si512(to, interleave(a, b));
    }
  }
}

FASTMAX_AMX void pack_state(const float* M, std::size_t ld, std::size_t rows, std::size_t E,
                            Bits* tiles) {
  for (std::size_t e = 0; e < E; e += kChannels, tiles += kTile) {
    // Two rows side by side are 16 numbers of 32 bits; transposed, 16 such pairs are an A tile.
    __m512i pairs[16];
    for (std::size_t i = 0; i < 16; ++i) {
      const std::size_t f = 2 * i;
      const __m512 a = f < rows ? _mm512_loadu_ps(M + f * ld + e) : _mm512_setzero_ps();
      const __m512 b = f + 1 < rows ? _mm512_loadu_ps(M + (f + 1) * ld + e) : _mm512_setzero_ps();
      pairs[i] = interleave(a, b);
    }
    transpose(pairs);
    for (std::size_t i = 0; i < 16; ++i) _mm512_storeu_si512(tiles + i * 32, pairs[i]);
  }
}

FASTMAX_AMX void join(const FeatureBlock& block, int p, const Keys* keys, std::size_t count,
                      std::size_t E, const float* weight, const float* value_weight, float* M,
                      std::size_t ld, float* y, Bits* phi) {
  alignas(64) float sums[kBlock * kLanes] = {};
  const std::size_t rows = block.count;
  for (std::size_t i = 0; i < count; ++i) {
    form_rows(block, p, keys[i], phi + i * join_size(), sums);
  }
  std::size_t e = 0;
  for (; e + 2 * kChannels <= E; e += 2 * kChannels)
    join_channels<2>(phi, keys, count, E, e, rows, value_weight, M, ld);
  if (e < E) join_channels<1>(phi, keys, count, E, e, rows, value_weight, M, ld);
  for (std::size_t f = 0; f < rows; ++f)
    y[f] += weight[f] * _mm512_reduce_add_ps(_mm512_load_ps(sums + f * kLanes));
}

FASTMAX_AMX void read(const FeatureBlock* blocks, std::size_t count, int p, const float* x,
                      const Bits* state, const float* y, std::size_t E, bool add, float* ot,
                      float* g) {
  alignas(64) Bits phi[kReadBlocks * 2 * kTile];
  for (std::size_t n = 0; n < kPanel; n += kGroup) {
    for (std::size_t i = 0; i < count; ++i) {
      form_columns(blocks[i], p, x + n, y + (blocks[i].first - blocks[0].first),
                   phi + i * 2 * kTile, g + n);
    }
    std::size_t e = 0;
    for (; e + 2 * kChannels <= E; e += 2 * kChannels)
      read_channels<2>(phi, state, count, E, e, add, ot + n);
    if (e < E) read_channels<1>(phi, state, count, E, e, add, ot + n);
  }
}

#else

bool available() { return false; }
Tiles::Tiles(bool) : used_(false) {}
Tiles::~Tiles() = default;
// Linked, but never called where tiles are not available.
void pack_values(const float*, std::size_t, std::size_t, const float*, std::size_t, Bits*) {}
void pack_state(const float*, std::size_t, std::size_t, std::size_t, Bits*) {}
void join(const FeatureBlock&, int, const Keys*, std::size_t, std::size_t, const float*,
          const float*, float*, std::size_t, float*, Bits*) {}
void read(const FeatureBlock*, std::size_t, int, const float*, const Bits*, const float*,
          std::size_t, bool, float*, float*) {}

#endif

}  // namespace fastmax::cpu::amx
