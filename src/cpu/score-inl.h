// f and its slope in registers: what turns accumulated scores into weights, and e into gradients.
//
// Masks: with lanes = queries, lane l sees row m if l >= m + delta; with lanes = keys, row n sees
// lane m if m <= n + delta.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "src/cpu/layout.h"
#include "src/score.h"

#if defined(FASTMAX_CPU_SCORE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FASTMAX_CPU_SCORE_INL_H_
#undef FASTMAX_CPU_SCORE_INL_H_
#else
#define FASTMAX_CPU_SCORE_INL_H_
#endif

#include "src/cpu/lanes-inl.h"
#include "src/cpu/product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

enum class Lanes : unsigned char { kQueries, kKeys };

/// run.operator()<p>()
template <class Run>
HWY_INLINE void with_order(int p, const Run& run) {
  switch (p) {
    case 1:
      return run.template operator()<1>();
    case 2:
      return run.template operator()<2>();
    case 3:
      return run.template operator()<3>();
    default:
      return run.template operator()<4>();
  }
}

/// f and its slope in units of `leading`, for the accumulated v; see score.h.
template <class T, int P>
struct Score {
  explicit Score(const ShiftedPolynomial& f)
      : start(static_cast<T>(f.start)),
        r0(static_cast<T>(f.r[0])),
        r1(static_cast<T>(f.r[1])),
        r2(static_cast<T>(f.r[2])) {}
  T start, r0, r1, r2;

  HWY_INLINE Vec<T> value(Vec<T> u) const {
    const Tag<T> d;
    if constexpr (P == 1) return u;
    if constexpr (P == 2) return hn::MulAdd(u, u, hn::Set(d, r0));
    if constexpr (P == 3) {
      return hn::MulAdd(hn::MulAdd(u, u, hn::Set(d, r1)), u, hn::Set(d, r0));
    }
    if constexpr (P == 4) {
      const auto square = hn::Mul(u, u);
      return hn::MulAdd(hn::Add(square, hn::Set(d, r2)), square,
                        hn::MulAdd(u, hn::Set(d, r1), hn::Set(d, r0)));
    }
  }
  /// slope(u) * e
  HWY_INLINE Vec<T> slope_times(Vec<T> u, Vec<T> e) const {
    const Tag<T> d;
    if constexpr (P == 1) return e;
    if constexpr (P == 2) return hn::Mul(hn::Add(u, u), e);
    if constexpr (P == 3) {
      return hn::Mul(hn::MulAdd(hn::Mul(u, hn::Set(d, T{3})), u, hn::Set(d, r1)), e);
    }
    if constexpr (P == 4) {
      const auto even = hn::MulAdd(hn::Mul(u, hn::Set(d, T{4})), u, hn::Set(d, T{2} * r2));
      return hn::Mul(hn::MulAdd(even, u, hn::Set(d, r1)), e);
    }
  }
};

/// x where the mask of `lanes` lets row `row` and the lanes from `column` on see each other, else
/// 0.
template <Lanes kLanesAre, class T>
HWY_INLINE Vec<T> keep_visible(Vec<T> x, std::size_t row, std::size_t column, std::int64_t delta) {
  const Tag<T> d;
  const auto at = static_cast<std::int64_t>(row) + delta - static_cast<std::int64_t>(column);
  const auto L = static_cast<std::int64_t>(kLanes<T>);
  if constexpr (kLanesAre == Lanes::kQueries) {
    return hn::IfThenZeroElse(
        hn::FirstN(d, static_cast<std::size_t>(std::clamp<std::int64_t>(at, 0, L))), x);
  } else {
    return hn::IfThenElseZero(
        hn::FirstN(d, static_cast<std::size_t>(std::clamp<std::int64_t>(at + 1, 0, L))), x);
  }
}

/// Epilogue of the scores: weights f(s) w_m to S, their sum over keys to g.
template <class T, int P, bool kMasked>
struct ToWeights {
  Score<T, P> score;
  T* S;
  T* g;
  const T* key_weight;  ///< nullptr: all ones
  std::int64_t delta;

  template <int R, int Z>
  HWY_INLINE void start(Vec<T> (&acc)[R][Z], std::size_t, std::size_t) const {
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) {
      HWY_UNROLL(8)
      for (int z = 0; z < Z; ++z) acc[r][z] = hn::Set(Tag<T>(), score.start);
    }
  }
  template <int R, int Z>
  HWY_INLINE void finish(Vec<T> (&acc)[R][Z], std::size_t row, std::size_t column) const {
    const Tag<T> d;
    Vec<T> sum[Z];
    HWY_UNROLL(8)
    for (int z = 0; z < Z; ++z) sum[z] = hn::LoadU(d, g + column + z * kLanes<T>);
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) {
      HWY_UNROLL(8)
      for (int z = 0; z < Z; ++z) {
        const std::size_t lane = column + z * kLanes<T>;
        auto w = score.value(acc[r][z]);
        if (key_weight) w = hn::Mul(w, hn::Set(d, key_weight[row + r]));
        if constexpr (kMasked) w = keep_visible<Lanes::kQueries, T>(w, row + r, lane, delta);
        sum[z] = hn::Add(sum[z], w);
        hn::StoreU(w, d, S + (row + r) * kPanel + lane);
      }
    }
    HWY_UNROLL(8)
    for (int z = 0; z < Z; ++z) hn::StoreU(sum[z], d, g + column + z * kLanes<T>);
  }
};

/// Epilogue: u = shift + A B to S.
template <class T>
struct StoreFrom : StoreOrAdd<T> {
  T value;

  template <int R, int Z>
  HWY_INLINE void start(Vec<T> (&acc)[R][Z], std::size_t, std::size_t) const {
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) {
      HWY_UNROLL(8)
      for (int z = 0; z < Z; ++z) acc[r][z] = hn::Set(Tag<T>(), value);
    }
  }
};

/// Epilogue of e = d~ . v~ : dS = f'(s) e to dS, and with lanes = keys f(s) to F, where u stood.
template <Lanes kLanesAre, class T, int P, bool kMasked>
struct ToScoreGradients {
  Score<T, P> score;
  T* F;
  T* dS;
  const T* c;           ///< -(d_o . o) / g of each query
  const T* key_weight;  ///< with lanes = queries: of the rows, or nullptr
  std::int64_t delta;

  template <int R, int Z>
  HWY_INLINE void start(Vec<T> (&acc)[R][Z], std::size_t row, std::size_t column) const {
    const Tag<T> d;
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) {
      HWY_UNROLL(8)
      for (int z = 0; z < Z; ++z) {
        acc[r][z] = kLanesAre == Lanes::kQueries ? hn::LoadU(d, c + column + z * kLanes<T>)
                                                 : hn::Set(d, c[row + r]);
      }
    }
  }
  template <int R, int Z>
  HWY_INLINE void finish(Vec<T> (&acc)[R][Z], std::size_t row, std::size_t column) const {
    const Tag<T> d;
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) {
      HWY_UNROLL(8)
      for (int z = 0; z < Z; ++z) {
        const std::size_t lane = column + z * kLanes<T>, at = (row + r) * kPanel + lane;
        const auto u = hn::LoadU(d, F + at);
        auto ds = score.slope_times(u, acc[r][z]);
        if (kLanesAre == Lanes::kQueries && key_weight)
          ds = hn::Mul(ds, hn::Set(d, key_weight[row + r]));
        if constexpr (kMasked) ds = keep_visible<kLanesAre, T>(ds, row + r, lane, delta);
        hn::StoreU(ds, d, dS + at);
        if constexpr (kLanesAre == Lanes::kKeys) {
          auto f = score.value(u);
          if constexpr (kMasked) f = keep_visible<kLanesAre, T>(f, row + r, lane, delta);
          hn::StoreU(f, d, F + at);
        }
      }
    }
  }
};

/// A product of scores: rows of one panel, read by columns, against the lanes of another.
template <class T>
struct ScoreProduct {
  std::size_t rows, vectors;
  std::size_t K;  ///< entries of kappa
  const T* row_x;
  const T* lane_x;
};

/// Weights w_m f(s) of keys (rows) for queries (lanes) to S; their sums over keys are added to g.
template <bool kMasked, class T>
HWY_NOINLINE void weigh(int p, const ShiftedPolynomial& f, const ScoreProduct<T>& a,
                        const T* key_weight, std::int64_t delta, T* S, T* g) {
  const auto run = [&]<int P>() HWY_ATTR {
    product<By::kColumn>(a.rows, a.vectors, a.K, a.row_x, kPanel, a.lane_x, kPanel,
                         ToWeights<T, P, kMasked>{Score<T, P>(f), S, g, key_weight, delta});
  };
  with_order(p, run);
}

/// dS = f'(s) e, and with lanes = keys F = f(s), for e = d~ . v~ of E channels plus c
/// of the query.
template <Lanes kLanesAre, bool kMasked, class T>
HWY_NOINLINE void score_gradients(int p, const ShiftedPolynomial& f, const ScoreProduct<T>& a,
                                  std::size_t E, const T* row_value, const T* lane_value,
                                  const T* c, const T* key_weight, std::int64_t delta, T* F,
                                  T* dS) {
  const auto run = [&]<int P>() HWY_ATTR {
    const Score<T, P> score(f);
    product<By::kColumn>(a.rows, a.vectors, a.K, a.row_x, kPanel, a.lane_x, kPanel,
                         StoreFrom<T>{{F, kPanel, false}, score.start});
    product<By::kColumn>(
        a.rows, a.vectors, E, row_value, kPanel, lane_value, kPanel,
        ToScoreGradients<kLanesAre, T, P, kMasked>{score, F, dS, c, key_weight, delta});
  };
  with_order(p, run);
}

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // FASTMAX_CPU_SCORE_INL_H_
