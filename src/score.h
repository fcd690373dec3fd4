// f as a polynomial of one shifted variable, so that kernels evaluate it in the fewest operations.
//
//   f(s) = sum_l c_l s^l = c_p (u^p + r_{p-2} u^{p-2} + ... + r_0),   u = s + c_{p-1} / (p c_p)
//
// The shift removes the term of degree p - 1 and costs nothing: kernels start their accumulators at
// it. The leading factor cancels in the quotient and is applied to the denominator and the gradient
// only.
#pragma once
#include <array>

namespace fastmax {

inline constexpr int kMaxOrder = 4;

/// c_0 .. c_p; the rest are zero.
using Coefficients = std::array<double, kMaxOrder + 1>;

/// 1 / l!                                                                                 [eq. 8]
constexpr Coefficients taylor_coefficients(int p) {
  Coefficients c{1, 1, 1.0 / 2, 1.0 / 6, 1.0 / 24};
  for (int l = p + 1; l <= kMaxOrder; ++l) c[l] = 0;
  return c;
}

struct ShiftedPolynomial {
  double leading = 1;         ///< c_p
  double shift = 0;           ///< u = s + shift
  std::array<double, 3> r{};  ///< r_0 .. r_{p-2}
};

constexpr ShiftedPolynomial shifted_polynomial(int p, const Coefficients& c) {
  ShiftedPolynomial f{.leading = c[p], .shift = c[p - 1] / (p * c[p])};
  Coefficients m{};
  for (int l = 0; l <= p; ++l) m[l] = c[l] / c[p];
  // Taylor shift by Horner's rule: m(s) with s = u - shift.
  for (int i = 0; i < p; ++i) {
    for (int l = p - 1; l >= i; --l) m[l] -= f.shift * m[l + 1];
  }
  for (int l = 0; l + 2 <= p; ++l) f.r[l] = m[l];
  return f;
}

}  // namespace fastmax
