// The judge of `bench`, judged by the reference.
#include "app/bench_truth.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "app/bench_contender.h"
#include "src/reference.h"

namespace fastmax::app {
namespace {

template <class T>
BhndView<T> view(const at::Tensor& x) {
  return {static_cast<T*>(x.data_ptr()),
          x.size(0),
          x.size(1),
          x.size(2),
          x.size(3),
          x.stride(0),
          x.stride(1),
          x.stride(2)};
}

struct Sample {
  BenchShape shape{
      .B = 2, .H = 3, .N = 70, .D = 5, .causal = false, .backward = true, .dtype = at::kDouble};
  BenchInputs in = bench_inputs(shape);
  BenchOutputs out;

  Sample() {
    for (at::Tensor* x : {&out.o, &out.dq, &out.dk, &out.dv}) *x = at::empty_like(in.q);
  }
};

class BenchTruth : public testing::TestWithParam<std::tuple<int, bool>> {};

TEST_P(BenchTruth, AgreesWithTheReference) {
  const auto [p, causal] = GetParam();
  Sample s;
  Options options;
  options.p = p;
  options.causal = causal;
  using D = double;
  reference::forward<D, D>({.q = view<const D>(s.in.q),
                            .k = view<const D>(s.in.k),
                            .v = view<const D>(s.in.v),
                            .o = view<D>(s.out.o)},
                           options);
  reference::backward<D, D>({.q = view<const D>(s.in.q),
                             .k = view<const D>(s.in.k),
                             .v = view<const D>(s.in.v),
                             .o = view<const D>(s.out.o),
                             .g = {},
                             .d_o = view<const D>(s.in.d_o),
                             .dq = view<D>(s.out.dq),
                             .dk = view<D>(s.out.dk),
                             .dv = view<D>(s.out.dv)},
                            options);
  EXPECT_LT(compare(forward_truth(s.in, p, causal), s.out).error, 1e-12);
  const SampledTruth backward = backward_truth(s.in, p, causal, s.out);
  EXPECT_LT(compare(backward, s.out).error, 1e-12);

  // Two heads, the ends of the sequence among their rows, every gradient judged.
  ASSERT_EQ(backward.size(), 2u);
  EXPECT_EQ(backward[1].b, 1);
  EXPECT_EQ(backward[1].h, 2);
  EXPECT_EQ(backward[0].rows[0].item<int64_t>(), 0);
  EXPECT_EQ(backward[0].rows[-1].item<int64_t>(), 69);
  for (at::Tensor* x : {&s.out.dq, &s.out.dk, &s.out.dv}) {
    const at::Tensor right = x->clone();
    x->index({1, 2, 69}).add_(1e-2);
    EXPECT_GT(compare(backward, s.out).relative, 1e-3);
    x->copy_(right);
  }
}

INSTANTIATE_TEST_SUITE_P(Orders, BenchTruth,
                         testing::Combine(testing::Values(1, 2, 3, 4), testing::Bool()));

TEST(BenchTruth, AgreesWithTorchOnSoftmax) {
  Sample s;
  for (const bool causal : {false, true}) {
    s.out.o = at::scaled_dot_product_attention(s.in.q, s.in.k, s.in.v, {}, 0.0, causal);
    EXPECT_LT(compare(forward_truth(s.in, 0, causal), s.out).error, 1e-12);
  }
}

TEST(BenchTruth, AnUnwrittenRowIsNeverRight) {
  Sample s;
  const SampledTruth truth = forward_truth(s.in, 2, false);
  s.out.o.zero_();
  s.out.o.index({0, 0, 0, 0}).fill_(NAN);
  const SampledError error = compare(truth, s.out);
  EXPECT_TRUE(std::isnan(error.error));
  EXPECT_TRUE(std::isnan(error.relative));
}

TEST(BenchContenders, AllMethodsAreRight) {
  for (const bool backward : {false, true}) {
    for (const bool causal : {false, true}) {
      const BenchShape shape{
          .B = 1, .H = 2, .N = 130, .D = 12, .causal = causal, .backward = backward};
      const BenchInputs in = bench_inputs(shape);
      for (const std::string& method : bench_methods()) {
        const int order = method == "sdpa" || method == "softmax" ? 0 : 2;
        Contender c =
            order ? fastmax_contender(method, order, shape, in, std::make_shared<BenchOutputs>())
                  : softmax_contender(method, shape, in);
        c.call();
        const SampledTruth truth = backward ? backward_truth(in, order, causal, *c.outputs)
                                            : forward_truth(in, order, causal);
        EXPECT_LT(compare(truth, *c.outputs).relative, 1e-4)
            << method << " " << backward << " " << causal;
      }
    }
  }
}

TEST(BenchContenders, InputsLieInMemoryAsAsked) {
  BenchShape shape{.B = 2, .H = 3, .N = 40, .D = 8};
  const BenchInputs heads_first = bench_inputs(shape);
  shape.tokens_first = true;
  const BenchInputs tokens_first = bench_inputs(shape);
  EXPECT_EQ(heads_first.q.stride(2), 8);
  EXPECT_EQ(tokens_first.q.stride(2), 3 * 8);
  EXPECT_TRUE(at::equal(heads_first.v, tokens_first.v));
}

TEST(BenchContenders, ExtrasLeaveTheAnswerAsItIs) {
  for (const Extra extra : {Extra::kWeights, Extra::kGrouped, Extra::kPacked, Extra::kStates}) {
    for (const bool backward : {false, true}) {
      const BenchShape shape{
          .B = 2, .H = 3, .N = 90, .D = 6, .causal = true, .backward = backward, .extra = extra};
      const BenchInputs in = bench_inputs(shape);
      Contender c = fastmax_contender("fastmax", 2, shape, in, std::make_shared<BenchOutputs>());
      EXPECT_EQ(c.path, extra == Extra::kStates ? "factorised" : "direct");
      c.call();
      EXPECT_LT(compare(fastmax_truth(c), *c.outputs).relative, 1e-4) << int(extra) << backward;
      EXPECT_EQ(at::equal(in.k.select(1, 0), in.k.select(1, 2)), extra == Extra::kGrouped);
      EXPECT_EQ(in.q.stride(1) > in.q.stride(0), extra == Extra::kPacked);
      (backward ? c.outputs->dq : c.outputs->o).index({1, 2, 89}).add_(1);
      EXPECT_GT(compare(fastmax_truth(c), *c.outputs).relative, 1e-2);
    }
  }
}

TEST(BenchContenders, DropoutIsAppliedAndJudgedByItsMask) {
  for (const DropoutMode mode :
       {DropoutMode::kQuadratic, DropoutMode::kStandard, DropoutMode::kToken}) {
    for (const bool backward : {false, true}) {
      BenchShape shape{.B = 1, .H = 2, .N = 90, .D = 6, .causal = true, .backward = backward};
      const BenchInputs in = bench_inputs(shape);
      shape.dropout = {.rate = 0.4, .mode = mode, .seed = 42};
      Contender c = fastmax_contender("factorised", 2, shape, in, std::make_shared<BenchOutputs>());
      c.call();
      EXPECT_LT(compare(fastmax_truth(c), *c.outputs).relative, 1e-4);
      const SampledTruth undropped =
          backward ? backward_truth(in, 2, true, *c.outputs) : forward_truth(in, 2, true);
      EXPECT_GT(compare(undropped, *c.outputs).relative, 1e-2);
      if (!backward) continue;
      c.outputs->dv.index({0, 1, 89}).add_(1);
      EXPECT_GT(compare(fastmax_truth(c), *c.outputs).relative, 1e-2);
    }
  }
}

TEST(BenchContenders, SoftmaxPaysForItsMatrix) {
  const BenchShape shape{.B = 1, .H = 2, .N = 256, .D = 8};
  const Contender c = softmax_contender("softmax", shape, bench_inputs(shape));
  EXPECT_GE(c.workspace_bytes, 2 * 256 * 256 * 4);
  EXPECT_LE(c.workspace_bytes, expected_bytes("softmax", shape));
}

}  // namespace
}  // namespace fastmax::app
