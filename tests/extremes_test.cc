// Inputs at the edge of the number range, tokens without direction, and sums of very many terms.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "fastmax/fastmax.h"
#include "src/denominator.h"
#include "tests/problem.h"
#include "tests/rounding.h"
#include "tests/support.h"

namespace fastmax {
namespace {
using namespace testing_support;

/// Runs both directions in every form on every target, and hands the results to check.
template <class T, class Check>
void compute(Problem<T>& problem, Check check) {
  for_each_target([&] {
    for (const Form form : forms(problem.c)) {
      SCOPED_TRACE(form_name(form));
      Outputs<T> out = problem.outputs();
      Gradients<T> gradients = problem.gradients();
      forward(problem.args(out), problem.options(form));
      backward(problem.args(out, gradients), problem.options(form));
      check(out, gradients);
    }
  });
}

/// Both directions in every form on every target are within their bounds of the truth; `right` is answer(problem).
template <class T>
void expect_answers(Problem<T>& problem, const Answer<T>& right) {
  const auto gradient = gradient_answer(problem);
  compute(problem, [&](auto& out, auto& gradients) {
    EXPECT_LE(max_abs_diff(out.o, right.truth.o), right.o);
    EXPECT_LE(max_abs_diff(out.g, right.truth.g), right.g);
    EXPECT_LE(max_abs_diff(gradients.dq, gradient.truth.dq), gradient.dq);
    EXPECT_LE(max_abs_diff(gradients.dk, gradient.truth.dk), gradient.dk);
    EXPECT_LE(max_abs_diff(gradients.dv, gradient.truth.dv), gradient.dv);
  });
}

template <class T>
void expect_finite(Outputs<T>& out, Gradients<T>& gradients) {
  EXPECT_TRUE(out.o.all_finite());
  EXPECT_TRUE(out.g.all_finite());
  EXPECT_TRUE(gradients.dq.all_finite());
  EXPECT_TRUE(gradients.dk.all_finite());
  EXPECT_TRUE(gradients.dv.all_finite());
}

/// q and k of every size that T can hold, mixed within a token and between tokens.
template <class T>
void every_size_is_finite() {
  const T largest = std::numeric_limits<T>::max(), tiny = std::numeric_limits<T>::denorm_min();
  for (const int p : {1, 2, 3, 4})
    for (const bool causal : {false, true})
      for (const Normalize normalize :
           {Normalize::kStandardize, Normalize::kL2, Normalize::kMaxNorm})
        for (const T size : {largest, largest / 3, std::sqrt(largest),
                             std::numeric_limits<T>::min(), tiny, T(0)}) {
          if (causal && normalize == Normalize::kMaxNorm) continue;
          SCOPED_TRACE(testing::Message() << "p " << p << " causal " << causal << " normalize "
                                          << int(normalize) << " size " << size);
          Problem<T> problem({.N = 9, .M = 9, .D = 7, .E = 3, .p = p, .causal = causal});
          problem.base.normalize = normalize;
          std::mt19937 rng(1);
          std::uniform_real_distribution<double> uniform(-1, 1);
          const auto any = [&](T& x) {
            const double u = uniform(rng);
            x = u > 0.5 ? size : u < -0.5 ? -size : static_cast<T>(u) * size;
          };
          problem.q.for_each(any);
          problem.k.for_each(any);
          compute(problem, expect_finite<T>);
        }
}
TEST(Extremes, EveryFloatGivesFiniteResults) { every_size_is_finite<float>(); }
TEST(Extremes, EveryDoubleGivesFiniteResults) { every_size_is_finite<double>(); }

// A wide reference can say what the right answer is at the end of the range, too: normalisation takes the size away.
template <class T>
void huge_tokens_are_normalised() {
  for (const int p : {1, 2})
    for (const Normalize normalize :
         {Normalize::kStandardize, Normalize::kL2, Normalize::kMaxNorm}) {
      SCOPED_TRACE(testing::Message() << "p " << p << " normalize " << int(normalize));
      Problem<T> problem({.N = 20, .M = 30, .D = 8, .E = 5, .p = p}), huge = problem;
      problem.base.normalize = huge.base.normalize = normalize;
      const T factor = std::numeric_limits<T>::max() / 16;
      huge.q.for_each([&](T& x) { x *= factor; });
      huge.k.for_each([&](T& x) { x *= factor; });
      const auto right = answer(problem);
      Outputs<T> truth = huge.outputs();
      reference::forward<Wide<T>>(huge.args(truth), huge.options());
      compute(huge, [&](auto& out, auto& gradients) {
        expect_finite(out, gradients);
        EXPECT_LE(max_abs_diff(out.o, truth.o), right.o);
      });
    }
}
TEST(Extremes, HugeFloatsAreNormalised) { huge_tokens_are_normalised<float>(); }
TEST(Extremes, HugeDoublesAreNormalised) { huge_tokens_are_normalised<double>(); }

// A mean a thousand times the spread must not cost digits beyond those that the input lost: an
// error of the mean is the same in all channels, and the other token's channels add up to zero.
TEST(Extremes, LargeMeansCancel) {
  Problem<float> problem({.N = 70, .M = 90, .D = 31, .E = 8});
  problem.q.for_each([](float& x) { x += 1000; });
  problem.k.for_each([](float& x) { x -= 1000; });
  const auto right = answer(problem);
  compute(problem, [&](auto& out, auto&) {
    EXPECT_LE(max_abs_diff(out.o, right.truth.o), right.o);
    EXPECT_LE(max_abs_diff(out.g, right.truth.g), right.g);
  });
}

// Constant tokens normalise to zeros, so that every key weighs the same.
TEST(Extremes, ConstantTokensWeighTheSame) {
  for (const int p : {1, 2, 3, 4}) {
    Problem<float> problem({.N = 5, .M = 66, .D = 6, .E = 4, .p = p});
    problem.q.for_each([](float& x) { x = 7.3f; });
    problem.k.for_each([](float& x) { x = -0.1f; });
    Tensor<float> mean = Tensor<float>::filled(problem.d_o.s, [] { return 0; });
    for (std::int64_t n = 0; n < 5; ++n)
      for (std::int64_t e = 0; e < 4; ++e) {
        double sum = 0;
        for (std::int64_t m = 0; m < 66; ++m) sum += problem.v.view().head(0, 0)[m][e];
        mean.view().head(0, 0)[n][e] = static_cast<float>(sum / 66);
      }
    compute(problem, [&](auto& out, auto& gradients) {
      EXPECT_LE(max_abs_diff(out.o, mean), 1e-6);
      expect_finite(out, gradients);
    });
  }
}

// The only key is opposite to the query: an odd f is zero there up to eps, and the floor decides.
template <class T>
void opposite_key_meets_the_floor(T size) {
  for (const int p : {1, 3}) {
    SCOPED_TRACE(p);
    Problem<T> problem({.N = 1, .M = 1, .D = 4, .E = 3, .p = p, .weights = Weights::kFractional});
    const T token[] = {1, 2, -4, 3};
    for (int d = 0; d < 4; ++d) {
      problem.q.view().head(0, 0)[0][d] = token[d] * size;
      problem.k.view().head(0, 0)[0][d] = -token[d] * size;
    }
    const T w = problem.w.bn().row(0)[0];
    const double v = max_abs(problem.v);
    compute(problem, [&](auto& out, auto& gradients) {
      EXPECT_EQ(out.g.bhn().head(0, 0)[0], kDenominatorFloor<T> * w);
      EXPECT_LE(max_abs(out.o), v);  // |f| is rounding, below the floor
      expect_finite(out, gradients);
    });
  }
}
TEST(Extremes, OppositeKeyMeetsTheFloorInFloat) { opposite_key_meets_the_floor<float>(1e4f); }
TEST(Extremes, OppositeKeyMeetsTheFloorInDouble) { opposite_key_meets_the_floor<double>(1e7); }

// Weights are relative, whatever their size: rows that see the lightest keys alone are as right as those of the heaviest.
template <class T>
void every_key_weight_counts() {
  for (const int p : {1, 2, 3, 4})
    for (const bool causal : {false, true})
      for (const double slope : {0.0, 1.0, -1.0}) {
        SCOPED_TRACE(testing::Message() << "p " << p << " causal " << causal << " slope " << slope);
        const std::int64_t M = 70;
        Problem<T> problem({.N = M,
                            .M = M,
                            .D = 7,
                            .E = 3,
                            .p = p,
                            .causal = causal,
                            .weights = Weights::kFractional});
        T* w = problem.w.bn().row(0);
        for (std::int64_t m = 0; m < M; ++m) {
          const double along = static_cast<double>(slope < 0 ? M - 1 - m : m) / (M - 1);
          w[m] = static_cast<T>(std::exp2(std::abs(slope) * 100 * along - 60));
        }
        expect_answers(problem, answer(problem));
      }
}
TEST(Extremes, EveryKeyWeightCountsInFloat) { every_key_weight_counts<float>(); }
TEST(Extremes, EveryKeyWeightCountsInDouble) { every_key_weight_counts<double>(); }

// At the paper's scale an odd f is often negative, and so are denominators of causal rows. Clamped, they are constants:
// outputs and gradients are of the size of 1 / floor, and still those of the definition.
template <class T>
void clamped_rows_are_constants() {
  for (const int p : {1, 3}) {
    SCOPED_TRACE(p);
    Problem<T> problem({.N = 40,
                        .M = 40,
                        .D = 6,
                        .E = 3,
                        .p = p,
                        .causal = true,
                        .weights = Weights::kFractional});
    problem.base.scale = 1;
    const auto right = answer(problem);
    ASSERT_GT(max_abs(right.truth.o), 1 / std::sqrt(kDenominatorFloor<T>));  // some row is clamped
    expect_answers(problem, right);
  }
}
TEST(Extremes, ClampedRowsAreConstantsInFloat) { clamped_rows_are_constants<float>(); }
TEST(Extremes, ClampedRowsAreConstantsInDouble) { clamped_rows_are_constants<double>(); }

// A sum of very many terms must not lose digits with their number: chunks are summed from zero,
// then added up. Measured 3e-6; summed one by one in float, a million terms give 2e-5 (p = 1) to
// 5e-4 (p = 2).
TEST(Extremes, ManyKeysKeepTheirDigits) {
  for (const int p : {1, 2}) {
    Problem<float> problem({.N = 3, .M = 1000000, .D = 8, .E = 4, .p = p});
    problem.v.for_each([](float& x) { x += 10; });  // outputs near 10, where digits show
    Outputs<float> truth = problem.outputs(), out = problem.outputs();
    reference::forward<double>(problem.args(truth), problem.options());
    forward(problem.args(out), problem.options(Form::kFactorised));
    EXPECT_LE(rel_rms(out.o, truth.o), 4e-6) << "p " << p;
    EXPECT_LE(rel_rms(out.g, truth.g), 4e-6) << "p " << p;
  }
}

// A gradient is made of differences between values and outputs. Where both are far from zero those must not cost digits
// beyond the ones that float outputs lack. Measured: dq is 1.4e-6 off at most; with values as they come, 5e-6 to 1.7e-5.
// States carry values that are far from zero, too.
TEST(Extremes, ValuesFarFromZeroKeepTheirGradients) {
  for (const bool causal : {false, true})
    for (const bool states : {false, true}) {
      SCOPED_TRACE(testing::Message() << "causal " << causal << " states " << states);
      Problem<float> problem(
          {.H = 2, .Hkv = 1, .N = 1500, .M = 1500, .D = 8, .E = 5, .causal = causal});
      problem.v.for_each([](float& x) { x += 10; });
      if (states) {
        problem.add_states();
        for (std::size_t i = 0; i < problem.initial_state.size(); i += 6)
          for (std::size_t e = 0; e < 5; ++e)
            problem.initial_state[i + e] += 10 * problem.initial_state[i + 5];
      }
      Outputs<float> saved = problem.outputs();
      Gradients<float> truth = problem.gradients(), out = problem.gradients();
      reference::backward<double>(problem.args(saved, truth), problem.options());
      forward(problem.args(saved), problem.options(Form::kFactorised));
      backward(problem.args(saved, out), problem.options(Form::kFactorised));
      EXPECT_LE(rel_rms(out.dq, truth.dq), 4e-6);
      EXPECT_LE(rel_rms(out.dk, truth.dk), 4e-6);
      EXPECT_LE(rel_rms(out.dv, truth.dv), 4e-6);
    }
}

}  // namespace
}  // namespace fastmax
