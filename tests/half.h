// Problems whose elements are bfloat16 or half precision, and how far their outputs may lie from the truth.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "fastmax/fastmax.h"
#include "tests/problem.h"
#include "tests/support.h"

namespace fastmax::testing_support {

/// What each type holds: bits of fraction, and the exponent of its smallest normal number.
template <class S>
struct Format;
template <>
struct Format<BFloat16> {
  static constexpr int kFraction = 7, kExponent = 8;
};
template <>
struct Format<Float16> {
  static constexpr int kFraction = 10, kExponent = 5;
};

/// By the definition of the formats, without a hardware conversion.
template <class S>
double value(S x) {
  using F = Format<S>;
  const int bias = (1 << (F::kExponent - 1)) - 1, top = (1 << F::kExponent) - 1;
  const int exponent = (x.bits >> F::kFraction) & top;
  const double fraction = x.bits & ((1 << F::kFraction) - 1), sign = x.bits >> 15 ? -1 : 1;
  if (exponent == top)
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity()
                         : std::numeric_limits<double>::quiet_NaN();
  const double mantissa = fraction / (1 << F::kFraction) + (exponent > 0 ? 1 : 0);
  return sign * std::ldexp(mantissa, std::max(exponent, 1) - bias);
}
/// The nearest, ties to even.
template <class S>
S rounded(double x) {
  using F = Format<S>;
  const int bias = (1 << (F::kExponent - 1)) - 1;
  const auto sign = static_cast<std::uint16_t>(std::signbit(x) ? 0x8000 : 0);
  int exponent = 0;
  std::frexp(std::abs(x), &exponent);
  exponent = std::max(exponent - 1, 1 - bias);
  const double units = std::nearbyint(std::ldexp(std::abs(x), F::kFraction - exponent));
  const auto magnitude =
      static_cast<int>(units) + ((exponent + bias - 1) << F::kFraction);  // a carry is an exponent
  return {static_cast<std::uint16_t>(sign | magnitude)};
}
/// The distance of x from its neighbours in the format, half of which rounding costs.
template <class S>
double unit_of(double x) {
  const int bias = (1 << (Format<S>::kExponent - 1)) - 1;
  int exponent = 0;
  std::frexp(x, &exponent);
  return std::ldexp(1.0, std::max(exponent - 1, 1 - bias) - Format<S>::kFraction);
}

template <class S>
struct Tensor16 {
  Shape s;
  std::vector<S> data;
  BhndView<S> view() { return contiguous(data.data(), s.B, s.H, s.N, s.D); }
};
template <class S>
Tensor16<S> unwritten(Shape s) {
  return {s, std::vector<S>(static_cast<std::size_t>(s.B * s.H * s.N * s.D), S{0xFFFF})};  // NaN
}
/// Rounds a float tensor in place, and gives it as S.
template <class S>
Tensor16<S> round_in_place(Tensor<float>& x) {
  Tensor16<S> out = unwritten<S>(x.s);
  for_each_pair(x.view(), out.view(), [](float& wide, S& narrow) {
    narrow = rounded<S>(wide);
    wide = static_cast<float>(value(narrow));
  });
  return out;
}

/// A problem whose inputs are numbers of S, its calls on S, and the same numbers in float for the definition.
template <class S>
struct LowPrecision {
  Problem<float> problem;
  Tensor16<S> q, k, v, d_o;
  Tensor16<S> o, dq, dk, dv;
  Outputs<float> out;          // its g and final state are the call's; its o is not
  Gradients<float> gradients;  // likewise its d_initial_state

  explicit LowPrecision(Problem<float> given)
      : problem(std::move(given)),
        q(round_in_place<S>(problem.q)),
        k(round_in_place<S>(problem.k)),
        v(round_in_place<S>(problem.v)),
        d_o(round_in_place<S>(problem.d_o)),
        o(unwritten<S>(problem.d_o.s)),
        dq(unwritten<S>(problem.q.s)),
        dk(unwritten<S>(problem.k.s)),
        dv(unwritten<S>(problem.v.s)),
        out(problem.outputs()),
        gradients(problem.gradients()) {}
  explicit LowPrecision(const Case& c) : LowPrecision(Problem<float>(c)) {}

  ForwardArgs<S> forward_args() {
    const auto a = problem.args(out);
    return {.q = q.view(),
            .k = k.view(),
            .v = v.view(),
            .key_weight = a.key_weight,
            .o = o.view(),
            .g = a.g,
            .initial_state = a.initial_state,
            .final_state = a.final_state};
  }
  BackwardArgs<S> backward_args() {
    const auto a = problem.args(out, gradients);
    return {.q = q.view(),
            .k = k.view(),
            .v = v.view(),
            .key_weight = a.key_weight,
            .o = o.view(),
            .g = a.g,
            .d_o = d_o.view(),
            .dq = dq.view(),
            .dk = dk.view(),
            .dv = dv.view(),
            .initial_state = a.initial_state,
            .d_final_state = a.d_final_state,
            .d_initial_state = a.d_initial_state};
  }
};

/// Each element within half a unit of its own rounding, and `absolute`, of the truth.
template <class S>
void expect_rounded(Tensor16<S>& got, Tensor<float>& truth, double absolute, const char* name) {
  double worst = 0;
  for_each_pair(got.view(), truth.view(), [&](S x, float y) {
    const double excess = (std::abs(value(x) - y) - 0.5 * unit_of<S>(y)) / absolute;
    if (!(excess <= worst)) worst = excess;
  });
  EXPECT_LE(worst, 1) << name;
}

}  // namespace fastmax::testing_support
