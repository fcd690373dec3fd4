// backward against the definition: every shape, both forms, both types, on every instruction set.
// That the definition's gradient is the gradient of its forward is reference_test.cc's to show.
#include <gtest/gtest.h>

#include "fastmax/fastmax.h"
#include "tests/cases.h"
#include "tests/problem.h"
#include "tests/rounding.h"
#include "tests/support.h"

namespace fastmax {
namespace {
using namespace testing_support;

class Backward : public testing::TestWithParam<Case> {};

template <class T>
void matches_reference(const Case& c) {
  Problem<T> problem(c);
  auto right = gradient_answer(problem);
  for_each_target([&] {
    for (const Form form : forms(c)) {
      SCOPED_TRACE(form_name(form));
      Outputs<T> saved = problem.outputs();
      forward(problem.args(saved), problem.options(form));
      Gradients<T> out = problem.gradients();
      backward(problem.args(saved, out), problem.options(form));
      EXPECT_LE(max_abs_diff(out.dq, right.truth.dq), right.dq);
      EXPECT_LE(max_abs_diff(out.dk, right.truth.dk), right.dk);
      EXPECT_LE(max_abs_diff(out.dv, right.truth.dv), right.dv);
      EXPECT_TRUE(out.dq.padding_untouched() && out.dk.padding_untouched() &&
                  out.dv.padding_untouched());
    }
  });
}
TEST_P(Backward, MatchesReferenceInFloat) { matches_reference<float>(GetParam()); }
TEST_P(Backward, MatchesReferenceInDouble) { matches_reference<double>(GetParam()); }
FASTMAX_TEST_ALL_CASES(Backward);

}  // namespace
}  // namespace fastmax
