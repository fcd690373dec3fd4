// bfloat16 and half precision: the definition on the rounded inputs, to the rounding of the outputs.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "fastmax/fastmax.h"
#include "tests/problem.h"
#include "tests/support.h"

namespace fastmax {
namespace {
using namespace testing_support;

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

TEST(Formats, OfTheTestAreTheStandards) {
  EXPECT_EQ(rounded<Float16>(1).bits, 0x3C00);
  EXPECT_EQ(rounded<Float16>(-2).bits, 0xC000);
  EXPECT_EQ(rounded<Float16>(65504).bits, 0x7BFF);
  EXPECT_EQ(rounded<Float16>(std::ldexp(1, -24)).bits, 0x0001);
  EXPECT_EQ(rounded<BFloat16>(1).bits, 0x3F80);
  EXPECT_EQ(rounded<BFloat16>(-3.140625).bits, 0xC049);
  EXPECT_EQ(value(BFloat16{0x4049}), 3.140625);
}

/// A problem whose inputs are numbers of S, its calls on S, and the definition in double.
template <class S>
struct LowPrecision {
  Problem<float> problem;
  Tensor16<S> q, k, v, d_o;
  Tensor16<S> o, dq, dk, dv;
  Tensor<float> g;

  explicit LowPrecision(const Case& c)
      : problem(c),
        q(round_in_place<S>(problem.q)),
        k(round_in_place<S>(problem.k)),
        v(round_in_place<S>(problem.v)),
        d_o(round_in_place<S>(problem.d_o)),
        o(unwritten<S>(problem.d_o.s)),
        dq(unwritten<S>(problem.q.s)),
        dk(unwritten<S>(problem.k.s)),
        dv(unwritten<S>(problem.v.s)),
        g(Tensor<float>::nan({c.B, 1, c.H, c.N})) {}

  ForwardArgs<S> forward_args() {
    return {.q = q.view(),
            .k = k.view(),
            .v = v.view(),
            .key_weight = problem.key_weight(),
            .o = o.view(),
            .g = g.bhn()};
  }
  BackwardArgs<S> backward_args() {
    return {.q = q.view(),
            .k = k.view(),
            .v = v.view(),
            .key_weight = problem.key_weight(),
            .o = o.view(),
            .g = g.bhn(),
            .d_o = d_o.view(),
            .dq = dq.view(),
            .dk = dk.view(),
            .dv = dv.view()};
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

std::vector<Case> low_precision_cases() {
  std::vector<Case> cases;
  for (const int p : {1, 2, 3, 4})
    for (const bool causal : {false, true}) {
      cases.push_back({.B = 2,
                       .H = 4,
                       .Hkv = 2,
                       .N = 90,
                       .M = 133,
                       .D = 9,
                       .E = 7,
                       .p = p,
                       .causal = causal,
                       .weights = Weights::kMask});
      cases.push_back({.N = 1, .M = 1, .D = 3, .E = 1, .p = p, .causal = causal});
      cases.push_back({.N = 257, .M = 257, .D = 16, .E = 33, .p = p, .causal = causal});
    }
  cases.push_back({.N = 0, .M = 3});
  cases.push_back({.N = 3, .M = 0});
  return cases;
}

class Reduced : public testing::TestWithParam<Case> {};

template <class S>
void matches_reference() {
  const Case c = Reduced::GetParam();
  for_each_target([&] {
    for (const Form form : forms(c)) {
      SCOPED_TRACE(form_name(form));
      LowPrecision<S> low(c);
      Outputs<float> truth = low.problem.outputs();
      Gradients<float> gradients = low.problem.gradients();
      reference::forward<double>(low.problem.args(truth), low.problem.options());
      reference::backward<double>(low.problem.args(truth, gradients), low.problem.options());
      forward(low.forward_args(), low.problem.options(form));
      expect_rounded(low.o, truth.o, 3e-4, "o");  // std(v) is 1
      EXPECT_LE(rel_rms(low.g, truth.g), 1e-5);
      backward(low.backward_args(), low.problem.options(form));
      // The gradients see o rounded, of relative size 2^-8 or 2^-11; besides, they are float's.
      const double seen = std::ldexp(2.0, -Format<S>::kFraction);
      expect_rounded(low.dq, gradients.dq, seen * max_abs(gradients.dq) + 1e-6, "dq");
      expect_rounded(low.dk, gradients.dk, seen * max_abs(gradients.dk) + 1e-6, "dk");
      expect_rounded(low.dv, gradients.dv, 1e-4 * max_abs(gradients.dv) + 1e-6, "dv");
    }
  });
}
TEST_P(Reduced, MatchesReferenceInBFloat16) { matches_reference<BFloat16>(); }
TEST_P(Reduced, MatchesReferenceInFloat16) { matches_reference<Float16>(); }
INSTANTIATE_TEST_SUITE_P(Core, Reduced, testing::ValuesIn(low_precision_cases()),
                         [](const auto& info) { return case_name(info.param); });

/// Conversion alone, on every number there is: weights of one key are one, so that o = v.
template <class S>
void every_number_comes_back() {
  for_each_target([] {
    LowPrecision<S> low({.N = 1, .M = 1, .D = 4, .E = 1 << 15});
    for (const int sign : {0, 0x8000}) {
      for (int i = 0; i < 1 << 15; ++i) {
        const S x{static_cast<std::uint16_t>(sign | i)};
        low.v.data[i] = std::isfinite(value(x)) ? x : S{0};
      }
      forward(low.forward_args(), {.form = Form::kDirect});
      for (int i = 0; i < 1 << 15; ++i)
        ASSERT_EQ(value(low.o.data[i]), value(low.v.data[i])) << std::hex << (sign | i);
    }
  });
}
TEST(Reduction, EveryBFloat16ComesBack) { every_number_comes_back<BFloat16>(); }
TEST(Reduction, EveryFloat16ComesBack) { every_number_comes_back<Float16>(); }

/// Ties go to even, and what is too large becomes infinite: sums of two values with weights 1/2 that lie between two
/// numbers of the format.
template <class S>
void ties_go_to_even() {
  for_each_target([] {
    constexpr int kMost = 1 << 14;
    LowPrecision<S> low({.N = 1, .M = 2, .D = 1, .E = kMost});  // D = 1: both keys weigh the same
    for (int i = 0; i < kMost; ++i) {
      low.v.view().head(0, 0)[0][i] = S{static_cast<std::uint16_t>(i)};
      low.v.view().head(0, 0)[1][i] = S{static_cast<std::uint16_t>(i + 1)};
    }
    forward(low.forward_args(), {.form = Form::kDirect});
    for (int i = 0; i < kMost; ++i)
      ASSERT_EQ(low.o.data[i].bits, i % 2 == 0 ? i : i + 1) << std::hex << i;
  });
}
TEST(Reduction, TiesGoToEvenInBFloat16) { ties_go_to_even<BFloat16>(); }
TEST(Reduction, TiesGoToEvenInFloat16) { ties_go_to_even<Float16>(); }

TEST(Reduction, InfinityPropagates) {
  for_each_target([] {
    LowPrecision<Float16> low({.N = 1, .M = 1, .D = 3, .E = 2});
    low.v.data = {{0x7C00}, {0xFC00}};
    forward(low.forward_args(), {.form = Form::kDirect});
    EXPECT_EQ(value(low.o.data[0]), std::numeric_limits<double>::infinity());
    EXPECT_EQ(value(low.o.data[1]), -std::numeric_limits<double>::infinity());
  });
}

/// The workspace that plan says is what calls take: one that is kept never grows past it.
template <class S>
void planned_workspace_is_enough() {
  for (const Form form : {Form::kDirect, Form::kFactorised}) {
    LowPrecision<S> low(
        {.B = 2, .H = 4, .Hkv = 2, .N = 300, .M = 300, .D = 16, .E = 12, .causal = true});
    const Options options = low.problem.options(form);
    for (const int threads : {1, 2}) {
      Workspace workspace;
      const std::size_t forward_bytes = plan(low.forward_args(), options, threads).workspace_bytes;
      forward(low.forward_args(), options, {.threads = threads, .workspace = &workspace});
      EXPECT_LT(workspace.size(), forward_bytes + 4096);
      EXPECT_GE(workspace.size(), forward_bytes);
      const std::size_t backward_bytes =
          plan(low.backward_args(), options, threads).workspace_bytes;
      backward(low.backward_args(), options, {.threads = threads, .workspace = &workspace});
      EXPECT_LT(workspace.size(), std::max(forward_bytes, backward_bytes) + 4096);
    }
  }
}
TEST(Reduction, PlannedWorkspaceIsEnough) {
  planned_workspace_is_enough<BFloat16>();
  planned_workspace_is_enough<Float16>();
}

/// A NaN in one value reaches every row that sees it, and no other channel. (Rows of the same tile that do not see it may
/// get it, too: 0 * NaN.)
template <class S>
void nan_propagates() {
  for_each_target([] {
    for (const Form form : {Form::kDirect, Form::kFactorised}) {
      LowPrecision<S> low({.N = 70, .M = 70, .D = 5, .E = 4, .causal = true});
      low.v.view().head(0, 0)[66][2] = S{0x7FFF};
      forward(low.forward_args(), low.problem.options(form));
      for (std::int64_t n = 0; n < 70; ++n)
        for (std::int64_t e = 0; e < 4; ++e)
          if (n >= 66 || n < 64 || e != 2) {
            EXPECT_EQ(std::isnan(value(low.o.view().head(0, 0)[n][e])), n >= 66 && e == 2)
                << n << " " << e;
          }
    }
  });
}
TEST(Reduction, NanPropagates) {
  nan_propagates<BFloat16>();
  nan_propagates<Float16>();
}

}  // namespace
}  // namespace fastmax
