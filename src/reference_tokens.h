// The tokens of one head after normalisation, and the gradient back through it.
//
//   kStandardize   x^ = (x - mean x) / sqrt(var x + 1e-6)      over the D channels of a token        [eq. 5, 6]
//   kL2            x^ = x / sqrt(|x|^2 + 1e-24)
//   kNone          x^ = x
//   kMaxNorm       x^ = x / mu,  mu = sqrt(|x_a|^2 + 1e-24), a the longest token of the head that has weight
//
// Dropout of tokens makes x^ zero as a whole.
#pragma once
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "fastmax/fastmax.h"
#include "src/dropout.h"

namespace fastmax::reference {

inline constexpr double kVarianceEps =
    1e-6;  ///< inside the root: a constant token becomes zeros, not NaN
inline constexpr double kNormEps = 1e-24;  ///< likewise for the norms of kL2 and kMaxNorm

template <class Acc>
struct Tokens {
  std::int64_t N = 0, D = 0;
  std::vector<Acc> x;         // [N][D]: x^
  std::vector<Acc> divisor;   // [N]: what x, or x - mean x, was divided by
  std::vector<Acc> kept;      // [N]: 0 where dropout zeroed the token, else 1
  std::int64_t longest = -1;  // kMaxNorm: the token that has the largest norm; -1: all are zero

  Acc* operator[](std::int64_t n) { return x.data() + n * D; }
  const Acc* operator[](std::int64_t n) const { return x.data() + n * D; }
};

/// weight (null: all 1) says which tokens count for kMaxNorm.
template <class Acc, class T>
Tokens<Acc> normalize(Rows<const T> x, Normalize how, const T* weight = nullptr) {
  Tokens<Acc> out{x.N, x.D, std::vector<Acc>(x.N * x.D), std::vector<Acc>(x.N, Acc(1)),
                  std::vector<Acc>(x.N, Acc(1))};
  const auto square = [&](std::int64_t n, Acc mean) {
    Acc sum = 0;
    for (const T x_nd : x[n]) sum += (Acc(x_nd) - mean) * (Acc(x_nd) - mean);
    return sum;
  };
  Acc largest = 0;
  for (std::int64_t n = 0; how == Normalize::kMaxNorm && n < x.N; ++n) {
    if (const Acc norm = std::sqrt(square(n, 0)); (!weight || weight[n] > 0) && norm > largest) {
      largest = norm;
      out.longest = n;
    }
  }
  for (std::int64_t n = 0; n < x.N; ++n) {
    Acc mean = 0;
    if (how == Normalize::kStandardize) {
      for (const T x_nd : x[n]) mean += Acc(x_nd) / Acc(x.D);
      out.divisor[n] = std::sqrt(square(n, mean) / Acc(x.D) + Acc(kVarianceEps));
    } else if (how == Normalize::kL2) {
      out.divisor[n] = std::sqrt(square(n, 0) + Acc(kNormEps));
    } else if (how == Normalize::kMaxNorm) {
      out.divisor[n] = out.longest < 0 ? std::numeric_limits<Acc>::infinity()
                                       : std::sqrt(largest * largest + Acc(kNormEps));
    }
    for (std::int64_t d = 0; d < x.D; ++d) out[n][d] = (Acc(x[n][d]) - mean) / out.divisor[n];
  }
  return out;
}

/// Zeroes the tokens that are not kept.
template <class Acc>
void drop_tokens(Tokens<Acc>& x, const Dropout& dropout, Drawn side, std::int64_t b,
                 std::int64_t head) {
  if (!drops_tokens(dropout)) return;
  draw_kept(dropout, side, static_cast<std::size_t>(b), static_cast<std::size_t>(head), 0,
            x.kept.size(), x.kept.data());
  for (std::int64_t n = 0; n < x.N; ++n) {
    for (std::int64_t d = 0; d < x.D; ++d) x[n][d] *= x.kept[n];
  }
}

/// From the gradient d with respect to x^ to that with respect to x, with the divisor s of each token:
///   kStandardize   dx = (d - mean d - x^ mean(d x^)) / s
///   kL2            dx = (d - x^ (d . x^)) / s
///   kNone          dx = d
///   kMaxNorm       dx = d / s, and for the longest token a, through mu: dx_a -= x_a sum_n (x_n . dx_n) / mu^2
template <class Acc, class T>
void normalize_backward(const Tokens<Acc>& x, Normalize how, const std::vector<Acc>& dx_hat,
                        Rows<const T> raw, Rows<T> dx) {
  const bool standardize = how == Normalize::kStandardize;
  std::vector<Acc> d_raw(dx_hat.size());
  for (std::int64_t n = 0; n < x.N; ++n) {
    const Acc* d_n = dx_hat.data() + n * x.D;
    Acc mean = 0, along = 0;
    for (std::int64_t d = 0; d < x.D; ++d) {
      if (standardize) mean += d_n[d] / Acc(x.D);
      if (standardize || how == Normalize::kL2)
        along += d_n[d] * x[n][d] / (standardize ? Acc(x.D) : Acc(1));
    }
    for (std::int64_t d = 0; d < x.D; ++d)
      d_raw[n * x.D + d] = x.kept[n] * (d_n[d] - mean - x[n][d] * along) / x.divisor[n];
  }
  if (x.longest >= 0) {
    Acc dot = 0;
    for (std::int64_t n = 0; n < x.N; ++n)
      for (std::int64_t d = 0; d < x.D; ++d) dot += Acc(raw[n][d]) * d_raw[n * x.D + d];
    const Acc mu = x.divisor[x.longest];
    for (std::int64_t d = 0; d < x.D; ++d)
      d_raw[x.longest * x.D + d] -= Acc(raw[x.longest][d]) * dot / (mu * mu);
  }
  for (std::int64_t n = 0; n < x.N; ++n)
    for (std::int64_t d = 0; d < x.D; ++d) dx[n][d] = T(d_raw[n * x.D + d]);
}

}  // namespace fastmax::reference
