// The definition judges every kernel, so it is judged here by hand-computed numbers and by finite differences.
#include "src/reference.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "tests/problem.h"
#include "tests/support.h"

namespace fastmax {
namespace {
using namespace testing_support;

TEST(Reference, IsTheTaylorPolynomial) {
  EXPECT_DOUBLE_EQ(reference::score(0.5, 1), 1.5);
  EXPECT_DOUBLE_EQ(reference::score(0.5, 2), 1.625);
  EXPECT_DOUBLE_EQ(reference::score(-2.0, 3), 1 - 2 + 2 - 8.0 / 6);
  EXPECT_DOUBLE_EQ(reference::score(-2.0, 4), 1 - 2 + 2 - 8.0 / 6 + 16.0 / 24);
  EXPECT_DOUBLE_EQ(reference::score(7.0, 0), 1);
}

TEST(Reference, DefaultScaleKeepsOddOrdersNonNegative) {
  EXPECT_EQ(default_scale(2, 7), 1);
  EXPECT_EQ(default_scale(4, 7), 1);
  EXPECT_DOUBLE_EQ(default_scale(1, 8), 0.125);
  const double root = -8 * default_scale(3, 8);
  EXPECT_NEAR(reference::score(root, 3), 0, 1e-12);
  EXPECT_GE(reference::score(root, 3), -1e-15);
}

// Two tokens of two channels. Every token normalises to (-a, a) or (a, -a) with a = 1 up to eps, so
// that s = +-2 a^2 and f_2 is 5 or 1 at eps = 0. eps shifts these by 1e-6 / variance.
TEST(Reference, MatchesTwoTokensByHand) {
  std::vector<double> q{0, 2, 4, 0}, k{-10, 10, 30, 10}, v{1, 10, 2, 20};
  std::vector<double> o(4, NAN), g(2, NAN);
  const ForwardArgs<double> args{.q = contiguous<const double>(q.data(), 1, 1, 2, 2),
                                 .k = contiguous<const double>(k.data(), 1, 1, 2, 2),
                                 .v = contiguous<const double>(v.data(), 1, 1, 2, 2),
                                 .o = contiguous(o.data(), 1, 1, 2, 2),
                                 .g = contiguous(g.data(), 1, 1, 2)};
  reference::forward<double>(args, {.p = 2});
  EXPECT_NEAR(g[0], 6, 1e-5);  // f(2) + f(-2) = 5 + 1
  EXPECT_NEAR(o[0], (5 * 1 + 1 * 2) / 6.0, 1e-5);
  EXPECT_NEAR(o[1], (5 * 10 + 1 * 20) / 6.0, 1e-4);
  EXPECT_NEAR(o[2], (1 * 1 + 5 * 2) / 6.0, 1e-5);

  reference::forward<double>(args, {.p = 2, .causal = true});
  EXPECT_NEAR(g[0], 5, 1e-5);
  EXPECT_EQ(o[0], 1);
  EXPECT_EQ(o[1], 10);
  EXPECT_NEAR(o[2], (1 * 1 + 5 * 2) / 6.0, 1e-5);

  std::vector<double> w{3, 1};
  ForwardArgs<double> weighted = args;
  weighted.key_weight = contiguous<const double>(w.data(), 1, 2);
  reference::forward<double>(weighted, {.p = 2});
  EXPECT_NEAR(g[0], 16, 1e-4);  // 3 * 5 + 1
  EXPECT_NEAR(o[2], (3 * 1 * 1 + 5 * 2) / 8.0, 1e-5);
}

TEST(Reference, ChannelsAreStandardised) {
  std::vector<double> x{1, 2, 3, 6, 5, 5, 5, 5};
  const auto tokens =
      reference::normalize<double>(Rows<const double>{x.data(), 2, 4, 4}, Normalize::kStandardize);
  const double std = std::sqrt(3.5 + 1e-6);  // mean 3, population variance (4 + 1 + 0 + 9) / 4
  EXPECT_DOUBLE_EQ(tokens[0][0], -2 / std);
  EXPECT_DOUBLE_EQ(tokens[0][3], 3 / std);
  for (int d = 0; d < 4; ++d) EXPECT_EQ(tokens[1][d], 0);  // a constant token, not NaN
}

TEST(Reference, CausalIsAlignedBottomRight) {
  Problem<double> problem({.N = 2, .M = 5, .causal = true});
  auto out = problem.outputs();
  for (const std::int64_t n : {0, 1}) {
    const auto a =
        reference::attention_weights<double>(problem.args(out), problem.options(), 0, 0)[n];
    for (std::int64_t m = 0; m < 5; ++m) EXPECT_EQ(a[m] != 0, m <= n + 3) << n << " " << m;
  }
}

TEST(Reference, RowsSumToOneAndGiveTheOutput) {
  for (const int p : {1, 2, 3, 4}) {
    Problem<double> problem(
        {.N = 6, .M = 9, .D = 5, .p = p, .causal = true, .weights = Weights::kFractional});
    auto out = problem.outputs();
    reference::forward<double>(problem.args(out), problem.options());
    const auto v = problem.v.view().head(0, 0), o = out.o.view().head(0, 0);
    for (std::int64_t n = 0; n < 6; ++n) {
      const auto a =
          reference::attention_weights<double>(problem.args(out), problem.options(), 0, 0)[n];
      EXPECT_NEAR(std::accumulate(a.begin(), a.end(), 0.0), 1, 1e-14);
      double o_0 = 0;
      for (std::int64_t m = 0; m < 9; ++m) o_0 += a[m] * v[m][0];
      EXPECT_NEAR(o_0, o[n][0], 1e-13);
    }
  }
}

TEST(Reference, RowsWithoutWeightAreZero) {
  Problem<double> problem({.B = 2, .N = 3, .M = 4, .weights = Weights::kZero});
  auto out = problem.outputs();
  auto gradients = problem.gradients();
  reference::forward<double>(problem.args(out), problem.options());
  reference::backward<double>(problem.args(out, gradients), problem.options());
  for (std::int64_t n = 0; n < 3; ++n) {
    EXPECT_EQ(out.g.bhn().head(0, 0)[n], 0);
    for (const double x : out.o.view().head(0, 0)[n]) EXPECT_EQ(x, 0);
    for (const double x : gradients.dq.view().head(0, 0)[n]) EXPECT_EQ(x, 0);
    EXPECT_GT(out.g.bhn().head(1, 0)[n], 0);
  }
  for (std::int64_t m = 0; m < 4; ++m)
    for (const double x : gradients.dv.view().head(0, 0)[m]) EXPECT_EQ(x, 0);
}

// A key opposite to the query: f_1 = 1 + s is 0 up to eps, below the floor.
TEST(Reference, OddOrdersFloorTheDenominator) {
  for (const int p : {1, 3}) {
    std::vector<double> q{1e6, 2e6, -4e6}, k{-1e6, -2e6, 4e6}, v{3, 5}, o(2), g(1), w{2}, d_o{1, 1};
    std::vector<double> dq(3, NAN), dk(3, NAN), dv(2, NAN);
    const ForwardArgs<double> args{.q = contiguous<const double>(q.data(), 1, 1, 1, 3),
                                   .k = contiguous<const double>(k.data(), 1, 1, 1, 3),
                                   .v = contiguous<const double>(v.data(), 1, 1, 1, 2),
                                   .key_weight = contiguous<const double>(w.data(), 1, 1),
                                   .o = contiguous(o.data(), 1, 1, 1, 2),
                                   .g = contiguous(g.data(), 1, 1, 1)};
    reference::forward<double>(args, {.p = p});
    EXPECT_EQ(g[0], 2 * kDenominatorFloor<double>);
    EXPECT_LT(std::abs(o[0]), 3);
    // With g' constant, do/dv = w f / g', the weight that was applied.
    reference::backward<double>(
        BackwardArgs<double>{.q = args.q,
                             .k = args.k,
                             .v = args.v,
                             .key_weight = args.key_weight,
                             .o = args.o,
                             .g = args.g,
                             .d_o = contiguous<const double>(d_o.data(), 1, 1, 1, 2),
                             .dq = contiguous(dq.data(), 1, 1, 1, 3),
                             .dk = contiguous(dk.data(), 1, 1, 1, 3),
                             .dv = contiguous(dv.data(), 1, 1, 1, 2)},
        {.p = p});
    EXPECT_NEAR(dv[0], o[0] / 3, 1e-12);
    for (const double x : dq) EXPECT_TRUE(std::isfinite(x));
  }
}

struct GradientCase {
  Case c;
  Options base{.floor = Floor::kClamp};
  bool states = false;
};
void PrintTo(const GradientCase& g, std::ostream* out) {
  *out << case_name(g.c) << options_name(g.base) << (g.states ? "_states" : "");
}
class FiniteDifferences : public testing::TestWithParam<GradientCase> {};

/// sum of o * d_o, and of the final state times its gradient: the function whose gradient backward computes.
double loss(Problem<double>& problem) {
  auto out = problem.outputs();
  reference::forward<double>(problem.args(out), problem.options());
  double sum = 0;
  for_each_pair(out.o.view(), problem.d_o.view(), [&](double o, double d_o) { sum += o * d_o; });
  for (std::size_t i = 0; i < out.final_state.size(); ++i)
    sum += out.final_state[i] * problem.d_final_state[i];
  return sum;
}

TEST_P(FiniteDifferences, AgreeWithTheGradient) {
  Problem<double> problem(GetParam().c);
  problem.base = GetParam().base;
  if (GetParam().states) problem.add_states();
  auto unread = problem.outputs();
  auto gradients = problem.gradients();
  reference::backward<double>(problem.args(unread, gradients), problem.options());
  const auto check_one = [&](double& x, double dx, const char* name) {
    const double h = 1e-4, x_0 = x;
    double f[4];
    const double steps[] = {-2, -1, 1, 2};
    for (int i = 0; i < 4; ++i) {
      x = x_0 + steps[i] * h;
      f[i] = loss(problem);
    }
    x = x_0;
    const double difference = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h);  // error O(h^4)
    EXPECT_NEAR(dx, difference, 1e-8 * (1 + std::abs(difference))) << name;
  };
  const auto check = [&](Tensor<double>& x, Tensor<double>& dx, const char* name) {
    for_each_pair(x.view(), dx.view(),
                  [&](double& x_i, double dx_i) { check_one(x_i, dx_i, name); });
  };
  check(problem.q, gradients.dq, "dq");
  check(problem.k, gradients.dk, "dk");
  check(problem.v, gradients.dv, "dv");
  for (std::size_t i = 0; i < problem.initial_state.size(); i += 3)
    check_one(problem.initial_state[i], gradients.d_initial_state[i], "d_initial_state");
}

std::vector<GradientCase> gradient_cases() {
  std::vector<GradientCase> cases;
  for (const int p : {1, 2, 3, 4})
    for (const bool causal : {false, true})
      for (const Weights weights : {Weights::kNone, Weights::kMask, Weights::kFractional})
        cases.push_back({{.B = 2,
                          .H = 4,
                          .Hkv = 2,
                          .N = 4,
                          .M = 5,
                          .D = 5,
                          .E = 3,
                          .p = p,
                          .causal = causal,
                          .weights = weights}});
  cases.push_back({{.N = 6, .M = 3, .D = 4, .E = 2}});
  cases.push_back({{.N = 3, .M = 3, .D = 2, .E = 2, .p = 1, .causal = true}, {.scale = 0.25}});
  cases.push_back({{.N = 3, .M = 3, .D = 1, .E = 2}});
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Reference, FiniteDifferences, testing::ValuesIn(gradient_cases()),
                         [](const auto& info) { return case_name(info.param.c); });

/// Each option of one call at a time; their pairs are options_test.cc's.
std::vector<GradientCase> option_cases() {
  std::vector<GradientCase> cases;
  for (const int p : {1, 2, 3, 4}) {
    const Case c{.B = 2,
                 .H = 2,
                 .Hkv = 1,
                 .N = 3,
                 .M = 4,
                 .D = 3,
                 .E = 2,
                 .p = p,
                 .causal = true,
                 .weights = Weights::kFractional};
    Case unmasked = c;
    unmasked.causal = false;
    const Options base{.scale = 0.3, .floor = Floor::kClamp};
    for (const Normalize normalize : {Normalize::kL2, Normalize::kNone, Normalize::kMaxNorm}) {
      Options options = base;
      options.normalize = normalize;
      if (normalize == Normalize::kNone) options.scale = 0.05;  // odd f stays positive
      cases.push_back({normalize == Normalize::kMaxNorm ? unmasked : c, options});
    }
    for (const DropoutMode mode :
         {DropoutMode::kQuadratic, DropoutMode::kStandard, DropoutMode::kToken}) {
      Options options = base;
      options.dropout = {.rate = 0.4, .mode = mode, .seed = 3};
      cases.push_back({c, options, mode == DropoutMode::kToken});
      options.normalize = mode == DropoutMode::kToken ? Normalize::kMaxNorm : Normalize::kL2;
      cases.push_back({unmasked, options});
    }
    for (const Normalize normalize : {Normalize::kStandardize, Normalize::kL2, Normalize::kNone}) {
      Options options = base;
      options.normalize = normalize;
      if (normalize == Normalize::kNone) options.scale = 0.05;
      cases.push_back({c, options, true});
    }
    Options options = base;
    options.coefficients = {{1.5, 0.7, 0.2, 0.1, 0.3}};
    cases.push_back({c, options, true});
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(EachOption, FiniteDifferences, testing::ValuesIn(option_cases()));

}  // namespace
}  // namespace fastmax
