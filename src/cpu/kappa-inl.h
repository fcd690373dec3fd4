// Tokens to kappa and back, through the normalisation.
//
//   kStandardize   x^ = (x - mean x) / sqrt(var x + eps)                                            [eq. 5, 6]
//   kL2            x^ = x / sqrt(|x|^2 + eps)
//   else           x^ = x
//
// A standardised x^ is orthogonal to the ones vector, so it lives in D - 1 dimensions: the Householder reflection H
// that sends ones / sqrt(D) to e_0 makes x'' = H x^ with x''_0 = 0 and leaves every inner product as it was. Slot 0
// then holds the constant 1:
//
//   kappa = [one, scale x''_1, .., scale x''_{D-1}],   x''_j = x^_j + x^_0 / (sqrt(D) - 1)
//
// The others keep their D dimensions behind slot 0: kappa = [one, scale x^_0, .., scale x^_{D-1}]. With [1, scale] for
// queries and [unit, unit] for keys, kappa_q . kappa_k = unit (1 + s).
//
// Lanes are tokens: mean and variance are vertical sums, and nothing here depends on D.
#include <cmath>
#include <cstddef>
#include <limits>

#include "fastmax/fastmax.h"
#include "hwy/highway.h"
#include "src/cpu/layout.h"

#if defined(FASTMAX_CPU_KAPPA_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FASTMAX_CPU_KAPPA_INL_H_
#undef FASTMAX_CPU_KAPPA_INL_H_
#else
#define FASTMAX_CPU_KAPPA_INL_H_
#endif

#include "src/cpu/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

inline constexpr double kVarianceFloor =
    1e-6;  // inside the root, so that a constant token gives zeros
inline constexpr double kNormFloor = 1e-24;  // likewise for a zero token under kL2
/// Takes any finite x to where the sum of its squares is finite.
template <class T>
inline constexpr T kShrink = sizeof(T) == 4 ? T(0x1p-70) : T(0x1p-540);

/// How kappa is made of x^.
template <class T>
struct Kappa {
  Normalize normalize;
  T one;               ///< slot 0
  T scale;             ///< of the other slots
  bool whole = false;  ///< lanes are zero to the end of the panel, not only the used ones

  bool reflects() const { return normalize == Normalize::kStandardize; }
};

/// One vector of tokens, x[token][D], to x'' in X [D][kPanel] (slot 0 undefined); returns 1 / sqrt(var + eps).
///
/// With c = x - m, where m is the mean but for its rounding, which a large mean makes large beside sigma, and r = sum c:
///
///   var = sum c^2 / D - (r / D)^2,   x''_j = (c_j + (c_0 - r / sqrt(D)) / (sqrt(D) - 1)) / sigma
template <class T>
HWY_INLINE Vec<T> standardize_lanes(const T* x, std::size_t stride, std::size_t tokens,
                                    std::size_t D, T scale, T* column) {
  const Tag<T> d_tag;
  const auto per_dim = hn::Set(d_tag, T{1} / static_cast<T>(D));
  auto rest = hn::Zero(d_tag), var = hn::Zero(d_tag);
  const auto center = [&](Vec<T> shrink) HWY_ATTR {
    const auto zero = hn::Zero(d_tag);
    Vec<T> sum[2] = {zero, zero}, square[2] = {zero, zero};
    for_each_column(x, stride, tokens, D,
                    [&](std::size_t d, std::size_t parity, Vec<T> v) HWY_ATTR {
                      v = hn::Mul(shrink, v);
                      sum[parity] = hn::Add(sum[parity], v);
                      hn::StoreU(v, d_tag, column + d * kPanel);
                    });
    const auto mean = hn::Mul(per_dim, hn::Add(sum[0], sum[1]));
    sum[0] = sum[1] = zero;
    const auto add = [&](std::size_t d, std::size_t parity) HWY_ATTR {
      const auto c = hn::Sub(hn::LoadU(d_tag, column + d * kPanel), mean);
      sum[parity] = hn::Add(sum[parity], c);
      square[parity] = hn::MulAdd(c, c, square[parity]);
      hn::StoreU(c, d_tag, column + d * kPanel);
    };
    for (std::size_t d = 0; d + 1 < D; d += 2) {
      add(d, 0);
      add(d + 1, 1);
    }
    if (D % 2 == 1) add(D - 1, 0);
    rest = hn::Add(sum[0], sum[1]);
    const auto mean_c = hn::Mul(per_dim, rest);
    var = hn::NegMulAdd(mean_c, mean_c, hn::Mul(per_dim, hn::Add(square[0], square[1])));
  };
  auto shrink = hn::Set(d_tag, T{1}), epsilon = hn::Set(d_tag, static_cast<T>(kVarianceFloor));
  center(shrink);
  const auto finite = hn::Le(var, hn::Set(d_tag, std::numeric_limits<T>::max()));
  if (HWY_UNLIKELY(!hn::AllTrue(d_tag, finite))) {
    // Sums of huge tokens overflow: those shrink first, and their eps is nothing beside var. The others come out the
    // same again: no token's bits depend on its neighbours.
    shrink = hn::IfThenElse(finite, shrink, hn::Set(d_tag, kShrink<T>));
    epsilon = hn::IfThenElseZero(finite, epsilon);
    center(shrink);
  }
  const T root = std::sqrt(static_cast<T>(D));
  // var of a constant token is the rounding of zero, of either sign.
  const auto inverse =
      hn::Div(hn::Set(d_tag, T{1}), hn::Sqrt(hn::Add(hn::Max(var, hn::Zero(d_tag)), epsilon)));
  const auto f = hn::Mul(inverse, hn::Set(d_tag, scale));
  const auto reflected =
      hn::Mul(hn::NegMulAdd(rest, hn::Set(d_tag, T{1} / root), hn::LoadU(d_tag, column)),
              hn::Set(d_tag, D > 1 ? T{1} / (root - T{1}) : T{0}));
  const auto shift = hn::Mul(f, reflected);
  for (std::size_t d = 1; d < D; ++d) {
    T* at = column + d * kPanel;
    hn::StoreU(hn::MulAdd(f, hn::LoadU(d_tag, at), shift), d_tag, at);
  }
  return hn::Mul(inverse, shrink);
}

/// x in X [D][kPanel], one vector of lanes, to scale x / sqrt(|x|^2 + eps); returns 1 / sqrt(|x|^2 + eps).
template <class T>
HWY_INLINE Vec<T> l2_lanes(T* column, std::size_t D, T scale) {
  const Tag<T> d_tag;
  const auto square_of = [&](Vec<T> factor) HWY_ATTR {
    auto square = hn::Zero(d_tag);
    for (std::size_t d = 0; d < D; ++d) {
      const auto c = hn::Mul(factor, hn::LoadU(d_tag, column + d * kPanel));
      square = hn::MulAdd(c, c, square);
    }
    return square;
  };
  auto shrink = hn::Set(d_tag, T{1}), epsilon = hn::Set(d_tag, static_cast<T>(kNormFloor));
  auto square = square_of(shrink);
  const auto finite = hn::Le(square, hn::Set(d_tag, std::numeric_limits<T>::max()));
  if (HWY_UNLIKELY(!hn::AllTrue(d_tag, finite))) {
    shrink = hn::IfThenElse(finite, shrink, hn::Set(d_tag, kShrink<T>));
    epsilon = hn::IfThenElseZero(finite, epsilon);
    square = square_of(shrink);
  }
  const auto inverse =
      hn::Mul(shrink, hn::Div(hn::Set(d_tag, T{1}), hn::Sqrt(hn::Add(square, epsilon))));
  const auto f = hn::Set(d_tag, scale);
  for (std::size_t d = 0; d < D; ++d) {
    // In this order the product with a huge x cannot overflow and that with a tiny one cannot vanish.
    hn::StoreU(hn::Mul(f, hn::Mul(inverse, hn::LoadU(d_tag, column + d * kPanel))), d_tag,
               column + d * kPanel);
  }
  return inverse;
}

/// x[n][D] rows to kappa X [round_up(K, kRows)][kPanel]; absent tokens in used lanes are zero, slot 0 included. keep[kPanel], if
/// given, multiplies x^ token by token. inverse[kPanel], if given, gets d x^ / d x's factor: 1 / sqrt(var + eps),
/// 1 / |x| or 1, times keep.
template <class T>
HWY_NOINLINE void pack_kappa(const Kappa<T>& kappa, const T* x, std::size_t stride, std::size_t n,
                             std::size_t D, const T* keep, T* X, T* inverse) {
  const Tag<T> d_tag;
  constexpr std::size_t L = kLanes<T>;
  const std::size_t first = kappa.reflects() ? 0 : 1, K = D + first;
  const std::size_t lanes = kappa.whole ? kPanel : used_lanes<T>(n);
  for (std::size_t lane = 0; lane < lanes; lane += L, x += L * stride) {
    const std::size_t tokens = tokens_from<T>(n, lane);
    if (tokens == 0) {
      zero_lanes(X, 0, round_up(K, kRows), lane);
      if (inverse) hn::StoreU(hn::Zero(d_tag), d_tag, inverse + lane);
      continue;
    }
    T* const column = X + first * kPanel + lane;
    auto factor = hn::Set(d_tag, T{1});
    if (kappa.normalize == Normalize::kStandardize) {
      factor = standardize_lanes(x, stride, tokens, D, kappa.scale, column);
    } else {
      for_each_column(x, stride, tokens, D, [&](std::size_t d, std::size_t, Vec<T> v) HWY_ATTR {
        hn::StoreU(v, d_tag, column + d * kPanel);
      });
    }
    if (kappa.normalize == Normalize::kL2) {
      factor = l2_lanes(column, D, kappa.scale);
    } else if (!kappa.reflects()) {
      for (std::size_t d = 0; d < D; ++d) {
        T* at = column + d * kPanel;
        hn::StoreU(hn::Mul(hn::Set(d_tag, kappa.scale), hn::LoadU(d_tag, at)), d_tag, at);
      }
    }
    if (keep) {
      const auto kept = hn::LoadU(d_tag, keep + lane);
      const auto stays = hn::Ne(kept, hn::Zero(d_tag));
      factor = hn::Mul(factor, kept);
      for (std::size_t j = 1; j < K; ++j) {
        T* at = X + j * kPanel + lane;
        const auto x = hn::Mul(kept, hn::LoadU(d_tag, at));
        hn::StoreU(hn::IfThenElseZero(stays, x), d_tag, at);  // whatever x^ would be
      }
    }
    if (inverse) hn::StoreU(factor, d_tag, inverse + lane);
    const auto one = hn::Set(d_tag, kappa.one);
    hn::StoreU(tokens >= L ? one : hn::IfThenElseZero(hn::FirstN(d_tag, tokens), one), d_tag,
               X + lane);
    zero_lanes(X, K, round_up(K, kRows), lane);
  }
}

/// The gradient with respect to kappa, dX [K][kPanel] (overwritten), back to the rows of dx. With
/// g_j = scale dX_j (j >= 1) the gradient with respect to x^ or x'':
///
///   kStandardize:  v = g - x'' (x'' . g) / D,   dx = H [0, v] / sqrt(var + eps)
///   kL2:           dx = (g - x^ (x^ . g)) / |x|
///   else:          dx = g
///
/// The mean that the gradient of kStandardize subtracts is zero here: H [0, v] is orthogonal to ones.
/// X and inverse are what pack_kappa made; token_weight, if given, multiplies each token's row.
template <class T>
HWY_NOINLINE void unpack_kappa_gradient(const Kappa<T>& kappa, T* dX, const T* X, const T* inverse,
                                        std::size_t D, const T* token_weight, std::size_t n, T* dx,
                                        std::size_t stride) {
  const Tag<T> d_tag;
  const std::size_t first = kappa.reflects() ? 0 : 1, K = D + first;
  const bool projects = kappa.reflects() || kappa.normalize == Normalize::kL2;
  const T root = std::sqrt(static_cast<T>(D));
  const auto scale = hn::Set(d_tag, kappa.scale);
  // X holds scale x''.
  const auto shrink =
      hn::Set(d_tag, T{1} / (kappa.scale * (kappa.reflects() ? static_cast<T>(D) : T{1})));
  for (std::size_t lane = 0; lane < n; lane += kLanes<T>) {
    auto along = hn::Zero(d_tag);
    if (projects) {
      auto dot = hn::Zero(d_tag), other = hn::Zero(d_tag);  // two, to hide the latency of one
      std::size_t j = 1;
      for (; j + 1 < K; j += 2) {
        const std::size_t at = j * kPanel + lane, next = at + kPanel;
        dot = hn::MulAdd(hn::LoadU(d_tag, X + at), hn::LoadU(d_tag, dX + at), dot);
        other = hn::MulAdd(hn::LoadU(d_tag, X + next), hn::LoadU(d_tag, dX + next), other);
      }
      if (j < K)
        dot = hn::MulAdd(hn::LoadU(d_tag, X + j * kPanel + lane),
                         hn::LoadU(d_tag, dX + j * kPanel + lane), dot);
      along = hn::Mul(hn::Add(dot, other), shrink);
    }
    auto sum = hn::Zero(d_tag);
    for (std::size_t j = 1; j < K; ++j) {
      const std::size_t at = j * kPanel + lane;
      const auto v =
          hn::NegMulAdd(hn::LoadU(d_tag, X + at), along, hn::Mul(scale, hn::LoadU(d_tag, dX + at)));
      hn::StoreU(v, d_tag, dX + at);
      sum = hn::Add(sum, v);
    }
    auto reflected = hn::Zero(d_tag);
    if (kappa.reflects()) {
      const auto total = hn::Mul(sum, hn::Set(d_tag, T{1} / root));
      reflected = hn::Mul(total, hn::Set(d_tag, D > 1 ? T{1} / (root - T{1}) : T{0}));
      hn::StoreU(hn::Add(total, reflected), d_tag,
                 dX + lane);  // so that every row subtracts `reflected`
    }
    auto f = hn::LoadU(d_tag, inverse + lane);
    if (token_weight) f = hn::Mul(f, hn::LoadU(d_tag, token_weight + lane));
    write_columns(dx + lane * stride, stride, n - lane, D, [&](std::size_t d) HWY_ATTR {
      return hn::Mul(f, hn::Sub(hn::LoadU(d_tag, dX + (d + first) * kPanel + lane), reflected));
    });
  }
}

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // FASTMAX_CPU_KAPPA_INL_H_
