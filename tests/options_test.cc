// Every option with every other: a covering array. Each pair of settings of two options meets in some case, where both
// forms, both directions and both types are judged by the definition, on every instruction set.
#include "tests/options.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "fastmax/fastmax.h"
#include "src/denominator.h"
#include "tests/problem.h"
#include "tests/rounding.h"
#include "tests/support.h"

namespace fastmax {
namespace {
using namespace testing_support;

TEST(CoveringArray, HasEveryLegalPair) {
  const auto cases = covering_array();
  for (int i = 0; i < kFactors; ++i)
    for (int j = i + 1; j < kFactors; ++j)
      for (int a = 0; a < kSettings[i]; ++a)
        for (int b = 0; b < kSettings[j]; ++b) {
          Setting pair;
          pair.fill(-1);
          pair[i] = a;
          pair[j] = b;
          const bool met = std::any_of(cases.begin(), cases.end(),
                                       [&](const Setting& s) { return s[i] == a && s[j] == b; });
          EXPECT_EQ(met, completable(pair)) << i << ":" << a << " " << j << ":" << b;
        }
  for (const Setting& s : cases) EXPECT_TRUE(legal(s));
}

/// The entries of a batch as packed sequences of one length: [B, N, H, D] in memory is [1, B N, H, D]. Key weights and
/// denominators, whose rows are padded, are copied.
template <class T>
class PackedBatch {
 public:
  explicit PackedBatch(Problem<T>& problem)
      : c_(problem.c), g_(c_.B * c_.H * c_.N, std::numeric_limits<T>::quiet_NaN()) {
    for (std::int64_t b = 0; b <= c_.B; ++b) {
      cu_q_.push_back(static_cast<std::int32_t>(b * c_.N));
      cu_k_.push_back(static_cast<std::int32_t>(b * c_.M));
    }
    for (std::int64_t b = 0; b < c_.B; ++b)
      w_.insert(w_.end(), problem.w.bn().row(b), problem.w.bn().row(b) + c_.M);
  }
  Sequences sequences() const { return {cu_q_, cu_k_}; }

  /// The arguments of the batch, packed; states are one a sequence in both.
  template <class Args>
  Args args(Args a) {
    pack(a.q);
    pack(a.k);
    pack(a.v);
    pack(a.o);
    if (a.key_weight.data) a.key_weight = contiguous(w_.data(), 1, c_.B * c_.M);
    a.g = contiguous(g_.data(), 1, c_.H, c_.B * c_.N);
    if constexpr (requires { a.d_o; }) {
      pack(a.d_o);
      pack(a.dq);
      pack(a.dk);
      pack(a.dv);
    }
    return a;
  }
  void copy_denominators(Outputs<T>& to) const {
    for (std::int64_t b = 0; b < c_.B; ++b)
      for (std::int64_t h = 0; h < c_.H; ++h)
        std::copy_n(g_.data() + (h * c_.B + b) * c_.N, c_.N, to.g.bhn().head(b, h));
  }

 private:
  template <class View>
  static void pack(View& x) {
    x.N *= x.B;
    x.B = 1;
  }

  const Case c_;
  std::vector<std::int32_t> cu_q_, cu_k_;
  std::vector<T> w_, g_;
};

class EveryOption : public testing::TestWithParam<OptionsCase> {};

template <class T>
void matches_reference(const OptionsCase& o) {
  Problem<T> problem(o.c);
  problem.base = o.base;
  if (o.state) problem.add_states();
  const auto right = answer(problem);
  const auto gradient = gradient_answer(problem);
  const Options options = problem.options(o.form);
  // No denominator is at its floor, so that it does not matter what would happen there.
  ASSERT_GT(right.smallest, 4 * kDenominatorFloor<T>);
  for_each_target([&] {
    const Execution execution{.threads = o.threads};
    PackedBatch<T> packed(problem);
    Outputs<T> out = problem.outputs();
    Report report;
    if (o.packed) {
      report = forward(packed.args(problem.args(out)), packed.sequences(), options, execution);
      packed.copy_denominators(out);
    } else {
      report = forward(problem.args(out), options, execution);
    }
    EXPECT_LE(max_abs_diff(out.o, right.truth.o), right.o);
    EXPECT_LE(max_abs_diff(out.g, right.truth.g), right.g);
    EXPECT_LE(max_abs_diff(out.final_state, right.truth.final_state), right.final_state);
    EXPECT_TRUE(out.o.padding_untouched() && out.g.padding_untouched());
    EXPECT_EQ(report.form, o.form);
    if (o.c.p % 2 == 1 || o.base.coefficients) {
      EXPECT_NEAR(report.smallest_denominator, right.smallest, right.g);
    } else {
      EXPECT_TRUE(std::isnan(report.smallest_denominator));
    }

    Gradients<T> gradients = problem.gradients();
    if (o.packed) {
      backward(packed.args(problem.args(out, gradients)), packed.sequences(), options, execution);
    } else {
      backward(problem.args(out, gradients), options, execution);
    }
    EXPECT_LE(max_abs_diff(gradients.dq, gradient.truth.dq), gradient.dq);
    EXPECT_LE(max_abs_diff(gradients.dk, gradient.truth.dk), gradient.dk);
    EXPECT_LE(max_abs_diff(gradients.dv, gradient.truth.dv), gradient.dv);
    EXPECT_LE(max_abs_diff(gradients.d_initial_state, gradient.truth.d_initial_state),
              gradient.d_initial_state);
    EXPECT_TRUE(gradients.dq.padding_untouched() && gradients.dk.padding_untouched() &&
                gradients.dv.padding_untouched());
  });
}
TEST_P(EveryOption, MatchesReferenceInFloat) { matches_reference<float>(GetParam()); }
TEST_P(EveryOption, MatchesReferenceInDouble) { matches_reference<double>(GetParam()); }

INSTANTIATE_TEST_SUITE_P(Pairs, EveryOption, testing::ValuesIn(options_cases()), options_case_name);

/// Whole heads or batch entries, then single tokens, one and the same: an input's stride may be 0.
TEST(Broadcast, IsAStrideOfZero) {
  for (const int p : {1, 2, 3})
    for (const bool causal : {false, true})
      for (const bool tokens : {false, true})
        for (const Form form : {Form::kDirect, Form::kFactorised}) {
          SCOPED_TRACE(testing::Message() << "p " << p << " causal " << causal << " tokens "
                                          << tokens << " " << form_name(form));
          Problem<float> problem({.B = 2,
                                  .H = 2,
                                  .Hkv = 2,
                                  .N = 70,
                                  .M = 70,
                                  .D = 6,
                                  .E = 16,
                                  .p = p,
                                  .causal = causal,
                                  .weights = Weights::kFractional});
          const auto broadcast = [&](auto& x) {
            x.stride_b = 0;
            x.stride_h = 0;
            if (tokens) x.stride_n = 0;
          };
          const auto broadcast_inputs = [&](auto args) {
            broadcast(args.q);
            broadcast(args.k);
            broadcast(args.v);
            args.key_weight.stride_b = 0;
            if constexpr (requires { args.d_o; }) broadcast(args.d_o);
            return args;
          };
          // What the views show, element by element.
          Problem<float> dense = problem;
          Outputs<float> unread = problem.outputs();
          Gradients<float> unwritten = problem.gradients();
          const auto seen = broadcast_inputs(problem.args(unread, unwritten));
          const auto spread = [](BhndView<const float> from, Tensor<float>& to) {
            for_each_pair(from, to.view(), [](float x, float& y) { y = x; });
          };
          spread(seen.q, dense.q);
          spread(seen.k, dense.k);
          spread(seen.v, dense.v);
          spread(seen.d_o, dense.d_o);
          std::copy_n(dense.w.bn().row(0), 70, dense.w.bn().row(1));

          Outputs<float> out = problem.outputs(), dense_out = out;
          Gradients<float> gradients = problem.gradients(), dense_gradients = gradients;
          forward(broadcast_inputs(problem.args(out)), problem.options(form));
          forward(dense.args(dense_out), problem.options(form));
          EXPECT_TRUE(same_bits(out.o, dense_out.o));
          backward(broadcast_inputs(problem.args(out, gradients)), problem.options(form));
          backward(dense.args(dense_out, dense_gradients), problem.options(form));
          EXPECT_TRUE(same_bits(gradients.dq, dense_gradients.dq));
          EXPECT_TRUE(same_bits(gradients.dk, dense_gradients.dk));
          EXPECT_TRUE(same_bits(gradients.dv, dense_gradients.dv));
        }
}

// Tokens of weight zero are absent, however long: kMaxNorm does not measure them, and their f may be huge or no number.
TEST(Padding, OfAnySizeChangesNothing) {
  for (const int p : {1, 2, 4})
    for (const Normalize normalize : {Normalize::kStandardize, Normalize::kL2, Normalize::kMaxNorm})
      for (const auto [form, few] :
           {std::pair{Form::kDirect, true}, std::pair{Form::kDirect, false},
            std::pair{Form::kFactorised, true}, std::pair{Form::kFactorised, false}}) {
        SCOPED_TRACE(testing::Message()
                     << "p " << p << " normalize " << int(normalize) << " few " << few);
        Problem<float> problem({.B = 2,
                                .H = 2,
                                .Hkv = 2,
                                .N = 20,
                                .M = 75,
                                .D = 6,
                                .E = 5,
                                .p = p,
                                .weights = Weights::kMask});
        problem.base.normalize = normalize;
        // Too few for the call to leave them out.
        for (std::int64_t m = 0; few && m < 75; ++m) {
          problem.w.bn().row(0)[m] = m % 35 == 7 ? 0 : 1;
          problem.w.bn().row(1)[m] = 1;
        }
        Problem<float> long_padding = problem;
        for (std::int64_t b = 0; b < 2; ++b)
          for (std::int64_t h = 0; h < 2; ++h)
            for (std::int64_t m = 0; m < 75; ++m)
              if (problem.w.bn().row(b)[m] == 0)
                for (float& x : long_padding.k.view().head(b, h)[m]) x *= 1e37F;
        const auto right = answer(problem);
        const auto gradient = gradient_answer(problem);
        Outputs<float> out = problem.outputs();
        Gradients<float> gradients = problem.gradients();
        forward(long_padding.args(out), problem.options(form));
        backward(long_padding.args(out, gradients), problem.options(form));
        EXPECT_LE(max_abs_diff(out.o, right.truth.o), right.o);
        EXPECT_LE(max_abs_diff(gradients.dq, gradient.truth.dq), gradient.dq);
        EXPECT_LE(max_abs_diff(gradients.dk, gradient.truth.dk), gradient.dk);
        EXPECT_LE(max_abs_diff(gradients.dv, gradient.truth.dv), gradient.dv);
      }
}

}  // namespace
}  // namespace fastmax
