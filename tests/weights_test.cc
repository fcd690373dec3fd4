// attention_weights: the rows are those of the definition, and what forward applied.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "fastmax/fastmax.h"
#include "tests/problem.h"
#include "tests/rounding.h"
#include "tests/support.h"

namespace fastmax {
namespace {
using namespace testing_support;

struct WeightsCase {
  Case c;
  Options base{.floor = Floor::kClamp};
};
void PrintTo(const WeightsCase& w, std::ostream* out) {
  *out << case_name(w.c) << options_name(w.base);
}

std::vector<WeightsCase> weights_cases() {
  std::vector<WeightsCase> cases;
  for (const int p : {1, 2, 3, 4})
    for (const bool causal : {false, true}) {
      const Case c{.B = 2,
                   .H = 4,
                   .Hkv = 2,
                   .N = 70,
                   .M = 131,
                   .D = 6,
                   .E = 5,
                   .p = p,
                   .causal = causal,
                   .weights = Weights::kFractional,
                   .layout = Layout::kBnhd};
      cases.push_back({c});
      for (const DropoutMode mode :
           {DropoutMode::kQuadratic, DropoutMode::kStandard, DropoutMode::kToken})
        cases.push_back(
            {c, {.dropout = {.rate = 0.3, .mode = mode, .seed = 8}, .floor = Floor::kClamp}});
      cases.push_back(
          {c, {.scale = 0.2, .coefficients = {{2, 1, 0.5, 0.2, 0.3}}, .floor = Floor::kClamp}});
      Case zero = c;
      zero.weights = Weights::kZero;
      cases.push_back({zero, {.normalize = Normalize::kL2}});
      if (!causal) cases.push_back({zero, {.normalize = Normalize::kMaxNorm}});
    }
  cases.push_back({{.N = 1, .M = 1}});
  cases.push_back({{.N = 3, .M = 0}});
  cases.push_back({{.N = 0, .M = 3}});
  return cases;
}

class AttentionWeights : public testing::TestWithParam<WeightsCase> {};

template <class T>
WeightsArgs<T> weights_args(Problem<T>& problem, Tensor<T>& a,
                            std::span<const std::int64_t> rows = {}) {
  return {.q = problem.q.view(),
          .k = problem.k.view(),
          .key_weight = problem.key_weight(),
          .rows = rows,
          .a = a.view()};
}

template <class T>
void are_what_forward_applied(const WeightsCase& w) {
  Problem<T> problem(w.c);
  problem.base = w.base;
  const Case& c = problem.c;
  const auto right = answer(problem);
  const bool features = drops_features(w.base.dropout);
  Outputs<T> out = problem.outputs();
  std::vector<std::vector<std::vector<Wide<T>>>> truth;  // [B * H][N][M]
  for (std::int64_t b = 0; b < c.B; ++b)
    for (std::int64_t h = 0; h < c.H; ++h)
      truth.push_back(
          reference::attention_weights<Wide<T>>(problem.args(out), problem.options(), b, h));
  for_each_target([&] {
    Tensor<T> a = Tensor<T>::nan({c.B, c.H, c.N, c.M});
    attention_weights(weights_args(problem, a), problem.options());
    EXPECT_TRUE(a.padding_untouched());
    // Against the definition; a weight errs as an output whose values are at most 1 does.
    double worst = 0, largest_v = max_abs(problem.v);
    for (std::int64_t b = 0; b < c.B; ++b)
      for (std::int64_t h = 0; h < c.H; ++h)
        for (std::int64_t n = 0; n < c.N; ++n) {
          for (std::int64_t m = 0; m < c.M; ++m) {
            const double diff =
                std::abs(double(a.view().head(b, h)[n][m]) - double(truth[b * c.H + h][n][m]));
            if (!(diff <= worst)) worst = diff;
          }
        }
    EXPECT_LE(worst, right.o);
    // a v = o in both forms.
    for (const Form form : {Form::kDirect, Form::kFactorised}) {
      if (features && form == Form::kDirect) continue;
      forward(problem.args(out), problem.options(form));
      for (std::int64_t b = 0; b < c.B; ++b)
        for (std::int64_t h = 0; h < c.H; ++h)
          for (std::int64_t n = 0; n < c.N; ++n)
            for (std::int64_t e = 0; e < c.E; ++e) {
              double o = 0;
              for (std::int64_t m = 0; m < c.M; ++m)
                o += double(a.view().head(b, h)[n][m]) *
                     double(problem.v.view().head(b, h / (c.H / c.Hkv))[m][e]);
              ASSERT_NEAR(o, out.o.view().head(b, h)[n][e], (2 + largest_v) * right.o);
            }
    }
  });
}
TEST_P(AttentionWeights, AreWhatForwardAppliedInFloat) {
  are_what_forward_applied<float>(GetParam());
}
TEST_P(AttentionWeights, AreWhatForwardAppliedInDouble) {
  are_what_forward_applied<double>(GetParam());
}
INSTANTIATE_TEST_SUITE_P(Core, AttentionWeights, testing::ValuesIn(weights_cases()));

// The default scale of an odd p is the largest for which no weight is negative, whatever the tokens: even where half of
// the keys are exactly opposite to a query. A little more of it, and some weight is.
TEST(DefaultScale, MakesNoWeightNegative) {
  for (const int p : {1, 3})
    for (const Normalize normalize :
         {Normalize::kStandardize, Normalize::kL2, Normalize::kMaxNorm}) {
      SCOPED_TRACE(testing::Message() << "p " << p << " normalize " << int(normalize));
      Problem<double> problem({.N = 40, .M = 80, .D = 5, .p = p});
      problem.base.normalize = normalize;
      for (std::int64_t m = 0; m < 40; ++m)
        for (std::int64_t d = 0; d < 5; ++d)
          problem.k.view().head(0, 0)[m][d] = -1000 * (problem.q.view().head(0, 0)[m][d] *= 1000);
      const auto least = [&](double factor) {
        Options options = problem.options();
        options.scale = factor * default_scale(p, 5, normalize);
        Tensor<double> a = Tensor<double>::nan({1, 1, 40, 80});
        attention_weights(weights_args(problem, a), options);
        double smallest = 1;
        a.for_each([&](double x) { smallest = std::min(smallest, x); });
        return smallest;
      };
      EXPECT_GE(least(1), -1e-15);
      EXPECT_LT(least(1.001), -1e-6);
    }
}

// Rows that are asked for, in any order and more than once, are those of all, for any number of threads.
TEST(AttentionWeightsRows, AreRowsOfTheWhole) {
  for (const Normalize normalize : {Normalize::kStandardize, Normalize::kL2, Normalize::kNone})
    for (const DropoutMode mode : {DropoutMode::kQuadratic, DropoutMode::kToken}) {
      Problem<float> problem({.H = 2, .Hkv = 1, .N = 90, .M = 140, .D = 7, .causal = true});
      problem.base.normalize = normalize;
      problem.base.dropout = {.rate = 0.3, .mode = mode, .seed = 8};
      const std::vector<std::int64_t> rows{89, 3, 4, 5, 3, 64, 63, 0};
      for_each_target([&] {
        Tensor<float> all = Tensor<float>::nan({1, 2, 90, 140}), all_by_three = all;
        attention_weights(weights_args(problem, all), problem.options(), serial());
        attention_weights(weights_args(problem, all_by_three), problem.options(), {.threads = 3});
        EXPECT_TRUE(same_bits(all, all_by_three));
        for (const int threads : {1, 3}) {
          Tensor<float> some = Tensor<float>::nan({1, 2, 8, 140});
          attention_weights(weights_args(problem, some, rows), problem.options(),
                            {.threads = threads});
          EXPECT_TRUE(some.padding_untouched());
          for (std::int64_t h = 0; h < 2; ++h)
            for (std::size_t i = 0; i < rows.size(); ++i)
              for (std::int64_t m = 0; m < 140; ++m)
                ASSERT_EQ(some.view().head(0, h)[i][m], all.view().head(0, h)[rows[i]][m])
                    << i << " " << m;
        }
      });
    }
}

}  // namespace
}  // namespace fastmax
