// f as a polynomial of one shifted variable, so that kernels evaluate it in the fewest operations.
//
//   f(s) = sum_l c_l s^l = c_p (u^p + r_{p-2} u^{p-2} + ... + r_0),   u = s + c_{p-1} / (p c_p)
//
// The shift removes the term of degree p - 1 and costs nothing: kernels start their accumulators at
// it. The leading factor cancels in the quotient and is applied to the denominator and the gradient only.
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

/// f in terms of what a kernel accumulates, unit * (1 + s), with `start` added: v = unit * u.
struct ShiftedPolynomial {
  double leading = 1;         ///< f = leading * (v^p + r_{p-2} v^{p-2} + .. + r_0)
  double start = 0;           ///< what the accumulator of unit * (1 + s) begins with
  std::array<double, 3> r{};  ///< r_0 .. r_{p-2}
};

/// A power of two as `unit` changes no rounding.
constexpr ShiftedPolynomial shifted_polynomial(int p, const Coefficients& c, double unit) {
  const double shift = c[p - 1] / (p * c[p]);
  Coefficients m{};
  for (int l = 0; l <= p; ++l) m[l] = c[l] / c[p];
  // Taylor shift by Horner's rule: m(s) with s = u - shift.
  for (int i = 0; i < p; ++i) {
    for (int l = p - 1; l >= i; --l) m[l] -= shift * m[l + 1];
  }
  ShiftedPolynomial f{.leading = c[p], .start = unit * (shift - 1)};
  double power = 1;
  for (int l = p; l >= 0; --l, power *= unit) {
    if (l + 2 <= p) f.r[l] = m[l] * power;
  }
  f.leading /= power / unit;
  return f;
}

}  // namespace fastmax
