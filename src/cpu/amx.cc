// The tile products of the factorised form (amx.h): tiles are set up, loaded, multiplied and stored, and what the CPU
// and the system allow is asked.
//
//   join   M[f][e] += w_f sum_n phi_f(n) v[n][e]     32 features x 32 channels at a time: two A tiles (phi), two B (v)
//   read   ot[e][n] += sum_f M[f][e] phi_f(n)        32 channels x 32 tokens at a time: two A tiles (M^T), two B (phi)
//
// Four tiles of sums, four of operands, each loaded once for two products: all eight are in use. Operands are made by
// amx-inl.h; sums leave their tiles in float32.
#include "src/cpu/amx.h"

#include "src/cpu/layout.h"

// What the compiler does not offer is not available.
#if defined(__x86_64__) && defined(__linux__) && (defined(__clang__) || __GNUC__ >= 11)
#define FASTMAX_HAS_AMX 1
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/cpu/amx-inl.h"
#endif

namespace fastmax::cpu::amx {

#ifdef FASTMAX_HAS_AMX
namespace {

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
