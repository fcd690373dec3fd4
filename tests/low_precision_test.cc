// bfloat16 and half precision: the definition on the rounded inputs, to the rounding of the outputs.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "fastmax/fastmax.h"
#include "tests/half.h"
#include "tests/options.h"
#include "tests/problem.h"
#include "tests/rounding.h"
#include "tests/support.h"

namespace fastmax {
namespace {
using namespace testing_support;

TEST(Formats, OfTheTestAreTheStandards) {
  EXPECT_EQ(rounded<Float16>(1).bits, 0x3C00);
  EXPECT_EQ(rounded<Float16>(-2).bits, 0xC000);
  EXPECT_EQ(rounded<Float16>(65504).bits, 0x7BFF);
  EXPECT_EQ(rounded<Float16>(std::ldexp(1, -24)).bits, 0x0001);
  EXPECT_EQ(rounded<BFloat16>(1).bits, 0x3F80);
  EXPECT_EQ(rounded<BFloat16>(-3.140625).bits, 0xC049);
  EXPECT_EQ(value(BFloat16{0x4049}), 3.140625);
}

std::vector<Case> low_precision_cases() {
  std::vector<Case> cases;
  for (const int p : {1, 2, 3, 4})
    for (const bool causal : {false, true}) {
      cases.push_back({.B = 2,
                       .H = 4,
                       .Hkv = 2,
                       .N = 90,
                       .M = 133,
                       .D = 9,
                       .E = 7,
                       .p = p,
                       .causal = causal,
                       .weights = Weights::kMask});
      cases.push_back({.N = 1, .M = 1, .D = 3, .E = 1, .p = p, .causal = causal});
      cases.push_back({.N = 257, .M = 257, .D = 16, .E = 33, .p = p, .causal = causal});
    }
  cases.push_back({.N = 0, .M = 3});
  cases.push_back({.N = 3, .M = 0});
  return cases;
}

class Reduced : public testing::TestWithParam<Case> {};

template <class S>
void matches_reference() {
  const Case c = Reduced::GetParam();
  for_each_target([&] {
    for (const Form form : forms(c)) {
      SCOPED_TRACE(form_name(form));
      LowPrecision<S> low(c);
      Outputs<float> truth = low.problem.outputs();
      Gradients<float> gradients = low.problem.gradients();
      reference::forward<double>(low.problem.args(truth), low.problem.options());
      reference::backward<double>(low.problem.args(truth, gradients), low.problem.options());
      forward(low.forward_args(), low.problem.options(form));
      expect_rounded(low.o, truth.o, 3e-4, "o");  // std(v) is 1
      EXPECT_LE(rel_rms(low.out.g, truth.g), 1e-5);
      backward(low.backward_args(), low.problem.options(form));
      // The gradients see o rounded, of relative size 2^-8 or 2^-11; besides, they are float's.
      const double seen = std::ldexp(2.0, -Format<S>::kFraction);
      expect_rounded(low.dq, gradients.dq, seen * max_abs(gradients.dq) + 1e-6, "dq");
      expect_rounded(low.dk, gradients.dk, seen * max_abs(gradients.dk) + 1e-6, "dk");
      expect_rounded(low.dv, gradients.dv, 1e-4 * max_abs(gradients.dv) + 1e-6, "dv");
    }
  });
}
TEST_P(Reduced, MatchesReferenceInBFloat16) { matches_reference<BFloat16>(); }
TEST_P(Reduced, MatchesReferenceInFloat16) { matches_reference<Float16>(); }
INSTANTIATE_TEST_SUITE_P(Core, Reduced, testing::ValuesIn(low_precision_cases()),
                         [](const auto& info) { return case_name(info.param); });

class EveryOption : public testing::TestWithParam<OptionsCase> {};

/// Gradients see o rounded, half a unit of it, in every term: what that may cost is that share of the terms' sums.
template <class S>
void every_option_matches(const OptionsCase& o) {
  Problem<float> wide(o.c);
  wide.base = o.base;
  if (o.state) wide.add_states();
  LowPrecision<S> low(std::move(wide));
  auto right = answer(low.problem);
  auto gradient = gradient_answer(low.problem);
  const auto terms = gradient_terms(low.problem);
  const double seen = std::ldexp(0.5, -Format<S>::kFraction);
  const Options options = low.problem.options(o.form);
  for_each_target([&] {
    low.out = low.problem.outputs();
    low.gradients = low.problem.gradients();
    low.o = unwritten<S>(low.o.s);
    forward(low.forward_args(), options, {.threads = o.threads});
    expect_rounded(low.o, right.truth.o, right.o + 3e-4, "o");
    EXPECT_LE(max_abs_diff(low.out.g, right.truth.g), right.g);
    EXPECT_LE(max_abs_diff(low.out.final_state, right.truth.final_state), right.final_state);
    low.dq = unwritten<S>(low.dq.s);
    low.dk = unwritten<S>(low.dk.s);
    low.dv = unwritten<S>(low.dv.s);
    backward(low.backward_args(), options, {.threads = o.threads});
    expect_rounded(low.dq, gradient.truth.dq, gradient.dq + seen * terms.dq, "dq");
    expect_rounded(low.dk, gradient.truth.dk, gradient.dk + seen * terms.dk, "dk");
    expect_rounded(low.dv, gradient.truth.dv, gradient.dv, "dv");
    EXPECT_LE(max_abs_diff(low.gradients.d_initial_state, gradient.truth.d_initial_state),
              gradient.d_initial_state + seen * terms.d_initial_state);
  });
}
TEST_P(EveryOption, MatchesReferenceInBFloat16) { every_option_matches<BFloat16>(GetParam()); }
TEST_P(EveryOption, MatchesReferenceInFloat16) { every_option_matches<Float16>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Pairs, EveryOption, testing::ValuesIn(options_cases()), options_case_name);

/// Packed sequences of 16-bit elements are as many calls, to the last bit.
template <class S>
void packed_is_separate() {
  const std::vector<std::int32_t> cu{0, 3, 3, 70, 150};
  for (const bool causal : {false, true})
    for (const Form form : {Form::kDirect, Form::kFactorised}) {
      const Case c{.H = 4, .Hkv = 2, .N = 150, .M = 150, .D = 6, .E = 5, .causal = causal};
      LowPrecision<S> packed(c), separate(c);
      const Options options = packed.problem.options(form);
      forward(packed.forward_args(), Sequences{cu, cu}, options, {.threads = 2});
      backward(packed.backward_args(), Sequences{cu, cu}, options, {.threads = 2});
      for (std::size_t i = 0; i + 1 < cu.size(); ++i) {
        const auto cut = [&](auto x) { return part(x, cu[i], cu[i + 1]); };
        const auto f = separate.forward_args();
        forward<S>({.q = cut(f.q), .k = cut(f.k), .v = cut(f.v), .o = cut(f.o), .g = cut(f.g)},
                   options);
        const auto b = separate.backward_args();
        backward<S>({.q = cut(b.q),
                     .k = cut(b.k),
                     .v = cut(b.v),
                     .o = cut(b.o),
                     .g = cut(b.g),
                     .d_o = cut(b.d_o),
                     .dq = cut(b.dq),
                     .dk = cut(b.dk),
                     .dv = cut(b.dv)},
                    options);
      }
      const auto same = [](const Tensor16<S>& a, const Tensor16<S>& b) {
        return std::ranges::equal(a.data, b.data, {}, &S::bits, &S::bits);
      };
      EXPECT_TRUE(same(packed.o, separate.o) && same_bits(packed.out.g, separate.out.g));
      EXPECT_TRUE(same(packed.dq, separate.dq) && same(packed.dk, separate.dk) &&
                  same(packed.dv, separate.dv));
    }
}
TEST(Reduction, PackedIsSeparateInBFloat16) { packed_is_separate<BFloat16>(); }
TEST(Reduction, PackedIsSeparateInFloat16) { packed_is_separate<Float16>(); }

/// Conversion alone, on every number there is: weights of one key are one, so that o = v.
template <class S>
void every_number_comes_back() {
  for_each_target([] {
    LowPrecision<S> low({.N = 1, .M = 1, .D = 4, .E = 1 << 15});
    for (const int sign : {0, 0x8000}) {
      for (int i = 0; i < 1 << 15; ++i) {
        const S x{static_cast<std::uint16_t>(sign | i)};
        low.v.data[i] = std::isfinite(value(x)) ? x : S{0};
      }
      forward(low.forward_args(), {.form = Form::kDirect});
      for (int i = 0; i < 1 << 15; ++i)
        ASSERT_EQ(value(low.o.data[i]), value(low.v.data[i])) << std::hex << (sign | i);
    }
  });
}
TEST(Reduction, EveryBFloat16ComesBack) { every_number_comes_back<BFloat16>(); }
TEST(Reduction, EveryFloat16ComesBack) { every_number_comes_back<Float16>(); }

/// Ties go to even, and what is too large becomes infinite: sums of two values with weights 1/2 that lie between two
/// numbers of the format.
template <class S>
void ties_go_to_even() {
  for_each_target([] {
    constexpr int kMost = 1 << 14;
    LowPrecision<S> low({.N = 1, .M = 2, .D = 1, .E = kMost});  // D = 1: both keys weigh the same
    for (int i = 0; i < kMost; ++i) {
      low.v.view().head(0, 0)[0][i] = S{static_cast<std::uint16_t>(i)};
      low.v.view().head(0, 0)[1][i] = S{static_cast<std::uint16_t>(i + 1)};
    }
    forward(low.forward_args(), {.form = Form::kDirect});
    for (int i = 0; i < kMost; ++i)
      ASSERT_EQ(low.o.data[i].bits, i % 2 == 0 ? i : i + 1) << std::hex << i;
  });
}
TEST(Reduction, TiesGoToEvenInBFloat16) { ties_go_to_even<BFloat16>(); }
TEST(Reduction, TiesGoToEvenInFloat16) { ties_go_to_even<Float16>(); }

TEST(Reduction, InfinityPropagates) {
  for_each_target([] {
    LowPrecision<Float16> low({.N = 1, .M = 1, .D = 3, .E = 2});
    low.v.data = {{0x7C00}, {0xFC00}};
    forward(low.forward_args(), {.form = Form::kDirect});
    EXPECT_EQ(value(low.o.data[0]), std::numeric_limits<double>::infinity());
    EXPECT_EQ(value(low.o.data[1]), -std::numeric_limits<double>::infinity());
  });
}

/// The workspace that plan says is what calls take: one that is kept never grows past it.
template <class S>
void planned_workspace_is_enough() {
  for (const Form form : {Form::kDirect, Form::kFactorised}) {
    LowPrecision<S> low(
        {.B = 2, .H = 4, .Hkv = 2, .N = 300, .M = 300, .D = 16, .E = 12, .causal = true});
    const Options options = low.problem.options(form);
    for (const int threads : {1, 2}) {
      Workspace workspace;
      const std::size_t forward_bytes = plan(low.forward_args(), options, threads).workspace_bytes;
      forward(low.forward_args(), options, {.threads = threads, .workspace = &workspace});
      EXPECT_LT(workspace.size(), forward_bytes + 4096);
      EXPECT_GE(workspace.size(), forward_bytes);
      const std::size_t backward_bytes =
          plan(low.backward_args(), options, threads).workspace_bytes;
      backward(low.backward_args(), options, {.threads = threads, .workspace = &workspace});
      EXPECT_LT(workspace.size(), std::max(forward_bytes, backward_bytes) + 4096);
    }
  }
}
TEST(Reduction, PlannedWorkspaceIsEnough) {
  planned_workspace_is_enough<BFloat16>();
  planned_workspace_is_enough<Float16>();
}

/// A NaN in one value reaches every row that sees it, and no other channel. (Rows of the same tile that do not see it may
/// get it, too: 0 * NaN.)
template <class S>
void nan_propagates() {
  for_each_target([] {
    for (const Form form : {Form::kDirect, Form::kFactorised}) {
      LowPrecision<S> low({.N = 70, .M = 70, .D = 5, .E = 4, .causal = true});
      low.v.view().head(0, 0)[66][2] = S{0x7FFF};
      forward(low.forward_args(), low.problem.options(form));
      for (std::int64_t n = 0; n < 70; ++n)
        for (std::int64_t e = 0; e < 4; ++e)
          if (n >= 66 || n < 64 || e != 2) {
            EXPECT_EQ(std::isnan(value(low.o.view().head(0, 0)[n][e])), n >= 66 && e == 2)
                << n << " " << e;
          }
    }
  });
}
TEST(Reduction, NanPropagates) {
  nan_propagates<BFloat16>();
  nan_propagates<Float16>();
}

}  // namespace
}  // namespace fastmax
