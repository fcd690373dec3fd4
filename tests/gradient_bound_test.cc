// Bounds on |d o_nj / d s_nm|: the paper's, where it holds and where it does not, and one that holds everywhere.
//
//   the paper, section 2.3:   10 |v_j|_inf / (2 N + 3),  assuming 0 <= s <= 1
//   here, for p = 2, any s:   2 a_nm |v_j|_inf,          from |1 + s| <= ((1 + s)^2 + 1) / 2 = f(s)
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "src/reference.h"

namespace fastmax {
namespace {

/// d o / d s_m = f'(s_m) (v_m - o) / g for one row of scores and one channel of values.
struct Slopes {
  std::vector<double> slope, a;  // a: the row of the attention matrix
};
Slopes slopes(const std::vector<double>& s, const std::vector<double>& v) {
  double g = 0, o = 0;
  for (std::size_t m = 0; m < s.size(); ++m) {
    const double f = reference::score(s[m], 2);
    g += f;
    o += f * v[m];
  }
  o /= g;
  Slopes out;
  for (std::size_t m = 0; m < s.size(); ++m) {
    out.slope.push_back(reference::score(s[m], 1) * (v[m] - o) / g);
    out.a.push_back(reference::score(s[m], 2) / g);
  }
  return out;
}
double paper_bound(std::size_t N) { return 10 / (2 * static_cast<double>(N) + 3); }  // |v| = 1

/// The largest |d o / d s_m| over random scores in [low, high] and values in {-1, 1}.
double steepest(std::size_t N, double low, double high, int tries) {
  std::mt19937 rng(static_cast<unsigned>(N));
  std::uniform_real_distribution<double> uniform(low, high);
  double most = 0;
  for (int i = 0; i < tries; ++i) {
    std::vector<double> s, v;
    for (std::size_t m = 0; m < N; ++m) {
      s.push_back(uniform(rng));
      v.push_back(rng() % 2 ? 1 : -1);
    }
    for (const double x : slopes(s, v).slope) most = std::max(most, std::abs(x));
  }
  return most;
}

TEST(GradientBound, OfThePaperHoldsForScoresFromZeroToOne) {
  for (const std::size_t N : {1, 2, 3, 5, 10, 60, 300})
    EXPECT_LE(steepest(N, 0, 1, 2000), paper_bound(N)) << N;
}

/// |d o / d s| of a key with score s and v = 1 among N - 1 with score `others` and v = -1.
double one_against_all(std::size_t N, double s, double others = 0) {
  std::vector<double> scores(N, others), v(N, -1);
  scores[0] = s;
  v[0] = 1;
  return std::abs(slopes(scores, v).slope[0]);
}

// The worst there is, not a random one. With R the sum of the other keys' f, the slope is at most 2 (1 + s) R / (f(s) +
// R)^2, which falls in R > f(s); so all others have s = 0, R = N - 1, and 1 + s = min(2, sqrt((2 N - 1) / 3)) is best:
// s = 0 for two keys, s = 1 from seven on.
TEST(GradientBound, OfThePaperHoldsForTheWorstScoresFromZeroToOne) {
  for (const std::size_t N : {2, 3, 4, 5, 6, 7, 10, 60, 300, 10000}) {
    const double best = std::min(2.0, std::sqrt((2 * static_cast<double>(N) - 1) / 3)) - 1;
    const double worst = one_against_all(N, best);
    EXPECT_LE(worst, paper_bound(N)) << N;
    for (int i = 0; i <= 1000; ++i) EXPECT_LE(one_against_all(N, i / 1000.0), worst + 1e-15) << N;
    if (N <= 60) {
      EXPECT_LE(steepest(N, 0, 1, 2000), worst) << N;  // random scores and values
    }
  }
}

// Scores of equations 5 and 6 range over (-D, D). At s = sqrt(2 N) the slope falls like N^-1/2, not like 1 / N.
TEST(GradientBound, OfThePaperFailsForLargeScores) {
  const auto slope_at = [](std::size_t N) {
    return one_against_all(N, std::sqrt(2 * static_cast<double>(N)));
  };
  for (const std::size_t N : {60, 100, 1000, 100000}) {
    EXPECT_GT(slope_at(N), paper_bound(N)) << N;
    EXPECT_NEAR(slope_at(N) * std::sqrt(2 * static_cast<double>(N)), 1, 0.15) << N;
  }
  EXPECT_LT(slope_at(50), paper_bound(50));
}

// Negative scores make the denominator small: f is least, 1/2, at s = -1.
TEST(GradientBound, OfThePaperFailsForNegativeScores) {
  for (const std::size_t N : {15, 100, 10000})
    EXPECT_GT(one_against_all(N, 1, -1), paper_bound(N)) << N;
  EXPECT_LT(one_against_all(14, 1, -1), paper_bound(14));
}

TEST(GradientBound, OfOursHoldsForAnyScore) {
  std::mt19937 rng(3);
  for (const double spread : {0.1, 1.0, 10.0, 1000.0}) {
    std::normal_distribution<double> normal(0, spread);
    for (int i = 0; i < 500; ++i) {
      std::vector<double> s, v;
      for (int m = 0; m < 1 + i % 40; ++m) {
        s.push_back(normal(rng));
        v.push_back(rng() % 2 ? 1 : -1);
      }
      const Slopes all = slopes(s, v);
      for (std::size_t m = 0; m < s.size(); ++m)
        ASSERT_LE(std::abs(all.slope[m]), 2 * all.a[m] * (1 + 1e-12));
    }
  }
}

}  // namespace
}  // namespace fastmax
