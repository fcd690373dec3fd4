// Products by bf16 matrix tiles: what they may round, and nothing else. Where the CPU has none, these tests say so.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "src/cpu/amx.h"
#include "src/run.h"
#include "tests/half.h"
#include "tests/problem.h"
#include "tests/support.h"

namespace fastmax {
namespace {
using namespace testing_support;

constexpr double kUnit = 0x1p-8;  // of rounding: bf16 has eight significant bits

/// The nearest bf16 number.
float nearest(float x) { return static_cast<float>(value(rounded<BFloat16>(x))); }

/// Inputs as a bf16 caller has them; values may lie around another mean.
Problem<float> bf16_problem(const Case& c, float mean = 0) {
  Problem<float> problem(c);
  problem.q.for_each([](float& x) { x = nearest(x); });
  problem.k.for_each([](float& x) { x = nearest(x); });
  problem.v.for_each([&](float& x) { x = nearest(x + mean); });
  return problem;
}

Outputs<float> run(Problem<float>& problem, bool bf16 = true, int threads = 1) {
  Outputs<float> out = problem.outputs();
  run_forward(problem.args(out), problem.options(Form::kFactorised), {.threads = threads},
              {.bf16 = bf16});
  return out;
}

class Tiles : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!cpu::amx::available()) GTEST_SKIP() << "not run: this CPU has no bf16 matrix tiles";
  }
};

std::vector<Case> tile_cases() {
  std::vector<Case> cases;
  for (const bool causal : {false, true}) {
    for (const int p : {2, 4})
      for (const std::int64_t E : {16, 32, 48, 80})
        cases.push_back(
            {.N = 300, .M = 300, .D = 7, .E = E, .p = p, .causal = causal, .chunk = 64});
    for (const std::int64_t D : {1, 2, 9, 17, 32, 64})
      cases.push_back({.N = 700, .M = 700, .D = D, .E = 16, .causal = causal});
    for (const Weights weights : {Weights::kMask, Weights::kFractional, Weights::kZero})
      cases.push_back({.B = 2,
                       .H = 4,
                       .Hkv = 2,
                       .N = 190,
                       .M = 421,
                       .D = 12,
                       .E = 48,
                       .causal = causal,
                       .weights = weights,
                       .layout = Layout::kBnhd,
                       .chunk = 128});
  }
  cases.push_back({.N = 3, .M = 0, .E = 16});
  return cases;
}

/// Three factors of a product are rounded, each by half a unit at most and a quarter on average; errors of thousands of
/// products add up as their squares do.
TEST_P(Tiles, RoundFactorsOnly) {
  for (const float mean : {0.F, 10.F}) {
    Problem<float> problem = bf16_problem(GetParam(), mean);
    Outputs<float> truth = problem.outputs(), got = run(problem);
    reference::forward<double>(problem.args(truth), problem.options());
    // Errors are relative to what the values are beside their mean.
    Tensor<float> error = truth.o, spread = truth.o;
    for_each_pair(got.o.view(), error.view(), [](float x, float& y) { y = x - y; });
    spread.for_each([mean](float& x) { x = x == 0 ? 0 : x - mean; });
    double squares = 0, spread_squares = 0, count = 0;
    error.for_each([&](float x) { squares += double(x) * x, ++count; });
    spread.for_each([&](float x) { spread_squares += double(x) * x; });
    const double rms = std::sqrt(squares / count), unit = kUnit * std::sqrt(spread_squares / count);
    EXPECT_LE(rms, unit + 1e-6 * mean) << "mean " << mean;
    EXPECT_LE(max_abs(error), 8 * unit + 1e-5 * mean) << "mean " << mean;
    // Denominators are sums of unrounded features.
    EXPECT_LE(rel_rms(got.g, truth.g), 2e-6);
    EXPECT_TRUE(got.o.padding_untouched());
  }
}

TEST_P(Tiles, BitsDoNotDependOnThreads) {
  Problem<float> problem = bf16_problem(GetParam());
  const Outputs<float> one = run(problem, true, 1);
  for (const int threads : {2, 3}) {
    const Outputs<float> many = run(problem, true, threads);
    EXPECT_TRUE(same_bits(one.o, many.o)) << threads;
    EXPECT_TRUE(same_bits(one.g, many.g)) << threads;
  }
}

TEST_P(Tiles, TakeAndGiveStates) {
  Problem<float> problem = bf16_problem(GetParam(), 3);
  problem.add_states(40);
  Outputs<float> truth = problem.outputs(), got = run(problem);
  reference::forward<double>(problem.args(truth), problem.options());
  EXPECT_LE(rel_rms(got.o, truth.o), kUnit);
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < truth.final_state.size(); ++i) {
    error += std::pow(got.final_state[i] - truth.final_state[i], 2);
    norm += std::pow(truth.final_state[i], 2);
  }
  EXPECT_LE(std::sqrt(error), kUnit * std::sqrt(norm));
}
INSTANTIATE_TEST_SUITE_P(Core, Tiles, testing::ValuesIn(tile_cases()),
                         [](const auto& info) { return case_name(info.param); });

class TileUse : public Tiles {};
INSTANTIATE_TEST_SUITE_P(Core, TileUse,
                         testing::Values(Case{
                             .N = 400, .M = 400, .D = 16, .E = 16, .causal = true, .chunk = 64}));

/// The bits of a call tell which kernel it ran.
TEST_P(TileUse, IsForBf16InputsAndSumsThatCannotVanish) {
  Problem<float> problem = bf16_problem(GetParam());
  const Outputs<float> plain = run(problem, /*bf16=*/false);
  EXPECT_FALSE(same_bits(run(problem).o, plain.o));
  Problem<float> odd = problem, narrow = problem, dropped = problem;
  odd.c.p = 1;
  EXPECT_TRUE(same_bits(run(odd).o, run(odd, false).o));
  dropped.base.dropout = {.rate = 0.5, .mode = DropoutMode::kQuadratic, .seed = 1};
  EXPECT_TRUE(same_bits(run(dropped).o, run(dropped, false).o));
  Case c = GetParam();
  c.E = 15;
  Problem<float> ragged = bf16_problem(c);
  EXPECT_TRUE(same_bits(run(ragged).o, run(ragged, false).o));
}

TEST_P(TileUse, IsNotForNarrowerInstructionSets) {
  for_each_target([this] {
    Problem<float> problem = bf16_problem(GetParam());
    const bool same = same_bits(run(problem).o, run(problem, false).o);
    EXPECT_EQ(same, std::strcmp(target_name(), "AVX3") != 0);
  });
}

/// What is subtracted from values comes from the past alone.
TEST_P(TileUse, InfinitiesDoNotLeakBack) {
  for (const std::int64_t keys_before : {0, 1, 100}) {
    Case c = GetParam();
    c.M = c.N + keys_before;
    Problem<float> problem = bf16_problem(c);
    const std::int64_t at = 256 + keys_before;
    problem.v.view().head(0, 0)[at][3] = std::numeric_limits<float>::infinity();
    Outputs<float> out = run(problem);
    for (std::int64_t n = 0; n < 256; ++n)
      for (std::int64_t e = 0; e < c.E; ++e)
        ASSERT_TRUE(std::isfinite(out.o.view().head(0, 0)[n][e])) << n << " " << e;
    EXPECT_FALSE(std::isfinite(out.o.view().head(0, 0)[399][3]));
  }
}

/// Finite in, finite out, as in float32.
TEST_P(TileUse, StaysFinite) {
  Problem<float> problem = bf16_problem(GetParam());
  int i = 0;
  problem.v.for_each([&](float& x) { x = (i++ % 3 ? 1 : -1) * 0x1.fep127F; });
  EXPECT_TRUE(run(problem).o.all_finite());
}

}  // namespace
}  // namespace fastmax
