// forward against the definition: every shape, both forms, both types, on every instruction set.
#include <gtest/gtest.h>

#include "fastmax/fastmax.h"
#include "tests/cases.h"
#include "tests/problem.h"
#include "tests/rounding.h"
#include "tests/support.h"

namespace fastmax {
namespace {
using namespace testing_support;

class Forward : public testing::TestWithParam<Case> {};

template <class T>
void matches_reference(const Case& c) {
  Problem<T> problem(c);
  auto right = answer(problem);
  for_each_target([&] {
    for (const Form form : forms(c)) {
      SCOPED_TRACE(form_name(form));
      Outputs<T> out = problem.outputs();
      forward(problem.args(out), problem.options(form));
      EXPECT_LE(max_abs_diff(out.o, right.truth.o), right.o);
      EXPECT_LE(max_abs_diff(out.g, right.truth.g), right.g);
      EXPECT_TRUE(out.o.padding_untouched() && out.g.padding_untouched());
    }
  });
}
TEST_P(Forward, MatchesReferenceInFloat) { matches_reference<float>(GetParam()); }
TEST_P(Forward, MatchesReferenceInDouble) { matches_reference<double>(GetParam()); }
FASTMAX_TEST_ALL_CASES(Forward);

// o alone is what inference asks for.
TEST(Forward, WritesNoDenominatorsUnlessAsked) {
  Problem<float> problem({.H = 2, .Hkv = 2, .N = 70, .M = 70, .D = 9, .E = 5, .causal = true});
  auto right = answer(problem);
  for (const Form form : forms(problem.c)) {
    Outputs<float> out = problem.outputs();
    auto args = problem.args(out);
    args.g = {};
    forward(args, problem.options(form));
    EXPECT_LE(max_abs_diff(out.o, right.truth.o), right.o);
  }
}

}  // namespace
}  // namespace fastmax
