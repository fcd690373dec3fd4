// Scores of one block of keys against one panel of queries, and what they do to outputs and
// gradients. Used by the direct form for every block, and by the factorised form inside a causal chunk.
//
// Everything lies in panels [dims][64 tokens]. The tokens of one side lie across lanes, those of
// the other are the rows of a product that reads its panel by columns, so no operand is ever
// transposed for it.
// Where a mask cuts a block, vectors of lanes that see nothing of a group of rows are skipped.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "src/cpu/kernels.h"
#include "src/cpu/layout.h"

#if defined(FASTMAX_CPU_DIRECT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FASTMAX_CPU_DIRECT_INL_H_
#undef FASTMAX_CPU_DIRECT_INL_H_
#else
#define FASTMAX_CPU_DIRECT_INL_H_
#endif

#include "src/cpu/lanes-inl.h"
#include "src/cpu/product-inl.h"
#include "src/cpu/score-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

/// Calls body(first row, rows, first lane, vectors) for groups of rows and the lanes that see any
/// of them, and zeroes the other lanes of S (and of F if given).
template <Lanes kLanesAre, class T, class Body>
HWY_INLINE void for_visible_groups(std::size_t rows, std::size_t vectors, std::int64_t delta, T* S,
                                   T* F, const Body& body) {
  constexpr std::size_t L = kLanes<T>, kGroupRows = L > kRows ? L : kRows;
  const auto total = static_cast<std::int64_t>(vectors);
  for (std::size_t row = 0; row < rows; row += kGroupRows) {
    const std::size_t count = std::min(kGroupRows, rows - row);
    const auto first = static_cast<std::int64_t>(row) + delta;
    const auto last = static_cast<std::int64_t>(row + count) + delta;
    std::int64_t from = 0, to = total;
    if constexpr (kLanesAre == Lanes::kQueries) {
      from =
          std::clamp<std::int64_t>(first > 0 ? first / static_cast<std::int64_t>(L) : 0, 0, total);
    } else {
      to = std::clamp<std::int64_t>(
          last > 0 ? (last + static_cast<std::int64_t>(L) - 1) / static_cast<std::int64_t>(L) : 0,
          0, total);
    }
    const auto a = static_cast<std::size_t>(from), b = static_cast<std::size_t>(to);
    for (std::size_t r = row; r < row + count; ++r) {
      for (T* p : {S + r * kPanel, F ? F + r * kPanel : nullptr}) {
        if (!p) continue;
        std::memset(p, 0, a * L * sizeof(T));
        std::memset(p + b * L, 0, (vectors - b) * L * sizeof(T));
      }
    }
    if (b > a) body(row, count, a * L, b - a);
  }
}

/// delta for a part of a block that starts at this row and lane.
HWY_INLINE std::int64_t relative(std::int64_t delta, std::size_t row, std::size_t lane) {
  return delta + static_cast<std::int64_t>(row) - static_cast<std::int64_t>(lane);
}

/// The queries of one panel and what forward accumulates for them.
template <class T>
struct QueryPanel {
  const T* x;     ///< kappa [K][kPanel]
  std::size_t n;  ///< tokens, 1 .. kPanel
  T* ot;          ///< sum f v, [round_up(E, kRows)][kPanel]
  T* g;           ///< sum f, [kPanel]
};

/// Up to kPanel keys.
template <class T>
struct KeyPanel {
  const T* x;     ///< kappa [K][kPanel]
  std::size_t n;  ///< tokens, 1 .. kPanel
  const T* v;     ///< rows of values, readable to round_up(E, kRows)
  std::size_t ldv;
  const T* key_weight;  ///< nullptr: all ones; zeros behind n
};

/// ot (+)= sum_m w_m f(s_mn) v_m and g += sum_m w_m f(s_mn) over the keys of one panel.
/// S is scratch [kPanel][kPanel]. `add` = false overwrites ot.
template <class T>
HWY_NOINLINE void forward_block(const Settings<T>& s, const QueryPanel<T>& q, const KeyPanel<T>& k,
                                std::size_t K, std::size_t E, std::int64_t delta, bool add, T* S) {
  constexpr std::size_t L = kLanes<T>, kHalf = kPanel / 2;
  const Tag<T> d;
  const std::size_t vectors = divide_up(q.n, L), rows = round_up(k.n, kRows),
                    channels = round_up(E, kRows);
  alignas(64) T g[kPanel] = {};  // of this block alone: a long sum then rounds once a block
  const StoreOrAdd<T> to_output{q.ot, kPanel, add};
  if (delta + static_cast<std::int64_t>(k.n) <= 1) {  // the last key is seen by the first query
    weigh<false, T>(s.p, s.score, {rows, vectors, K, k.x, q.x}, k.key_weight, 0, S, g);
    product<By::kColumn>(channels, vectors, k.n, k.v, k.ldv, S, kPanel, to_output);
  } else {
    for_visible_groups<Lanes::kQueries, T>(
        rows, vectors, delta, S, nullptr,
        [&](std::size_t row, std::size_t count, std::size_t lane, std::size_t group) HWY_ATTR {
          weigh<true, T>(s.p, s.score, {count, group, K, k.x + row, q.x + lane},
                         k.key_weight ? k.key_weight + row : nullptr, relative(delta, row, lane),
                         S + row * kPanel + lane, g + lane);
        });
    // The first half of the queries sees fewer keys.
    const auto seen = static_cast<std::size_t>(std::clamp<std::int64_t>(
        static_cast<std::int64_t>(kHalf) - delta, 0, static_cast<std::int64_t>(k.n)));
    const std::size_t half = std::min(vectors, kHalf / L);
    product<By::kColumn>(channels, half, seen, k.v, k.ldv, S, kPanel, to_output);
    if (vectors > half) {
      product<By::kColumn>(channels, vectors - half, k.n, k.v, k.ldv, S + kHalf, kPanel,
                           StoreOrAdd<T>{q.ot + kHalf, kPanel, add});
    }
  }
  for (std::size_t lane = 0; lane < vectors * L; lane += L) {
    hn::StoreU(hn::Add(hn::LoadU(d, q.g + lane), hn::LoadU(d, g + lane)), d, q.g + lane);
  }
}

/// One side of a block of the backward pass.
template <class T>
struct GradientPanel {
  const T* x;      ///< kappa [K][kPanel]
  const T* value;  ///< queries: u = c_p d_o / g; keys: v; both [E][kPanel]
  std::size_t n;
};

/// Scores' gradients of one block: dS (and with lanes = keys F = f) as [rows][kPanel].
template <Lanes kLanesAre, class T>
HWY_INLINE void block_gradients(const Settings<T>& s, const GradientPanel<T>& rows,
                                const GradientPanel<T>& lanes, const T* c, const T* key_weight,
                                std::size_t K, std::size_t E, bool masked, std::int64_t delta, T* F,
                                T* dS) {
  const std::size_t vectors = divide_up(lanes.n, kLanes<T>), count = round_up(rows.n, kRows);
  if (!masked) {
    score_gradients<kLanesAre, false, T>(s.p, s.score, {count, vectors, K, rows.x, lanes.x}, E,
                                         rows.value, lanes.value, c, key_weight, 0, F, dS);
    return;
  }
  for_visible_groups<kLanesAre, T>(
      count, vectors, delta, dS, F,
      [&](std::size_t row, std::size_t n, std::size_t lane, std::size_t group) HWY_ATTR {
        const std::size_t at = row * kPanel + lane;
        score_gradients<kLanesAre, true, T>(
            s.p, s.score, {n, group, K, rows.x + row, lanes.x + lane}, E, rows.value + row,
            lanes.value + lane, kLanesAre == Lanes::kQueries ? c + lane : c + row,
            key_weight ? key_weight + row : nullptr, relative(delta, row, lane), F + at, dS + at);
      });
}

/// dq: dX_q += kappa_k dS over the keys of one block, lanes = queries. delta as in forward_block.
template <class T>
HWY_NOINLINE void backward_queries(const Settings<T>& s, const GradientPanel<T>& q, const T* c,
                                   const GradientPanel<T>& k, const T* key_weight, std::size_t K,
                                   std::size_t E, std::int64_t delta, T* F, T* dS, T* dX) {
  const bool masked = delta + static_cast<std::int64_t>(k.n) > 1;
  block_gradients<Lanes::kQueries>(s, k, q, c, key_weight, K, E, masked, delta, F, dS);
  product<By::kRow>(round_up(K, kRows), divide_up(q.n, kLanes<T>), k.n, k.x, kPanel, dS, kPanel,
                    StoreOrAdd<T>{dX, kPanel, true});
}

/// dk and dv without the key's weight: dX_k (+)= kappa_q dS, dV (+)= u F over the queries of one block,
/// lanes = keys. Leaves dS in dS. Row n sees lane m if m <= n + delta. `add` = false overwrites dX and dV.
template <class T>
HWY_NOINLINE void backward_keys(const Settings<T>& s, const GradientPanel<T>& q, const T* c,
                                const GradientPanel<T>& k, std::size_t K, std::size_t E,
                                std::int64_t delta, bool add, T* F, T* dS, T* dX, T* dV) {
  constexpr std::size_t L = kLanes<T>, kHalf = kPanel / 2;
  const std::size_t vectors = divide_up(k.n, L), dims = round_up(K, kRows),
                    channels = round_up(E, kRows);
  const bool masked =
      static_cast<std::int64_t>(k.n) - 1 > delta;  // the first query misses the last key
  block_gradients<Lanes::kKeys>(s, q, k, c, static_cast<const T*>(nullptr), K, E, masked, delta, F,
                                dS);
  const auto accumulate = [&](std::size_t lane, std::size_t count, std::size_t first) HWY_ATTR {
    const std::size_t n = q.n - first;
    product<By::kRow>(dims, count, n, q.x + first, kPanel, dS + first * kPanel + lane, kPanel,
                      StoreOrAdd<T>{dX + lane, kPanel, add});
    product<By::kRow>(channels, count, n, q.value + first, kPanel, F + first * kPanel + lane,
                      kPanel, StoreOrAdd<T>{dV + lane, kPanel, add});
  };
  if (!masked) return accumulate(0, vectors, 0);
  // The second half of the keys is seen by later queries only.
  const auto first_of = [&](std::size_t lane) {
    return static_cast<std::size_t>(std::clamp<std::int64_t>(
        static_cast<std::int64_t>(lane) - delta, 0, static_cast<std::int64_t>(q.n)));
  };
  const std::size_t half = std::min(vectors, kHalf / L);
  accumulate(0, half, first_of(0));
  if (vectors > half) accumulate(kHalf, vectors - half, first_of(kHalf));
}

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // FASTMAX_CPU_DIRECT_INL_H_
