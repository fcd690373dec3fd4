// The smallest denominator that a call met, as every call reports it, and which calls it ends.
#include "src/denominator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "fastmax/fastmax.h"
#include "tests/problem.h"
#include "tests/rounding.h"
#include "tests/support.h"

namespace fastmax {
namespace {
using namespace testing_support;

/// Causal, of odd order, at a scale where many weights are negative.
template <class T>
Problem<T> unsafe_problem(std::optional<Floor> floor = Floor::kClamp) {
  Problem<T> problem(
      {.B = 2, .H = 4, .Hkv = 2, .N = 90, .M = 90, .D = 6, .E = 3, .p = 1, .causal = true});
  problem.base.scale = 1;
  problem.base.floor = floor;
  return problem;
}

/// Every second key is exactly opposite to its query, and so long that rounding alone keeps its f from 0: at the
/// default scale the first row's denominator is at its floor.
Problem<float> opposite_problem() {
  Problem<float> problem(
      {.B = 1, .H = 1, .Hkv = 1, .N = 8, .M = 8, .D = 6, .E = 3, .p = 1, .causal = true});
  problem.base = {};
  for (std::int64_t n = 0; n < 8; n += 2)
    for (std::int64_t d = 0; d < 6; ++d)
      problem.k.view().head(0, 0)[n][d] = -(problem.q.view().head(0, 0)[n][d] *= 1e4f);
  return problem;
}

template <class T>
State<T> empty_state(const Problem<T>& problem) {
  return State<T>(problem.c.B, problem.c.Hkv, problem.c.D, problem.c.E, problem.options());
}
template <class T>
std::vector<T> values(const State<T>& state) {
  return {state.view().data, state.view().data + state.view().size()};
}

/// The text of the Error that `call` throws; empty: none.
template <class Call>
std::string error_of(Call call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}
constexpr const char* kRule = "denominators above";

// As it was before the floor: what was met, not what it was replaced by.
TEST(SmallestDenominator, IsThatBeforeTheFloor) {
  Problem<float> problem = unsafe_problem<float>();
  const auto right = answer(problem);
  ASSERT_LT(right.smallest, -0.1);
  for_each_target([&] {
    for (const Form form : {Form::kDirect, Form::kFactorised})
      for (const int threads : {1, 3}) {
        Outputs<float> out = problem.outputs();
        Options options = problem.options(form);
        const Report report = forward(problem.args(out), options, {.threads = threads});
        EXPECT_NEAR(report.smallest_denominator, right.smallest, right.g);
        options.floor = Floor::kError;
        std::ostringstream got;
        got << ", got " << report.smallest_denominator;
        const std::string text =
            error_of([&] { forward(problem.args(out), options, {.threads = threads}); });
        EXPECT_NE(text.find(kRule), std::string::npos) << text;
        EXPECT_NE(text.find(got.str()), std::string::npos) << text << got.str();
      }
  });
}

// A state that changes in place is not counted twice: o, states and report are those of a call with two states.
template <class T>
void in_place_is_apart(std::int64_t M, bool causal) {
  Problem<T> problem({.H = 4, .Hkv = 2, .N = 40, .M = M, .D = 6, .E = 3, .p = 1, .causal = causal});
  problem.base = {.scale = 0.05};
  problem.add_states();
  for_each_target([&] {
    Outputs<T> apart = problem.outputs(), in_place = problem.outputs();
    const Report expected = forward(problem.args(apart), problem.options());
    in_place.final_state = problem.initial_state;
    ForwardArgs<T> args = problem.args(in_place);
    args.initial_state = args.final_state;
    const Report report = forward(args, problem.options());
    EXPECT_EQ(report.smallest_denominator, expected.smallest_denominator);
    EXPECT_GT(report.smallest_denominator, 0.5);
    EXPECT_TRUE(same_bits(in_place.o, apart.o) && same_bits(in_place.g, apart.g));
    EXPECT_EQ(in_place.final_state, apart.final_state);
  });
}
TEST(SmallestDenominator, IsTheSameInPlace) {
  for (const bool causal : {false, true})
    for (const std::int64_t M : {100, 20000}) {
      in_place_is_apart<float>(M, causal);
      in_place_is_apart<double>(M, causal);
    }
}

// NaN: there was none.
TEST(SmallestDenominator, IsNanWithoutRows) {
  const auto is_nan = [](Problem<float> problem) {
    Outputs<float> out = problem.outputs();
    EXPECT_TRUE(std::isnan(forward(problem.args(out), problem.options()).smallest_denominator));
    const std::int32_t cu_q[] = {0, static_cast<std::int32_t>(problem.c.N)};
    const std::int32_t cu_k[] = {0, static_cast<std::int32_t>(problem.c.M)};
    if (problem.c.B == 1) {
      EXPECT_TRUE(std::isnan(forward(problem.args(out), Sequences{cu_q, cu_k}, problem.options())
                                 .smallest_denominator));
    }
  };
  for (const int p : {1, 2}) {
    is_nan(Problem<float>({.N = 0, .M = 5, .p = p}));
    is_nan(Problem<float>({.N = 5, .M = 0, .p = p}));
    is_nan(Problem<float>({.B = 0, .N = 5, .M = 5, .p = p}));
    is_nan(Problem<float>({.N = 5, .M = 5, .p = 2}));
    is_nan(Problem<float>({.B = 1, .N = 5, .M = 5, .p = p, .weights = Weights::kZero}));
    Problem<float> only_keys({.N = 0, .M = 5, .p = p});
    only_keys.add_states();
    is_nan(only_keys);
  }
  EXPECT_TRUE(std::isnan(Report{}.smallest_denominator));
}

// A sequence without rows beside others does not hide theirs.
TEST(SmallestDenominator, OfSequencesPassesEmptyOnesOver) {
  Problem<float> problem({.N = 6, .M = 9, .p = 1});
  Outputs<float> out = problem.outputs();
  std::vector<float> states(3 * 5 * 5);
  ForwardArgs<float> args = problem.args(out);
  args.final_state = {states.data(), 3, 1, 5, 4};
  const std::int32_t cu_q[] = {0, 0, 6, 6}, cu_k[] = {0, 2, 7, 9};
  const Report report = forward(args, Sequences{cu_q, cu_k}, problem.options());
  double smallest = 1e9;
  for (std::int64_t n = 0; n < 6; ++n)
    smallest = std::min(smallest, double(out.g.bhn().head(0, 0)[n]) / 5);
  EXPECT_NEAR(report.smallest_denominator, smallest, 1e-6);
}

// Steps, prefills and queries report what the causal pass over the same tokens does.
TEST(SmallestDenominator, OfAStateIsThatOfTheCausalPass) {
  Problem<double> problem = unsafe_problem<double>();
  const auto right = answer(problem);
  for_each_target([&] {
    Outputs<double> out = problem.outputs();
    State<double> stepped = empty_state(problem), extended = stepped;
    double smallest = 1e9;
    for (std::int64_t n = 0; n < 90; ++n) {
      const auto token = [&](auto x) { return part(x, n, n + 1); };
      const Report report = stepped.step(token(problem.q.view()), token(problem.k.view()),
                                         token(problem.v.view()), token(out.o.view()));
      EXPECT_EQ(report.form, Form::kFactorised);
      smallest = std::min(smallest, report.smallest_denominator);
    }
    EXPECT_NEAR(smallest, right.smallest, 10 * right.g);
    EXPECT_LE(max_abs_diff(out.o, right.truth.o), 10 * right.o);
    EXPECT_NEAR(extended.extend(problem.q.view(), problem.k.view(), problem.v.view(), out.o.view())
                    .smallest_denominator,
                right.smallest, 3 * right.g);
    const double last = extended.query(part(problem.q.view(), 89, 90), part(out.o.view(), 89, 90))
                            .smallest_denominator;
    EXPECT_TRUE(std::isfinite(last));
  });
  State<float> even(1, 1, 4, 4);
  Tensor<float> token = Tensor<float>::filled({1, 1, 1, 4}, [] { return 1; }), o = token;
  EXPECT_TRUE(std::isnan(
      even.step(token.view(), token.view(), token.view(), o.view()).smallest_denominator));
}

// Under kError what throws leaves the state, and its count, as they were; under kClamp nothing throws.
TEST(DenominatorAtItsFloor, LeavesAStateAsItWas) {
  for (const auto floor : {std::optional<Floor>(), std::optional<Floor>(Floor::kError)}) {
    Problem<float> problem = unsafe_problem<float>(floor);
    Outputs<float> out = problem.outputs();
    State<float> state = empty_state(problem);
    const float* const data = state.view().data;
    // Tokens of one direction, whose denominators are far from zero.
    const auto one = [&](std::int64_t n) { return part(problem.k.view(), n, n + 1); };
    Tensor<float> q = Tensor<float>::nan({2, 4, 1, 6});
    for (std::int64_t b = 0; b < 2; ++b)
      for (std::int64_t h = 0; h < 4; ++h)
        std::ranges::copy(problem.k.view().head(b, h / 2)[0], q.view().head(b, h)[0].begin());
    const auto first_o = part(out.o.view(), 0, 1);
    EXPECT_GT(
        state.step(q.view(), one(0), part(problem.v.view(), 0, 1), first_o).smallest_denominator,
        1);
    EXPECT_GT(
        state.extend(q.view(), one(0), part(problem.v.view(), 0, 1), first_o).smallest_denominator,
        1);
    EXPECT_EQ(state.count(), 2);
    const auto before = values(state);

    EXPECT_NE(error_of([&] {
                state.extend(problem.q.view(), problem.k.view(), problem.v.view(), out.o.view());
              }).find(kRule),
              std::string::npos);
    EXPECT_EQ(values(state), before);
    Tensor<float> opposite = q;
    opposite.for_each([](float& x) { x = -x; });
    EXPECT_NE(error_of([&] {
                state.step(opposite.view(), one(0), part(problem.v.view(), 0, 1), first_o);
              }).find(kRule),
              std::string::npos);
    EXPECT_EQ(values(state), before);
    EXPECT_NE(error_of([&] { state.query(opposite.view(), first_o); }).find(kRule),
              std::string::npos);
    // The free step likewise.
    EXPECT_NE(error_of([&] {
                step<float>({.q = opposite.view(),
                             .k = one(0),
                             .v = part(problem.v.view(), 0, 1),
                             .state = state.view(),
                             .o = first_o},
                            state.options());
              }).find(kRule),
              std::string::npos);
    EXPECT_EQ(values(state), before);
    EXPECT_EQ(state.count(), 2);
    EXPECT_EQ(state.view().data, data);

    problem.base.floor = Floor::kClamp;
    State<float> clamps = empty_state(problem);
    EXPECT_LT(clamps.extend(problem.q.view(), problem.k.view(), problem.v.view(), out.o.view())
                  .smallest_denominator,
              0);
    EXPECT_NO_THROW(clamps.step(opposite.view(), one(0), part(problem.v.view(), 0, 1), first_o));
    EXPECT_EQ(clamps.count(), 91);
  }
}

// Up to the default scale no weight is negative, and a denominator that rounding brings to zero ends nothing, whether
// the scale was left out, written down or loaded. Above it the caller's choice is to blame.
TEST(DenominatorAtItsFloor, DependsOnTheScaleNotOnWhoWroteIt) {
  Problem<float> problem = opposite_problem();
  Outputs<float> out = problem.outputs();
  const double safe = default_scale(1, 6);
  const Report report = forward(problem.args(out), problem.options());
  ASSERT_LE(report.smallest_denominator, kDenominatorFloor<float>);
  problem.base.scale = safe;
  EXPECT_NO_THROW(forward(problem.args(out), problem.options()));
  problem.base.scale = std::nextafter(safe, 1.0);
  EXPECT_NE(error_of([&] { forward(problem.args(out), problem.options()); }).find(kRule),
            std::string::npos);
  problem.base.floor = Floor::kClamp;
  EXPECT_NO_THROW(forward(problem.args(out), problem.options()));
  problem.base = {.scale = safe, .coefficients = {{1, 1}}};
  EXPECT_NE(error_of([&] { forward(problem.args(out), problem.options()); }).find(kRule),
            std::string::npos);
}

// Rows of the attention matrix are what forward applies, so what ends forward ends them: for the rows asked for.
TEST(DenominatorAtItsFloor, EndsAttentionWeights) {
  Problem<float> problem = unsafe_problem<float>({});
  Tensor<float> a = Tensor<float>::nan({2, 4, 90, 90}), one = Tensor<float>::nan({2, 4, 1, 90});
  const auto weights = [&](Tensor<float>& to, std::span<const std::int64_t> rows = {}) {
    attention_weights<float>(
        {.q = problem.q.view(), .k = problem.k.view(), .rows = rows, .a = to.view()},
        problem.options());
  };
  EXPECT_NE(error_of([&] { weights(a); }).find(kRule), std::string::npos);
  for (std::int64_t b = 0; b < 2; ++b)  // row 0 sees key 0, now its own direction
    for (std::int64_t h = 0; h < 4; ++h)
      std::ranges::copy(problem.q.view().head(b, h / 2 * 2)[0],
                        problem.k.view().head(b, h / 2)[0].begin());
  problem.base.floor = Floor::kError;
  for (std::int64_t b = 0; b < 2; ++b)
    for (std::int64_t h = 1; h < 4; h += 2)
      std::ranges::copy(problem.q.view().head(b, h - 1)[0], problem.q.view().head(b, h)[0].begin());
  const std::int64_t first[] = {0};
  EXPECT_NO_THROW(weights(one, first));
  EXPECT_NE(error_of([&] { weights(a); }).find(kRule), std::string::npos);
  problem.base.floor = Floor::kClamp;
  EXPECT_NO_THROW(weights(a));
}

}  // namespace
}  // namespace fastmax
