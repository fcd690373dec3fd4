// What dropout draws, and that it is the same everywhere. Outputs and gradients of a drawn mask are options_test.cc's.
#include "src/dropout.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "fastmax/fastmax.h"
#include "tests/problem.h"
#include "tests/rounding.h"
#include "tests/support.h"

namespace fastmax {
namespace {
using namespace testing_support;

constexpr DropoutMode kModes[] = {DropoutMode::kQuadratic, DropoutMode::kStandard,
                                  DropoutMode::kToken};

using Words = std::array<std::uint32_t, 4>;

// The known answers that the paper's authors publish with their implementation (Random123, philox4x32-10).
TEST(Philox, GivesThePublishedNumbers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, 0), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, 0xffffffffffffffff),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

std::vector<int> drawn(const Dropout& dropout, Drawn what, std::size_t b, std::size_t head,
                       std::size_t first, std::size_t n) {
  std::vector<int> keep(n);
  draw_kept(dropout, what, b, head, first, n, keep.data());
  return keep;
}

TEST(Draw, KeepsItsShare) {
  for (const double rate : {0.0, 0.1, 0.5, 0.9}) {
    const std::size_t n = 100000;
    double kept = 0;
    for (const int keep : drawn({.rate = rate, .seed = 5}, Drawn::kKey, 0, 0, 0, n)) kept += keep;
    const double sigma = std::sqrt(rate * (1 - rate) / n);
    EXPECT_NEAR(kept / n, 1 - rate, 4 * sigma) << rate;
  }
}

// Any piece of a stream is that piece of the whole: what chunks and threads rely on.
TEST(Draw, PiecesAreThePiecesOfTheWhole) {
  const Dropout dropout{.rate = 0.5, .seed = 9};
  const auto whole = drawn(dropout, Drawn::kQuery, 3, 2, 0, 300);
  for (const std::size_t first : {1, 2, 63, 64, 130}) {
    const auto piece = drawn(dropout, Drawn::kQuery, 3, 2, first, 100);
    EXPECT_TRUE(std::equal(piece.begin(), piece.end(), whole.begin() + first)) << first;
  }
}

TEST(Draw, StreamsDiffer) {
  const auto one = drawn({.rate = 0.5, .seed = 1}, Drawn::kQuery, 0, 0, 0, 256);
  EXPECT_NE(one, drawn({.rate = 0.5, .seed = 2}, Drawn::kQuery, 0, 0, 0, 256));
  EXPECT_NE(one, drawn({.rate = 0.5, .seed = 1ull << 40}, Drawn::kQuery, 0, 0, 0, 256));
  EXPECT_NE(one, drawn({.rate = 0.5, .seed = 1}, Drawn::kKey, 0, 0, 0, 256));
  EXPECT_NE(one, drawn({.rate = 0.5, .seed = 1}, Drawn::kFeature, 0, 0, 0, 256));
  EXPECT_NE(one, drawn({.rate = 0.5, .seed = 1}, Drawn::kQuery, 1, 0, 0, 256));
  EXPECT_NE(one, drawn({.rate = 0.5, .seed = 1}, Drawn::kQuery, 0, 1, 0, 256));
}

template <class T>
struct Everything {
  Outputs<T> out;
  Gradients<T> gradients;
  bool operator==(const Everything& b) const {
    return same_bits(out.o, b.out.o) && same_bits(out.g, b.out.g) &&
           same_bits(gradients.dq, b.gradients.dq) && same_bits(gradients.dk, b.gradients.dk) &&
           same_bits(gradients.dv, b.gradients.dv);
  }
};
template <class T>
Everything<T> compute(Problem<T>& problem, Form form, int threads = 1) {
  Everything<T> all{problem.outputs(), problem.gradients()};
  forward(problem.args(all.out), problem.options(form), {.threads = threads});
  backward(problem.args(all.out, all.gradients), problem.options(form), {.threads = threads});
  return all;
}

Case any_case(bool causal) {
  return {.B = 2, .H = 4, .Hkv = 2, .N = 150, .M = 170, .D = 8, .E = 6, .causal = causal};
}

TEST(Dropout, RateZeroChangesNoBit) {
  for (const bool causal : {false, true})
    for (const Form form : {Form::kDirect, Form::kFactorised}) {
      Problem<float> problem(any_case(causal));
      const auto without = compute(problem, form);
      for (const DropoutMode mode : kModes) {
        problem.base.dropout = {.rate = 0, .mode = mode, .seed = 4};
        EXPECT_TRUE(without == compute(problem, form));
      }
    }
}

// Off costs nothing: the plan is the same, to the byte of workspace, and so is the code that runs.
TEST(Dropout, RateZeroChangesNoPlan) {
  for (const bool causal : {false, true})
    for (const Form form : {Form::kAuto, Form::kDirect, Form::kFactorised})
      for (const DropoutMode mode : kModes) {
        Problem<float> problem(any_case(causal));
        Outputs<float> out = problem.outputs();
        Gradients<float> gradients = problem.gradients();
        Options with = problem.options(form);
        with.dropout = {.rate = 0, .mode = mode, .seed = 4};
        const auto same = [](const Plan& a, const Plan& b) {
          EXPECT_EQ(a.form, b.form);
          EXPECT_EQ(a.chunk, b.chunk);
          EXPECT_EQ(a.workspace_bytes, b.workspace_bytes);
          EXPECT_STREQ(a.why, b.why);
        };
        same(plan(problem.args(out), with), plan(problem.args(out), problem.options(form)));
        same(plan(problem.args(out, gradients), with),
             plan(problem.args(out, gradients), problem.options(form)));
      }
}

TEST(Dropout, SameForAnyThreadsAndChunks) {
  for (const bool causal : {false, true})
    for (const DropoutMode mode : kModes) {
      SCOPED_TRACE(testing::Message() << "causal " << causal << " mode " << static_cast<int>(mode));
      Problem<float> problem(any_case(causal));
      problem.base.dropout = {.rate = 0.25, .mode = mode, .seed = 4};
      const auto right = answer(problem);
      const auto gradient = gradient_answer(problem);
      for (const int chunk : {64, 128, 192}) {
        problem.c.chunk = chunk;
        for_each_target([&] {
          const auto one = compute(problem, Form::kFactorised);
          EXPECT_TRUE(one == compute(problem, Form::kFactorised, 3)) << chunk;
          EXPECT_LE(max_abs_diff(one.out.o, right.truth.o), right.o) << chunk;
          EXPECT_LE(max_abs_diff(one.gradients.dk, gradient.truth.dk), gradient.dk) << chunk;
        });
      }
    }
}

TEST(Dropout, OfTokensIsTheSameInBothForms) {
  for (const bool causal : {false, true}) {
    Problem<double> problem(any_case(causal));
    problem.base.dropout = {.rate = 0.25, .mode = DropoutMode::kToken, .seed = 4};
    const auto right = answer(problem);
    const auto gradient = gradient_answer(problem);
    const auto a = compute(problem, Form::kDirect), b = compute(problem, Form::kFactorised);
    EXPECT_LE(max_abs_diff(a.out.o, b.out.o), 2 * right.o);
    EXPECT_LE(max_abs_diff(a.gradients.dq, b.gradients.dq), 2 * gradient.dq);
    EXPECT_LE(max_abs_diff(a.gradients.dk, b.gradients.dk), 2 * gradient.dk);
  }
}

// The denominator is that of the undropped f, to the last bit.
TEST(Dropout, OfFeaturesLeavesDenominators) {
  for (const bool causal : {false, true}) {
    Problem<float> problem(any_case(causal));
    problem.c.chunk = 64;
    const auto without = compute(problem, Form::kFactorised);
    for (const DropoutMode mode : {DropoutMode::kQuadratic, DropoutMode::kStandard}) {
      problem.base.dropout = {.rate = 0.5, .mode = mode, .seed = 4};
      const auto with = compute(problem, Form::kFactorised);
      EXPECT_TRUE(same_bits(with.out.g, without.out.g));
      EXPECT_GT(max_abs_diff(with.out.o, without.out.o), 0.01);
    }
  }
}

// Every mask is as likely as it should be: over seeds, the mean of o tends to the undropped o, within a few standard
// errors of that mean.
TEST(Dropout, OfFeaturesMeansNothingOverSeeds) {
  for (const bool causal : {false, true})
    for (const DropoutMode mode : {DropoutMode::kQuadratic, DropoutMode::kStandard}) {
      SCOPED_TRACE(testing::Message() << "causal " << causal << " mode " << static_cast<int>(mode));
      Problem<double> problem({.N = 6, .M = 9, .D = 5, .E = 4, .causal = causal});
      Outputs<double> without = problem.outputs();
      forward(problem.args(without), problem.options(Form::kFactorised), serial());
      constexpr int kSeeds = 4000;
      Tensor<double> sum = Tensor<double>::filled(without.o.s, [] { return 0; }), squares = sum;
      for (int seed = 0; seed < kSeeds; ++seed) {
        problem.base.dropout = {
            .rate = 0.3, .mode = mode, .seed = static_cast<std::uint64_t>(seed)};
        Outputs<double> out = problem.outputs();
        forward(problem.args(out), problem.options(Form::kFactorised), serial());
        for (std::size_t i = 0; i < sum.data.size(); ++i) {
          const double change = out.o.data[i] - without.o.data[i];
          sum.data[i] += change;
          squares.data[i] += change * change;
        }
      }
      for_each_pair(sum.view(), squares.view(), [&](double total, double square) {
        EXPECT_LE(std::abs(total), 4.5 * std::sqrt(square) + 1e-12);
        EXPECT_GT(square, 0);
      });
    }
}

// Of tokens it means something: f(s) becomes (1 - rate)^2 f(s) + (1 - (1 - rate)^2) f(0), and the mean of o another.
TEST(Dropout, OfTokensIsDrawnToTheMeanOfValues) {
  constexpr double kRate = 0.3, kBoth = (1 - kRate) * (1 - kRate);
  constexpr int kSeeds = 4000;
  Problem<double> problem({.N = 6, .M = 9, .D = 5, .E = 4});
  Outputs<double> without = problem.outputs();
  forward(problem.args(without), problem.options(Form::kDirect), serial());
  const auto zeros = [](const Tensor<double>& like) {
    return Tensor<double>::filled(like.s, [] { return 0; });
  };
  Tensor<double> o = zeros(without.o), o_squares = o, g = zeros(without.g), g_squares = g;
  const auto add = [](const Tensor<double>& got, const auto& expected, Tensor<double>& sum,
                      Tensor<double>& squares) {
    for (std::size_t i = 0; i < got.data.size(); ++i) {
      const double change = got.data[i] - expected(i);
      sum.data[i] += change;
      squares.data[i] += change * change;
    }
  };
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    problem.base.dropout = {.rate = kRate, .mode = DropoutMode::kToken, .seed = seed};
    Outputs<double> out = problem.outputs();
    forward(problem.args(out), problem.options(Form::kDirect), serial());
    add(
        out.o, [&](std::size_t i) { return without.o.data[i]; }, o, o_squares);
    add(
        out.g, [&](std::size_t i) { return kBoth * without.g.data[i] + (1 - kBoth) * 9; }, g,
        g_squares);
  }
  for_each_pair(g.view(), g_squares.view(), [](double total, double square) {
    EXPECT_LE(std::abs(total), 4.5 * std::sqrt(square));
  });
  double most = 0;  // change of the mean of o, in its standard errors
  for_each_pair(o.view(), o_squares.view(), [&](double total, double square) {
    most = std::max(most, std::abs(total) / std::sqrt(square));
  });
  EXPECT_GT(most, 20);
}

// p = 1 has no features of degree 2: nothing to drop.
TEST(Dropout, QuadraticOfOrderOneDropsNothing) {
  Case c = any_case(true);
  c.p = 1;
  Problem<double> problem(c);
  const auto without = compute(problem, Form::kFactorised);
  problem.base.dropout = {.rate = 0.5, .mode = DropoutMode::kQuadratic, .seed = 4};
  const auto right = answer(problem);
  EXPECT_LE(max_abs_diff(compute(problem, Form::kFactorised).out.o, without.out.o), 2 * right.o);
}

// Why the numerator alone: were the denominator masked as well, some rows would divide by nothing. In docs/math.md.
TEST(Dropout, MaskedDenominatorsWouldVanish) {
  Problem<double> problem({.N = 64, .M = 64, .D = 16, .E = 1, .causal = true});
  problem.v.for_each([](double& x) { x = 1; });  // o is then masked / unmasked denominator
  int rows = 0, not_positive = 0;
  double smallest = 1;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    problem.base.dropout = {.rate = 0.3, .mode = DropoutMode::kQuadratic, .seed = seed};
    Outputs<double> out = problem.outputs();
    forward(problem.args(out), problem.options(Form::kFactorised), serial());
    out.o.for_each([&](double o) {
      ++rows;
      not_positive += o <= 0;
      smallest = std::min(smallest, o);
    });
  }
  EXPECT_GT(not_positive, 0);
  EXPECT_LT(smallest, 0);
  RecordProperty("not_positive", not_positive);
  std::printf("masked denominators <= 0: %d of %d rows, the least %.3f of its unmasked one\n",
              not_positive, rows, smallest);
}

}  // namespace
}  // namespace fastmax
