// The planner's choices, without the machines they are for; and what the public plan() says of real calls.
#include "src/plan.h"

#include <gtest/gtest.h>

#include <string>

#include "fastmax/fastmax.h"
#include "tests/problem.h"
#include "tests/support.h"

namespace fastmax {
namespace {
using namespace testing_support;

constexpr Machine kLaptop{.threads = 2, .l2_bytes = 1 << 20};
constexpr Machine kServer{.threads = 96, .l2_bytes = 2 << 20};

/// A problem of one head of N tokens.
constexpr fastmax::Problem square(std::int64_t N, std::int64_t D, int p, bool causal) {
  fastmax::Problem s{};
  s.B = s.H = 1;
  s.N = s.M = N;
  s.D = s.E = D;
  s.p = p;
  s.causal = causal;
  return s;
}
constexpr Form form_of(std::int64_t N, std::int64_t D, int p, bool causal, bool backward = false) {
  fastmax::Problem s = square(N, D, p, causal);
  s.backward = backward;
  return make_choice(s, kLaptop, {.p = p, .causal = causal}).form;
}

static_assert(packed_features(32, 1) == 33);
static_assert(packed_features(32, 2) == 561);
static_assert(packed_features(64, 2) == 2145);
static_assert(packed_features(16, 3) == 969);

// Both forms cost the same near N = F without a mask and near N = 2 F with one: docs/math.md 3.
static_assert(form_of(500, 32, 2, false) == Form::kDirect);
static_assert(form_of(620, 32, 2, false) == Form::kFactorised);
static_assert(form_of(1000, 32, 2, true) == Form::kDirect);
static_assert(form_of(1240, 32, 2, true) == Form::kFactorised);
static_assert(form_of(1900, 64, 2, false) == Form::kDirect);
static_assert(form_of(2400, 64, 2, false) == Form::kFactorised);
static_assert(form_of(64, 128, 1, false) == Form::kDirect);
static_assert(form_of(1024, 32, 1, true) == Form::kFactorised);
static_assert(form_of(100000, 64, 4, false) == Form::kDirect);
// Where a token's own cost or the squares of chunks decide. In brackets, time of the other form over this one's.
static_assert(form_of(66, 32, 1, true, true) == Form::kDirect);        // 1.43
static_assert(form_of(65, 64, 1, false) == Form::kFactorised);         // 1.17
static_assert(form_of(306, 16, 2, true, true) == Form::kDirect);       // 1.35
static_assert(form_of(1122, 32, 2, true, true) == Form::kDirect);      // 1.17
static_assert(form_of(1458, 32, 2, true, true) == Form::kFactorised);  // 1.12
static_assert(form_of(330, 8, 3, true) == Form::kDirect);              // 1.30

TEST(Choice, FollowsTheCaller) {
  for (const Form form : {Form::kDirect, Form::kFactorised})
    for (const std::int64_t N : {10, 100000}) {
      const Choice choice = make_choice(square(N, 32, 2, false), kLaptop, {.form = form});
      EXPECT_EQ(choice.form, form);
      EXPECT_STREQ(choice.why, "asked for");
    }
  const Options asked{.form = Form::kFactorised, .chunk = 192};
  EXPECT_EQ(make_choice(square(1000, 32, 2, true), kLaptop, asked).chunk, 192);
}

TEST(Choice, OneQueryOverManyKeysIsDirect) {
  fastmax::Problem decode = square(1, 64, 2, true);
  decode.M = 100000;
  EXPECT_EQ(make_choice(decode, kLaptop, {.causal = true}).form, Form::kDirect);
}

TEST(Choice, ChunksAreWholePanelsAndGrowWithTheState) {
  int previous = 0;
  for (const std::int64_t D : {8, 32, 64, 128}) {
    const Choice choice = make_choice(square(1 << 20, D, 2, true), kLaptop, {.causal = true});
    EXPECT_EQ(choice.form, Form::kFactorised);
    EXPECT_EQ(choice.chunk % 64, 0);
    EXPECT_GE(choice.chunk, std::max(previous, 64));
    previous = choice.chunk;
  }
  EXPECT_GT(previous, 64);
}

TEST(Choice, WakesNoMoreThreadsThanTheWorkIsWorth) {
  EXPECT_EQ(make_choice(square(16, 16, 2, false), kServer, {}).threads, 1);
  EXPECT_EQ(make_choice(square(1 << 20, 64, 2, false), kServer, {}).threads, 96);
  fastmax::Problem many_heads = square(64, 32, 2, false);
  many_heads.B = 64;
  many_heads.H = 16;
  EXPECT_GT(make_choice(many_heads, kServer, {}).threads, 1);
}

TEST(Plan, SaysWhatWillRunAndWhy) {
  testing_support::Problem<float> few({.N = 50, .M = 50, .D = 32, .E = 32});
  testing_support::Problem<float> many({.N = 3000, .M = 3000, .D = 16, .E = 16, .causal = true});
  auto few_out = few.outputs(), many_out = many.outputs();
  auto gradients = many.gradients();
  const Plan a = plan(few.args(few_out), few.options());
  const Plan b = plan(many.args(many_out), many.options());
  const Plan c = plan(many.args(many_out, gradients), many.options());
  EXPECT_EQ(a.form, Form::kDirect);
  EXPECT_EQ(b.form, Form::kFactorised);
  EXPECT_EQ(c.form, Form::kFactorised);
  EXPECT_GE(b.chunk, 64);
  for (const Plan& said : {a, b, c}) EXPECT_NE(std::string(said.why), "");
  EXPECT_TRUE(few_out.o.all_nan() && many_out.o.all_nan() &&
              gradients.dq.all_nan());  // a plan runs nothing
}

// No N x M array, and without a mask nothing that grows with N: the point of the factorised form.
TEST(Plan, WorkspaceDoesNotGrowWithTheSquareOfTheLength) {
  const auto bytes = [](std::int64_t N, Form form, bool causal) {
    testing_support::Problem<float> problem({.N = N, .M = N, .D = 16, .E = 16, .causal = causal});
    auto out = problem.outputs();
    return plan(problem.args(out), problem.options(form), 1).workspace_bytes;
  };
  for (const bool causal : {false, true}) {
    EXPECT_EQ(bytes(1000, Form::kFactorised, causal), bytes(8000, Form::kFactorised, causal));
    EXPECT_LE(bytes(8000, Form::kDirect, causal), 9 * bytes(1000, Form::kDirect, causal));
  }
}

}  // namespace
}  // namespace fastmax
