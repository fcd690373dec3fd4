// Keys of weight 0 are left out where a batch has many: the same bits as a call on the others, and what stands in the
// padding is never read.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "fastmax/fastmax.h"
#include "tests/problem.h"
#include "tests/rounding.h"
#include "tests/support.h"

namespace fastmax {
namespace {
using namespace testing_support;

/// Entry b of a batch of B states.
template <class T>
std::vector<T> entry_of(const std::vector<T>& states, std::int64_t b, std::int64_t B) {
  const auto each = static_cast<std::ptrdiff_t>(states.size()) / B;
  return {states.begin() + b * each, states.begin() + (b + 1) * each};
}

/// Entry b of a problem over its keys of weight above 0 only.
template <class T>
Problem<T> without_padding(const Problem<T>& whole, std::int64_t b) {
  auto& all = const_cast<Problem<T>&>(whole);
  const auto copy_rows = [&](const Tensor<T>& from, const std::vector<std::int64_t>& rows) {
    auto to = Tensor<T>::nan({1, from.s.H, static_cast<std::int64_t>(rows.size()), from.s.D},
                             from.layout);
    for (std::int64_t h = 0; h < from.s.H; ++h)
      for (std::size_t i = 0; i < rows.size(); ++i)
        std::ranges::copy(from.view().head(b, h)[rows[i]],
                          to.view().head(0, h)[static_cast<std::int64_t>(i)].begin());
    return to;
  };
  std::vector<std::int64_t> kept, queries;
  for (std::int64_t m = 0; m < whole.c.M; ++m)
    if (all.w.bn().row(b)[m] != 0) kept.push_back(m);
  for (std::int64_t n = 0; n < whole.c.N; ++n) queries.push_back(n);

  Problem<T> one = whole;
  one.c.B = 1;
  one.c.M = static_cast<std::int64_t>(kept.size());
  one.q = copy_rows(whole.q, queries);
  one.d_o = copy_rows(whole.d_o, queries);
  one.k = copy_rows(whole.k, kept);
  one.v = copy_rows(whole.v, kept);
  one.w = Tensor<T>::filled({1, 1, 1, one.c.M}, [] { return 1; });
  for (std::size_t i = 0; i < kept.size(); ++i) one.w.bn().row(0)[i] = all.w.bn().row(b)[kept[i]];
  one.initial_state = entry_of(whole.initial_state, b, whole.c.B);
  one.d_final_state = entry_of(whole.d_final_state, b, whole.c.B);
  return one;
}

template <class T>
void fill_padding_with_nan(Problem<T>& problem) {
  for (std::int64_t b = 0; b < problem.c.B; ++b)
    for (std::int64_t m = 0; m < problem.c.M; ++m) {
      if (problem.w.bn().row(b)[m] != 0) continue;
      for (std::int64_t h = 0; h < problem.c.Hkv; ++h) {
        std::ranges::fill(problem.k.view().head(b, h)[m], std::numeric_limits<T>::quiet_NaN());
        std::ranges::fill(problem.v.view().head(b, h)[m], std::numeric_limits<T>::quiet_NaN());
      }
    }
}

template <class T>
struct Result {
  Outputs<T> out;
  Gradients<T> gradients;
};
template <class T>
Result<T> compute(Problem<T>& problem, const Options& options, const Execution& execution) {
  Result<T> result{problem.outputs(), problem.gradients()};
  forward(problem.args(result.out), options, execution);
  backward(problem.args(result.out, result.gradients), options, execution);
  return result;
}

template <class T>
void expect_same_rows(std::span<const T> a, std::span<const T> b, const std::string& what) {
  for (std::size_t i = 0; i < a.size(); ++i) ASSERT_EQ(a[i], b[i]) << what << " at " << i;
}

/// Entry b of `whole` against `one`, which has only its kept keys: bit for bit, and no gradient for the padding.
template <class T>
void expect_entry(Problem<T>& problem, Result<T>& whole, std::int64_t b, Result<T>& one) {
  const Case& c = problem.c;
  for (std::int64_t h = 0; h < c.H; ++h) {
    for (std::int64_t n = 0; n < c.N; ++n) {
      expect_same_rows<T>(whole.out.o.view().head(b, h)[n], one.out.o.view().head(0, h)[n], "o");
      expect_same_rows<T>(whole.gradients.dq.view().head(b, h)[n],
                          one.gradients.dq.view().head(0, h)[n], "dq");
      ASSERT_EQ(whole.out.g.bhn().head(b, h)[n], one.out.g.bhn().head(0, h)[n]);
    }
  }
  for (std::int64_t h = 0; h < c.Hkv; ++h) {
    std::int64_t i = 0;
    for (std::int64_t m = 0; m < c.M; ++m) {
      const auto dk = whole.gradients.dk.view().head(b, h)[m],
                 dv = whole.gradients.dv.view().head(b, h)[m];
      if (problem.w.bn().row(b)[m] != 0) {
        expect_same_rows<T>(dk, one.gradients.dk.view().head(0, h)[i], "dk");
        expect_same_rows<T>(dv, one.gradients.dv.view().head(0, h)[i], "dv");
        ++i;
      } else {
        for (const T x : dk) ASSERT_EQ(x, 0);
        for (const T x : dv) ASSERT_EQ(x, 0);
      }
    }
  }
  EXPECT_EQ(entry_of(whole.out.final_state, b, c.B), one.out.final_state);
  EXPECT_EQ(entry_of(whole.gradients.d_initial_state, b, c.B), one.gradients.d_initial_state);
}

std::vector<Case> cases() {
  return {
      {.B = 2, .H = 2, .Hkv = 2, .N = 70, .M = 150, .D = 8, .E = 12, .weights = Weights::kMask},
      {.B = 3, .H = 4, .Hkv = 2, .N = 1, .M = 120, .D = 5, .E = 3, .weights = Weights::kMask},
      {.B = 2, .N = 65, .M = 130, .D = 16, .E = 16, .p = 1, .weights = Weights::kMask},
      {.B = 9, .N = 3, .M = 140, .D = 4, .E = 4, .p = 3, .weights = Weights::kMask},
      {.B = 2,
       .H = 2,
       .Hkv = 1,
       .N = 33,
       .M = 80,
       .D = 8,
       .E = 8,
       .p = 4,
       .weights = Weights::kMask,
       .layout = Layout::kBnhd},
      {.B = 2, .H = 2, .Hkv = 1, .N = 40, .M = 40, .D = 4, .E = 4, .weights = Weights::kZero},
  };
}

template <class T>
class PaddingTest : public testing::Test {};
using Numbers = testing::Types<float, double>;
TYPED_TEST_SUITE(PaddingTest, Numbers);

/// By entries alone, one thread, over the kept keys: what any number of threads must give for the batch. The entry's
/// number matters to dropout, so there is none here; DropoutDrawsForTheWholeBatch has it.
template <class T>
void expect_left_out(Problem<T> problem, const Options& options) {
  fill_padding_with_nan(problem);
  for (std::int64_t b = 0; b < problem.c.B; ++b)
    for (std::int64_t m = 0; m < problem.c.M; ++m)
      problem.w.bn().row(b)[m] *= static_cast<T>(1 + m % 3);
  std::vector<Result<T>> entries;
  for (std::int64_t b = 0; b < problem.c.B; ++b) {
    Problem<T> one = without_padding(problem, b);
    entries.push_back(compute(one, options, serial()));
  }
  for (const int threads : {1, 2, 3}) {
    auto whole = compute(problem, options, {.threads = threads});
    for (std::int64_t b = 0; b < problem.c.B; ++b)
      expect_entry(problem, whole, b, entries[static_cast<std::size_t>(b)]);
  }
}

TYPED_TEST(PaddingTest, IsTheCallOnTheOtherKeys) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(case_name(c));
    for (const Form form : {Form::kAuto, Form::kDirect, Form::kFactorised}) {
      SCOPED_TRACE(static_cast<int>(form));
      Problem<TypeParam> problem(c);
      expect_left_out(problem, problem.options(form));
    }
    Problem<TypeParam> with_states(c);
    with_states.add_states();
    expect_left_out(with_states, with_states.options());
    Problem<TypeParam> max_norm(c);
    max_norm.base.normalize = Normalize::kMaxNorm;
    expect_left_out(max_norm, max_norm.options());
  }
}

template <class T>
void expect_right(Problem<T> problem, const Options& options) {
  const auto right = answer(problem);
  const auto gradient = gradient_answer(problem);
  for_each_target([&] {
    const auto result = compute(problem, options, {});
    EXPECT_LE(max_abs_diff(result.out.o, right.truth.o), right.o);
    EXPECT_LE(max_abs_diff(result.out.g, right.truth.g), right.g);
    EXPECT_LE(max_abs_diff(result.gradients.dq, gradient.truth.dq), gradient.dq);
    EXPECT_LE(max_abs_diff(result.gradients.dk, gradient.truth.dk), gradient.dk);
    EXPECT_LE(max_abs_diff(result.gradients.dv, gradient.truth.dv), gradient.dv);
  });
}

// A few keys are not worth copies of all others, and dropout of tokens draws by their places. There the kernels give such
// keys no weight, and the definition judges them.
TYPED_TEST(PaddingTest, AFewStayWhereTheyAre) {
  for (const Form form : {Form::kDirect, Form::kFactorised}) {
    for (const int p : {1, 2}) {
      Problem<TypeParam> problem(
          {.B = 2, .N = 70, .M = 130, .D = 8, .E = 8, .p = p, .weights = Weights::kFractional});
      for (const std::int64_t m : {0, 64, 129}) problem.w.bn().row(1)[m] = 0;
      expect_right(problem, problem.options(form));
    }
  }
  Problem<TypeParam> problem(
      {.B = 2, .N = 70, .M = 130, .D = 8, .E = 8, .weights = Weights::kMask});
  problem.base.dropout = {.rate = 0.3, .mode = DropoutMode::kToken, .seed = 5};
  expect_right(problem, problem.options());
}

// The mask of an entry's features is drawn for its number in the batch.
TYPED_TEST(PaddingTest, DropoutDrawsForTheWholeBatch) {
  for (const DropoutMode mode : {DropoutMode::kQuadratic, DropoutMode::kStandard}) {
    Problem<TypeParam> problem(
        {.B = 3, .N = 20, .M = 130, .D = 8, .E = 8, .weights = Weights::kMask});
    problem.base.dropout = {.rate = 0.3, .mode = mode, .seed = 5};
    expect_right(problem, problem.options());
  }
}

// Once the workspace has what the plan says, a call allocates nothing.
TEST(Padding, ItsPlanKnowsTheWorkspace) {
  Problem<float> problem(
      {.B = 5, .H = 2, .Hkv = 1, .N = 70, .M = 300, .D = 8, .E = 8, .weights = Weights::kMask});
  const Options options = problem.options();
  for (const int threads : {1, 2, 3}) {
    Outputs<float> out = problem.outputs();
    Gradients<float> gradients = problem.gradients();
    Workspace workspace;
    workspace.reserve(plan(problem.args(out), options, threads).workspace_bytes);
    const std::size_t size = workspace.size();
    forward(problem.args(out), options, {.threads = threads, .workspace = &workspace});
    EXPECT_EQ(workspace.size(), size);
    Workspace of_backward;
    of_backward.reserve(plan(problem.args(out, gradients), options, threads).workspace_bytes);
    const std::size_t size_of_backward = of_backward.size();
    backward(problem.args(out, gradients), options,
             {.threads = threads, .workspace = &of_backward});
    EXPECT_EQ(of_backward.size(), size_of_backward);
  }
}

// The plan is made for the keys that are left, which may be few enough for scores.
TEST(Padding, ThePlanIsOfTheKeysThatAreLeft) {
  Problem<float> problem({.N = 64, .M = 4096, .D = 8, .E = 8, .weights = Weights::kMask});
  Outputs<float> out = problem.outputs();
  EXPECT_EQ(plan(problem.args(out), problem.options()).form, Form::kFactorised);
  for (std::int64_t m = 32; m < 4096; ++m) problem.w.bn().row(0)[m] = 0;
  EXPECT_EQ(plan(problem.args(out), problem.options()).form, Form::kDirect);
}

TEST(Padding, WhatOverflowsIsRefusedBeforeAnyEntryRuns) {
  Problem<float> problem(
      {.B = 3, .N = 4, .M = 40, .D = 64, .E = 4, .p = 4, .weights = Weights::kMask});
  std::ranges::fill_n(problem.w.bn().row(2), 39, 0.F);
  problem.w.bn().row(2)[39] = 0x1p40F;  // all that is left of the last entry
  problem.base.scale = 1e5;
  Outputs<float> out = problem.outputs();
  EXPECT_THROW(forward(problem.args(out), problem.options()), Error);
  EXPECT_TRUE(out.o.all_nan());
  EXPECT_THROW(plan(problem.args(out), problem.options()), Error);
}

// Floor::kError throws once, when every entry is done, and says the smallest of all.
TEST(Padding, AnErrorWaitsForEveryEntry) {
  Problem<float> problem(
      {.B = 2, .N = 70, .M = 70, .D = 4, .E = 4, .p = 1, .weights = Weights::kMask});
  problem.base.scale = 3;  // far beyond the default: weights below zero
  problem.base.floor = Floor::kClamp;
  Outputs<float> out = problem.outputs();
  const double smallest = forward(problem.args(out), problem.options()).smallest_denominator;
  ASSERT_LE(smallest, 0);
  problem.base.floor = Floor::kError;
  out = problem.outputs();
  try {
    forward(problem.args(out), problem.options());
    FAIL() << "no error";
  } catch (const Error& error) {
    std::ostringstream number;
    number << smallest;
    EXPECT_NE(std::string(error.what()).find("got " + number.str()), std::string::npos)
        << error.what();
  }
  EXPECT_TRUE(out.o.all_finite());
}

}  // namespace
}  // namespace fastmax
