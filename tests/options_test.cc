// Every option with every other: a covering array. Each pair of settings of two options meets in some case, where both
// forms, both directions and both types are judged by the definition, on every instruction set.
#include "tests/options.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "fastmax/fastmax.h"
#include "tests/problem.h"
#include "tests/rounding.h"
#include "tests/support.h"

namespace fastmax {
namespace {
using namespace testing_support;

TEST(CoveringArray, HasEveryLegalPair) {
  const auto cases = covering_array();
  for (int i = 0; i < kFactors; ++i)
    for (int j = i + 1; j < kFactors; ++j)
      for (int a = 0; a < kSettings[i]; ++a)
        for (int b = 0; b < kSettings[j]; ++b) {
          Setting pair;
          pair.fill(-1);
          pair[i] = a;
          pair[j] = b;
          const bool met = std::any_of(cases.begin(), cases.end(),
                                       [&](const Setting& s) { return s[i] == a && s[j] == b; });
          EXPECT_EQ(met, completable(pair)) << i << ":" << a << " " << j << ":" << b;
        }
  for (const Setting& s : cases) EXPECT_TRUE(legal(s));
}

class EveryOption : public testing::TestWithParam<OptionsCase> {};

template <class T>
void matches_reference(const OptionsCase& o) {
  Problem<T> problem(o.c);
  problem.base = o.base;
  if (o.state) problem.add_states();
  const auto right = answer(problem);
  const auto gradient = gradient_answer(problem);
  for_each_target([&] {
    const Execution execution{.threads = o.threads};
    Outputs<T> out = problem.outputs();
    const Report report = forward(problem.args(out), problem.options(o.form), execution);
    EXPECT_LE(max_abs_diff(out.o, right.truth.o), right.o);
    EXPECT_LE(max_abs_diff(out.g, right.truth.g), right.g);
    EXPECT_LE(max_abs_diff(out.final_state, right.truth.final_state), right.final_state);
    EXPECT_TRUE(out.o.padding_untouched() && out.g.padding_untouched());
    EXPECT_EQ(report.form, o.form);
    if (o.c.p % 2 == 1 || o.base.coefficients) {
      EXPECT_NEAR(report.smallest_denominator, right.smallest, right.g);
    } else {
      EXPECT_TRUE(std::isnan(report.smallest_denominator));
    }

    Gradients<T> gradients = problem.gradients();
    backward(problem.args(out, gradients), problem.options(o.form), execution);
    EXPECT_LE(max_abs_diff(gradients.dq, gradient.truth.dq), gradient.dq);
    EXPECT_LE(max_abs_diff(gradients.dk, gradient.truth.dk), gradient.dk);
    EXPECT_LE(max_abs_diff(gradients.dv, gradient.truth.dv), gradient.dv);
    EXPECT_LE(max_abs_diff(gradients.d_initial_state, gradient.truth.d_initial_state),
              gradient.d_initial_state);
    EXPECT_TRUE(gradients.dq.padding_untouched() && gradients.dk.padding_untouched() &&
                gradients.dv.padding_untouched());
  });
}
TEST_P(EveryOption, MatchesReferenceInFloat) { matches_reference<float>(GetParam()); }
TEST_P(EveryOption, MatchesReferenceInDouble) { matches_reference<double>(GetParam()); }

INSTANTIATE_TEST_SUITE_P(Pairs, EveryOption, testing::ValuesIn(options_cases()), options_case_name);

// Tokens of weight zero are absent, however long: kMaxNorm does not measure them, and their f may be huge.
TEST(Padding, OfAnySizeChangesNothing) {
  for (const int p : {1, 2})
    for (const Normalize normalize : {Normalize::kStandardize, Normalize::kL2, Normalize::kMaxNorm})
      for (const Form form : {Form::kDirect, Form::kFactorised}) {
        SCOPED_TRACE(testing::Message() << "p " << p << " normalize " << int(normalize));
        Problem<float> problem({.B = 2,
                                .H = 2,
                                .Hkv = 2,
                                .N = 20,
                                .M = 75,
                                .D = 6,
                                .E = 5,
                                .p = p,
                                .weights = Weights::kMask});
        problem.base.normalize = normalize;
        Problem<float> long_padding = problem;
        for (std::int64_t b = 0; b < 2; ++b)
          for (std::int64_t h = 0; h < 2; ++h)
            for (std::int64_t m = 0; m < 75; ++m)
              if (problem.w.bn().row(b)[m] == 0)
                for (float& x : long_padding.k.view().head(b, h)[m]) x *= 1000;
        const auto right = answer(problem);
        const auto gradient = gradient_answer(problem);
        Outputs<float> out = problem.outputs();
        Gradients<float> gradients = problem.gradients();
        forward(long_padding.args(out), problem.options(form));
        backward(long_padding.args(out, gradients), problem.options(form));
        EXPECT_LE(max_abs_diff(out.o, right.truth.o), right.o);
        EXPECT_LE(max_abs_diff(gradients.dq, gradient.truth.dq), gradient.dq);
        EXPECT_LE(max_abs_diff(gradients.dk, gradient.truth.dk), gradient.dk);
        EXPECT_LE(max_abs_diff(gradients.dv, gradient.truth.dv), gradient.dv);
      }
}

}  // namespace
}  // namespace fastmax
