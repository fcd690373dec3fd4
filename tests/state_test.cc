// A state as a value: a past of any length, split, merged and stepped through without a difference.
// Gradients through initial and final states against the definition are options_test.cc's, for every pair of options.
#include "fastmax/state.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "tests/problem.h"
#include "tests/rounding.h"
#include "tests/states.h"
#include "tests/support.h"

namespace fastmax {
namespace {
using namespace testing_support;

struct StateCase {
  Case c;
  Options base{.floor = Floor::kClamp};
};
void PrintTo(const StateCase& s, std::ostream* out) {
  *out << case_name(s.c) << options_name(s.base);
}

/// One long causal sequence with as many queries as keys; every normalisation that a state can have.
std::vector<StateCase> state_cases() {
  std::vector<StateCase> cases;
  for (const int p : {1, 2, 3, 4})
    for (const Normalize normalize : {Normalize::kStandardize, Normalize::kL2, Normalize::kNone}) {
      const Case c{.B = 2,
                   .H = 4,
                   .Hkv = 2,
                   .N = 150,
                   .M = 150,
                   .D = 5,
                   .E = p == 2 ? 16 : 3,
                   .p = p,
                   .causal = true,
                   .weights = p % 2 == 0 ? Weights::kFractional : Weights::kNone,
                   .layout = Layout::kBnhd};
      Options base{.normalize = normalize, .floor = Floor::kClamp};
      if (normalize == Normalize::kNone) base.scale = 0.05;
      cases.push_back({c, base});
      base.coefficients = {{1.2, 0.6, 0.4, 0.1, 0.2}};
      base.scale = normalize == Normalize::kNone ? 0.02 : 0.15;
      cases.push_back({c, base});
    }
  cases.push_back({{.N = 70, .M = 70, .D = 1, .E = 1, .causal = true}});
  // A step takes several vectors of a row at once: whole ones, some that overlap, and more than one pass.
  for (const std::int64_t E : {31, 47, 80, 150})
    cases.push_back({{.H = 4, .Hkv = 2, .N = 70, .M = 70, .D = 20, .E = E, .causal = true}});
  return cases;
}

/// The state of all keys, from the definition, and how far from it rounding may lead.
template <class T>
struct WholeState {
  std::vector<T> truth;
  double tolerance;
};
template <class T>
WholeState<T> whole_state(Problem<T>& problem) {
  std::vector<T> zeros(empty_state(problem).view().size(), T(0));
  Problem<T> with_state = problem;
  with_state.initial_state = with_state.d_final_state = zeros;
  auto right = answer(with_state);
  return {right.truth.final_state, right.final_state};
}
template <class T>
std::vector<T> numbers(const State<T>& state) {
  const auto view = state.view();
  return {view.data, view.data + view.size()};
}
template <class T>
double distance(const State<T>& state, const WholeState<T>& whole) {
  return max_abs_diff(numbers(state), whole.truth);
}

class States : public testing::TestWithParam<StateCase> {};

template <class T, class Check>
void on_every_target(const StateCase& s, Check check) {
  Problem<T> problem(s.c);
  problem.base = s.base;
  const auto right = answer(problem);
  const auto whole = whole_state(problem);
  for_each_target([&] { check(problem, right, whole); });
}

/// Prefill in parts: 3 times the tolerance of the whole, as three parts round apart.
template <class T>
void any_split_is_the_whole(const StateCase& s) {
  on_every_target<T>(s, [](Problem<T>& problem, auto& right, auto& whole) {
    const std::int64_t N = problem.c.N;
    for (const std::vector<std::int64_t>& cuts :
         {std::vector<std::int64_t>{0, N}, {0, 1, N}, {0, 64, N}, {0, 0, 7, 66, N - 1, N, N}}) {
      State<T> state = empty_state(problem);
      Tensor<T> o = Tensor<T>::nan(problem.d_o.s, problem.c.layout);
      for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
        const auto cut = [&](auto x) { return part(x, cuts[i], cuts[i + 1]); };
        state.extend(cut(std::as_const(problem.q).view()), cut(std::as_const(problem.k).view()),
                     cut(std::as_const(problem.v).view()), cut(o.view()),
                     cut(problem.key_weight()));
      }
      EXPECT_EQ(state.count(), N);
      EXPECT_LE(max_abs_diff(o, right.truth.o), 3 * right.o);
      EXPECT_LE(distance(state, whole), 3 * whole.tolerance);
      EXPECT_TRUE(o.padding_untouched());
    }
  });
}
TEST_P(States, AnySplitIsTheWholeInFloat) { any_split_is_the_whole<float>(GetParam()); }
TEST_P(States, AnySplitIsTheWholeInDouble) { any_split_is_the_whole<double>(GetParam()); }

/// Token by token is the full causal pass. Rounding: one at every token, in the worst case all of one sign.
template <class T>
void steps_are_the_causal_pass(const StateCase& s) {
  StateCase unweighted = s;  // State::step has no weight
  unweighted.c.weights = Weights::kNone;
  on_every_target<T>(unweighted, [](Problem<T>& problem, auto& right, auto& whole) {
    struct Result {
      State<T> state;
      Tensor<T> o;
    };
    const auto steps = [&](int threads) {
      State<T> state = empty_state(problem);
      Tensor<T> o = Tensor<T>::nan(problem.d_o.s, problem.c.layout);
      for (std::int64_t n = 0; n < problem.c.N; ++n) {
        const auto token = [&](auto x) { return part(x, n, n + 1); };
        state.step(token(std::as_const(problem.q).view()), token(std::as_const(problem.k).view()),
                   token(std::as_const(problem.v).view()), token(o.view()), {.threads = threads});
      }
      return Result{std::move(state), std::move(o)};
    };
    const Result one = steps(1), many = steps(3);
    EXPECT_EQ(one.state.count(), problem.c.N);
    EXPECT_LE(max_abs_diff(one.o, right.truth.o), 10 * right.o);
    EXPECT_LE(distance(one.state, whole), 10 * whole.tolerance);
    EXPECT_TRUE(one.o.padding_untouched());
    EXPECT_TRUE(same_bits(one.o, many.o));
    EXPECT_TRUE(same_bits(numbers(one.state), numbers(many.state)));
  });
}
TEST_P(States, StepsAreTheCausalPassInFloat) { steps_are_the_causal_pass<float>(GetParam()); }
TEST_P(States, StepsAreTheCausalPassInDouble) { steps_are_the_causal_pass<double>(GetParam()); }

// The free function takes a weight: 0 leaves the state as it was.
TEST(Step, TakesAKeyWeight) {
  Problem<double> problem(
      {.N = 60, .M = 60, .D = 5, .E = 4, .causal = true, .weights = Weights::kFractional});
  for (std::int64_t m : {3, 4, 20}) problem.w.bn().row(0)[m] = 0;
  const auto right = answer(problem);
  const auto whole = whole_state(problem);
  State<double> state = empty_state(problem);
  Tensor<double> o = Tensor<double>::nan(problem.d_o.s);
  for (std::int64_t n = 0; n < 60; ++n) {
    const std::vector<double> before(state.view().data, state.view().data + state.view().size());
    const auto token = [&](auto x) { return part(x, n, n + 1); };
    step<double>({.q = token(std::as_const(problem.q).view()),
                  .k = token(std::as_const(problem.k).view()),
                  .v = token(std::as_const(problem.v).view()),
                  .key_weight = token(problem.key_weight()),
                  .state = state.view(),
                  .o = token(o.view())},
                 problem.options());
    if (problem.w.bn().row(0)[n] == 0) {
      EXPECT_TRUE(std::equal(before.begin(), before.end(), state.view().data));
    }
  }
  EXPECT_LE(max_abs_diff(o, right.truth.o), 10 * right.o);
  EXPECT_LE(distance(state, whole), 10 * whole.tolerance);
}

/// add and query are unmasked attention; the order in which parts merge changes nothing but rounding.
template <class T>
void parts_merge_in_any_order(const StateCase& s) {
  StateCase unmasked = s;
  unmasked.c.causal = false;
  unmasked.c.N = 40;
  on_every_target<T>(unmasked, [](Problem<T>& problem, auto& right, auto& whole) {
    const std::int64_t cuts[] = {0, 10, 11, 66, problem.c.M};
    std::vector<State<T>> parts;
    for (int i = 0; i < 4; ++i) {
      parts.push_back(empty_state(problem));
      const auto cut = [&](auto x) { return part(x, cuts[i], cuts[i + 1]); };
      parts[i].add(cut(std::as_const(problem.k).view()), cut(std::as_const(problem.v).view()),
                   cut(problem.key_weight()));
    }
    for (const std::vector<int>& order :
         {std::vector<int>{0, 1, 2, 3}, {3, 1, 0, 2}, {2, 3, 1, 0}}) {
      State<T> state = empty_state(problem);
      for (const int i : order) state += parts[i];
      Tensor<T> o = Tensor<T>::nan(problem.d_o.s, problem.c.layout);
      std::as_const(state).query(std::as_const(problem.q).view(), o.view());
      EXPECT_EQ(state.count(), problem.c.M);
      EXPECT_LE(max_abs_diff(o, right.truth.o), 3 * right.o);
      EXPECT_LE(distance(state, whole), 3 * whole.tolerance);
    }
  });
}
TEST_P(States, PartsMergeInAnyOrderInFloat) { parts_merge_in_any_order<float>(GetParam()); }
TEST_P(States, PartsMergeInAnyOrderInDouble) { parts_merge_in_any_order<double>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Core, States, testing::ValuesIn(state_cases()));

/// One memory as both states of forward, and as both gradients of backward: the same numbers, to the last bit.
template <class T>
void in_place_is_apart(const StateCase& s) {
  for (const bool causal : {false, true}) {
    StateCase masked = s;
    masked.c.causal = causal;
    Problem<T> problem(masked.c);
    problem.base = s.base;
    problem.add_states();
    for_each_target([&] {
      Outputs<T> apart = problem.outputs(), in_place = problem.outputs();
      forward(problem.args(apart), problem.options());
      in_place.final_state = problem.initial_state;
      ForwardArgs<T> args = problem.args(in_place);
      args.initial_state = args.final_state;
      forward(args, problem.options());
      EXPECT_TRUE(same_bits(in_place.o, apart.o) && same_bits(in_place.g, apart.g));
      EXPECT_EQ(in_place.final_state, apart.final_state);

      Gradients<T> of_apart = problem.gradients(), of_in_place = problem.gradients();
      backward(problem.args(apart, of_apart), problem.options());
      of_in_place.d_initial_state = problem.d_final_state;
      BackwardArgs<T> gradient = problem.args(apart, of_in_place);
      gradient.d_final_state = gradient.d_initial_state;
      backward(gradient, problem.options());
      EXPECT_TRUE(same_bits(of_in_place.dq, of_apart.dq) &&
                  same_bits(of_in_place.dk, of_apart.dk) && same_bits(of_in_place.dv, of_apart.dv));
      EXPECT_EQ(of_in_place.d_initial_state, of_apart.d_initial_state);
    });
  }
}
TEST_P(States, InPlaceIsApartInFloat) { in_place_is_apart<float>(GetParam()); }
TEST_P(States, InPlaceIsApartInDouble) { in_place_is_apart<double>(GetParam()); }

// Nothing has been seen: zeros, not NaN.
TEST(EmptyState, AnswersZeros) {
  for (const int p : {1, 2}) {
    Problem<float> problem({.N = 3, .M = 3, .p = p});
    Tensor<float> o = Tensor<float>::nan(problem.d_o.s);
    empty_state(problem).query(problem.q.view(), o.view());
    EXPECT_EQ(max_abs(o), 0);
  }
}

// Tokens that came one by one give the state of one call: the roundings of so many sums stay small beside it.
TEST(Step, DriftsLittle) {
  constexpr std::int64_t kTokens = 20000;
  Problem<float> problem({.N = 1, .M = kTokens, .D = 4, .E = 3});
  const auto whole = whole_state(problem);
  State<float> state = empty_state(problem);
  Tensor<float> o = Tensor<float>::nan(problem.d_o.s);
  for (std::int64_t n = 0; n < kTokens; ++n)
    state.step(std::as_const(problem.q).view(), part(std::as_const(problem.k).view(), n, n + 1),
               part(std::as_const(problem.v).view(), n, n + 1), o.view(), serial());
  double largest = 0;
  for (const float x : whole.truth) largest = std::max(largest, std::abs(double(x)));
  EXPECT_LE(distance(state, whole) / largest, 1e-5);
}

/// Row by row, against features written out by hand: kappa = [1, x''_1, x''_2] for D = 3, p = 2.
TEST(StateLayout, IsThatOfTheDocumentation) {
  Problem<double> problem({.N = 1, .M = 1, .D = 3, .E = 1});
  double* k = problem.k.view().head(0, 0)[0].data();
  const double token[] = {1, 5, 3};
  std::copy(token, token + 3, k);
  problem.v.view().head(0, 0)[0][0] = 7;
  const double sigma = std::sqrt(8.0 / 3 + 1e-6), x0 = -2 / sigma, x1 = 2 / sigma, x2 = 0;
  const double a = x1 + x0 / (std::sqrt(3.0) - 1), b = x2 + x0 / (std::sqrt(3.0) - 1);
  const double rows[] = {1, a, b, a * a, a * b, b * b, 0, 0, 0, 0};
  const State<double> reflected = some_state(problem);
  ASSERT_EQ(reflected.view().F, 10);
  for (int f = 0; f < 10; ++f) {
    EXPECT_NEAR(reflected.view().data[2 * f], 7 * rows[f], 1e-13) << f;
    EXPECT_NEAR(reflected.view().data[2 * f + 1], rows[f], 1e-13) << f;
  }
  problem.base.normalize = Normalize::kNone;
  const State<double> bare = some_state(problem);
  const double bare_rows[] = {1, 1, 5, 3, 1, 5, 3, 25, 15, 9};
  for (int f = 0; f < 10; ++f) EXPECT_EQ(bare.view().data[2 * f + 1], bare_rows[f]) << f;
}

}  // namespace
}  // namespace fastmax
