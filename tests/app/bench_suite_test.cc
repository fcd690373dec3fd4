// The contest behind the suite, and its verdicts.
#include "app/bench_suite.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "app/bench_contest.h"

namespace fastmax::app {
namespace {

TEST(Contest, RatiosAreThoseOfTheWork) {
  BenchClock clock(1, at::kFloat);
  Contest contest(clock, 5, 1);
  const auto work = [](int n) {
    return [n] {
      double x = 1;
      for (int i = 0; i < n * 100000; ++i) x = x * 1.0000001 + 1e-9;
      volatile double keep = x;
      (void)keep;
    };
  };
  const int one = contest.enter(work(1), 1e6), three = contest.enter(work(3), 3e6);
  contest.run();
  EXPECT_NEAR(contest.ratio(three, one), 3, 0.6);
  EXPECT_NEAR(contest.ratio(std::vector{one, three}, std::vector{one}), 4, 0.8);
  EXPECT_NEAR(contest.of_gemm(one) / contest.of_gemm(three), 1, 0.25);
}

TEST(Contest, AWrongAnswerIsNotTimed) {
  BenchClock clock(1, at::kFloat);
  Contest contest(clock, 2, 1);
  const BenchShape shape{.N = 100, .D = 8};
  Contender c = fastmax_contender("factorised", 2, shape, bench_inputs(shape),
                                  std::make_shared<BenchOutputs>());
  EXPECT_EQ(contest.enter(c), 0);
  c.call = [right = c.call, o = c.outputs->o] {
    right();
    o[0][0][0][0].add_(1);
  };
  EXPECT_THROW(contest.enter(c), WrongAnswer);
}

TEST(Suite, Verdicts) {
  const double none = std::numeric_limits<double>::quiet_NaN();
  const auto verdict = [](double measured, double must, double aim, bool higher) {
    return SuiteRow{.measured = measured, .must = must, .aim = aim, .higher_is_better = higher}
        .verdict();
  };
  EXPECT_EQ(verdict(0.8, 0.9, 1, true), "miss");
  EXPECT_EQ(verdict(0.9, 0.9, 1, true), "pass");
  EXPECT_EQ(verdict(1.1, 0.9, 1, true), "aim");
  EXPECT_EQ(verdict(1.2, 1.1, 1, false), "miss");
  EXPECT_EQ(verdict(1.05, 1.1, 1, false), "pass");
  EXPECT_EQ(verdict(0.9, 1.1, 1, false), "aim");
  EXPECT_EQ(verdict(none, 1.1, 1, false), "miss");
  EXPECT_EQ(verdict(1, 1.1, none, false), "pass");  // nothing more is aimed at
  EXPECT_EQ((SuiteRow{.measured = none, .not_run = "no such machine"}.verdict()), "not run");
}

}  // namespace
}  // namespace fastmax::app
