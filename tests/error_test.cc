// Every bad input of the core, of states in state_error_test.cc: one Error that names the argument, before anything is written.
#include "fastmax/error.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "fastmax/fastmax.h"
#include "tests/problem.h"
#include "tests/rejects.h"
#include "tests/support.h"

namespace fastmax {
namespace {
using namespace testing_support;

TEST(Errors, TheValidCallIsValid) {
  Inputs in;
  EXPECT_NO_THROW(forward(in.forward_args, in.options));
  EXPECT_NO_THROW(backward(in.backward_args, in.options));
}

TEST(Errors, SayWhatWasExpectedAndWhatCame) {
  Inputs in;
  in.forward_args.k.D = 3;
  try {
    forward(in.forward_args, in.options);
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "fastmax: need k.D == q.D, got 3 and 4");
  }
}

TEST(Errors, DimsThatDisagree) {
  both_reject("k.B", [](auto& a, Options&, Inputs&) { a.k.B = 1; });
  both_reject("v.B", [](auto& a, Options&, Inputs&) { a.v.B = 1; });
  both_reject("o.B", [](auto& a, Options&, Inputs&) { a.o.B = 1; });
  both_reject("g.B", [](auto& a, Options&, Inputs&) { a.g.B = 1; });
  both_reject("key_weight.B", [](auto& a, Options&, Inputs&) { a.key_weight.B = 1; });
  both_reject("v.H", [](auto& a, Options&, Inputs&) { a.v.H = 1; });
  both_reject("o.H", [](auto& a, Options&, Inputs&) { a.o.H = 2; });
  both_reject("g.H", [](auto& a, Options&, Inputs&) { a.g.H = 2; });
  both_reject("v.N", [](auto& a, Options&, Inputs&) { a.v.N = 4; });
  both_reject("o.N", [](auto& a, Options&, Inputs&) { a.o.N = 2; });
  both_reject("g.N", [](auto& a, Options&, Inputs&) { a.g.N = 2; });
  both_reject("key_weight.N", [](auto& a, Options&, Inputs&) { a.key_weight.N = 4; });
  both_reject("k.D", [](auto& a, Options&, Inputs&) { a.k.D = 3; });
  both_reject("o.D", [](auto& a, Options&, Inputs&) { a.o.D = 5; });
}

TEST(Errors, GradientDimsThatDisagree) {
  backward_rejects("d_o.B", [](auto& a, Options&, Inputs&) { a.d_o.B = 1; });
  backward_rejects("d_o.H", [](auto& a, Options&, Inputs&) { a.d_o.H = 2; });
  backward_rejects("d_o.N", [](auto& a, Options&, Inputs&) { a.d_o.N = 2; });
  backward_rejects("d_o.D", [](auto& a, Options&, Inputs&) { a.d_o.D = 5; });
  backward_rejects("dq.B", [](auto& a, Options&, Inputs&) { a.dq.B = 1; });
  backward_rejects("dq.H", [](auto& a, Options&, Inputs&) { a.dq.H = 2; });
  backward_rejects("dq.N", [](auto& a, Options&, Inputs&) { a.dq.N = 2; });
  backward_rejects("dq.D", [](auto& a, Options&, Inputs&) { a.dq.D = 3; });
  backward_rejects("dk.H", [](auto& a, Options&, Inputs&) { a.dk.H = 4; });
  backward_rejects("dk.N", [](auto& a, Options&, Inputs&) { a.dk.N = 4; });
  backward_rejects("dk.D", [](auto& a, Options&, Inputs&) { a.dk.D = 3; });
  backward_rejects("dv.H", [](auto& a, Options&, Inputs&) { a.dv.H = 1; });
  backward_rejects("dv.N", [](auto& a, Options&, Inputs&) { a.dv.N = 4; });
  backward_rejects("dv.D", [](auto& a, Options&, Inputs&) { a.dv.D = 5; });
}

TEST(Errors, EmptyOrNegativeDims) {
  both_reject("q.D", [](auto& a, Options&, Inputs&) { a.q.D = a.k.D = 0; });
  both_reject("v.D", [](auto& a, Options&, Inputs&) { a.v.D = a.o.D = 0; });
  both_reject("q sizes", [](auto& a, Options&, Inputs&) { a.q.N = a.o.N = a.g.N = -1; });
  both_reject("k sizes", [](auto& a, Options&, Inputs&) { a.k.N = a.v.N = a.key_weight.N = -1; });
  both_reject("q sizes",
              [](auto& a, Options&, Inputs&) { a.q.B = a.k.B = a.v.B = a.o.B = a.g.B = -2; });
}

TEST(Errors, HeadsThatAreNotAMultiple) {
  both_reject("q.H", [](auto& a, Options&, Inputs&) { a.q.H = a.o.H = a.g.H = 3; });
  both_reject("k.H", [](auto& a, Options&, Inputs&) { a.k.H = a.v.H = 0; });
}

TEST(Errors, StridesThatMakeNoSense) {
  both_reject("q strides", [](auto& a, Options&, Inputs&) { a.q.stride_n = -4; });
  both_reject("v strides", [](auto& a, Options&, Inputs&) { a.v.stride_b = -1; });
  forward_rejects("o.stride_n", [](auto& a, Options&, Inputs&) { a.o.stride_n = 0; });
  forward_rejects("o.stride_n", [](auto& a, Options&, Inputs&) { a.o.stride_n = a.o.D - 1; });
  forward_rejects("o.stride_h", [](auto& a, Options&, Inputs&) { a.o.stride_h = 0; });
  forward_rejects("g.stride_h", [](auto& a, Options&, Inputs&) { a.g.stride_h = 1; });
  backward_rejects("dk.stride_b", [](auto& a, Options&, Inputs&) { a.dk.stride_b = 0; });
}

TEST(Errors, KeyWeights) {
  for (const float bad :
       {-0.25f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        0x1.1p40f, 0x1.ep-61f, std::numeric_limits<float>::denorm_min()})
    both_reject("key_weight",
                [&](auto&, Options&, Inputs& in) { in.problem.w.bn().row(1)[4] = bad; });
}

TEST(Errors, Options) {
  both_reject("k.N when causal", [](auto& a, Options& o, Inputs&) {
    o.causal = true;
    a.k.N = a.v.N = a.key_weight.N = 2;
    if constexpr (requires { a.dk; }) a.dk.N = a.dv.N = 2;
  });
  for (const int p : {-1, 0, 5}) both_reject("p", [&](auto&, Options& o, Inputs&) { o.p = p; });
  const double inf = std::numeric_limits<double>::infinity();
  for (const double scale : {0.0, -1.0, inf, std::numeric_limits<double>::quiet_NaN()})
    both_reject("scale", [&](auto&, Options& o, Inputs&) { o.scale = scale; });
  for (const double scale : {1e39, 1e-50})  // infinite and zero in float
    both_reject("scale within float's range", [&](auto&, Options& o, Inputs&) { o.scale = scale; });
  for (const int chunk : {-64, 1, 100})
    both_reject("chunk", [&](auto&, Options& o, Inputs&) { o.chunk = chunk; });
}

// Sums that may overflow are refused before they do.
TEST(Errors, DenominatorsThatOverflow) {
  for (const int p : {1, 2, 4})
    for (const Form form : {Form::kDirect, Form::kFactorised}) {
      SCOPED_TRACE(p);
      Inputs in;
      in.options.p = p;
      in.options.form = form;
      in.options.scale = std::pow(1e39, 1.0 / p);
      EXPECT_TRUE(rejects("scale", [&] { forward(in.forward_args, in.options); }));
      EXPECT_TRUE(rejects("scale", [&] { plan(in.forward_args, in.options); }));
      EXPECT_TRUE(in.nothing_written());
      in.options.scale = std::pow(1e35, 1.0 / p);
      EXPECT_NO_THROW(forward(in.forward_args, in.options));
      // Of odd p an output whose denominator is clamped is no average of values, and may be anything.
      EXPECT_TRUE(p == 1 || in.out.o.all_finite());
      EXPECT_TRUE(in.out.g.all_finite());
    }
}

TEST(Errors, Threads) {
  Inputs in;
  EXPECT_TRUE(rejects("threads", [&] { forward(in.forward_args, in.options, {.threads = -3}); }));
  EXPECT_TRUE(rejects("threads", [&] { backward(in.backward_args, in.options, {.threads = -3}); }));
  EXPECT_TRUE(rejects("threads", [&] { plan(in.forward_args, in.options, -1); }));
  EXPECT_TRUE(in.nothing_written());
}

TEST(Errors, Normalizations) {
  both_reject("kMaxNorm when causal", [](auto&, Options& o, Inputs&) {
    o.normalize = Normalize::kMaxNorm;
    o.causal = true;
  });
  for (const int p : {1, 3})
    both_reject("explicit scale", [&](auto&, Options& o, Inputs&) {
      o.normalize = Normalize::kNone;
      o.p = p;
      o.scale.reset();
    });
  for (const int p : {1, 3})
    EXPECT_TRUE(rejects("explicit scale", [&] { default_scale(p, 4, Normalize::kNone); }));
}

TEST(Errors, Coefficients) {
  const auto reject = [](std::array<double, 5> c) {
    both_reject("coefficients", [&](auto&, Options& o, Inputs&) { o.coefficients = c; });
  };
  reject({1, 1, 0, 1, 1});  // c_p = 0 is another order
  reject({0, 1, 1, 0, 0});
  reject({-1, 1, 1, 0, 0});
  reject({1, std::numeric_limits<double>::quiet_NaN(), 1, 0, 0});
  reject({1, 1, std::numeric_limits<double>::infinity(), 0, 0});
  // What is finite in double may be infinite or zero in float, and so may be its ratio to c_p.
  reject({1, 1, 1e39, 0, 0});
  reject({1, 1, 1e-50, 0, 0});
  reject({1e-50, 1, 1, 0, 0});
  reject({1e20, 1, 1e-20, 0, 0});
}

TEST(Errors, Dropout) {
  for (const double rate : {-0.1, 1.0, 2.0, std::numeric_limits<double>::quiet_NaN()})
    both_reject("dropout.rate", [&](auto&, Options& o, Inputs&) { o.dropout.rate = rate; });
  for (const DropoutMode mode : {DropoutMode::kQuadratic, DropoutMode::kStandard})
    both_reject("kDirect with dropout", [&](auto&, Options& o, Inputs&) {
      o.dropout = {.rate = 0.1, .mode = mode};
      o.form = Form::kDirect;
    });
}

struct PackedInputs {
  Problem<float> problem{{.H = 2, .Hkv = 2, .N = 5, .M = 6}};
  Outputs<float> out = problem.outputs();
  Gradients<float> gradients = problem.gradients();
  std::vector<std::int32_t> cu_q{0, 2, 5}, cu_k{0, 2, 6};
  Options options = problem.options();
};
template <class Spoil>
void sequences_reject(const std::string& name, Spoil spoil) {
  SCOPED_TRACE(name);
  PackedInputs in;
  spoil(in);
  const Sequences sequences{in.cu_q, in.cu_k};
  EXPECT_TRUE(rejects(name, [&] { forward(in.problem.args(in.out), sequences, in.options); }));
  EXPECT_TRUE(rejects(
      name, [&] { backward(in.problem.args(in.out, in.gradients), sequences, in.options); }));
  EXPECT_TRUE(in.out.o.all_nan() && in.out.g.all_nan() && in.gradients.dk.all_nan());
}

TEST(Errors, Sequences) {
  sequences_reject("cu_q to begin", [](PackedInputs& in) { in.cu_q = {1, 2, 5}; });
  sequences_reject("cu_q of at least 2", [](PackedInputs& in) { in.cu_q = {}; });
  sequences_reject("cu_k of at least 2", [](PackedInputs& in) { in.cu_k = {0}; });
  sequences_reject("cu_k not to decrease", [](PackedInputs& in) { in.cu_k = {0, 7, 6}; });
  sequences_reject("cu_q to end at q.N", [](PackedInputs& in) { in.cu_q = {0, 2, 4}; });
  sequences_reject("cu_k to end at k.N", [](PackedInputs& in) { in.cu_k = {0, 2, 7}; });
  sequences_reject("one length", [](PackedInputs& in) { in.cu_k = {0, 6}; });
  sequences_reject("no more queries than keys", [](PackedInputs& in) {
    in.options.causal = true;
    in.cu_k = {0, 1, 6};
  });
  sequences_reject("B == 1", [](PackedInputs& in) {
    Case c = in.problem.c;
    c.B = 2;
    in.problem = Problem<float>(c);
    in.out = in.problem.outputs();
    in.gradients = in.problem.gradients();
  });
  PackedInputs in;  // states are one a sequence
  std::vector<float> memory(3 * 2 * 15 * 5);
  auto args = in.problem.args(in.out);
  args.final_state = {memory.data(), 3, 2, 15, 4};
  EXPECT_TRUE(rejects("number of sequences", [&] {
    forward(args, Sequences{in.cu_q, in.cu_k}, in.options);
  }));
}

TEST(Errors, AttentionWeights) {
  Problem<float> problem(kValid);
  Tensor<float> a = Tensor<float>::nan({2, 4, 2, 5});
  const auto reject = [&](const std::string& name, auto spoil) {
    std::vector<std::int64_t> rows{0, 2};
    Options options = problem.options();
    WeightsArgs<float> args{.q = problem.q.view(),
                            .k = problem.k.view(),
                            .key_weight = problem.key_weight(),
                            .a = a.view()};
    spoil(args, rows, options);
    args.rows = rows;
    EXPECT_TRUE(rejects(name, [&] { attention_weights(args, options); }));
    EXPECT_TRUE(a.all_nan());
  };
  reject("rows", [](auto&, auto& rows, Options&) { rows[1] = 3; });
  reject("rows", [](auto&, auto& rows, Options&) { rows[0] = -1; });
  reject("a.N", [](auto&, auto& rows, Options&) { rows.push_back(0); });
  reject("a.D", [](auto& args, auto&, Options&) { args.a.D = 4; });
  reject("a.H", [](auto& args, auto&, Options&) { args.a.H = 2; });
  reject("k.D", [](auto& args, auto&, Options&) { args.k.D = 3; });
  reject("p in 1..4", [](auto&, auto&, Options& o) { o.p = 0; });
  reject("a apart from q",
         [&](auto& args, auto&, Options&) { args.a.data = problem.q.data.data(); });
}

/// Under Floor::kError a denominator at its floor is an error after the work.
TEST(Errors, DenominatorsAtTheirFloor) {
  Problem<float> problem({.N = 40, .M = 40, .D = 6, .E = 3, .p = 1, .causal = true});
  Outputs<float> out = problem.outputs();
  Options options = problem.options();
  options.scale = 1;  // the paper's, far too large for p = 1
  for (const auto& floor : {std::optional<Floor>(), std::optional<Floor>(Floor::kError)}) {
    options.floor = floor;
    EXPECT_TRUE(rejects("denominators above", [&] { forward(problem.args(out), options); }));
    EXPECT_TRUE(rejects("denominators above", [&] {
      const std::int32_t cu[] = {0, 40};
      forward(problem.args(out), Sequences{cu, cu}, options);
    }));
  }
  options.floor = Floor::kClamp;
  EXPECT_NO_THROW(forward(problem.args(out), options));
  options.floor.reset();
  options.scale.reset();  // the default scale clamps
  EXPECT_NO_THROW(forward(problem.args(out), options));
}

TEST(Errors, OutputsOverInputs) {
  forward_rejects("o", [](auto& a, Options&, Inputs& in) { a.o.data = in.problem.v.data.data(); });
  forward_rejects("o",
                  [](auto& a, Options&, Inputs& in) { a.o.data = in.problem.q.data.data() + 3; });
  forward_rejects("g", [](auto& a, Options&, Inputs& in) { a.g.data = in.problem.k.data.data(); });
  forward_rejects("g", [](auto& a, Options&, Inputs& in) { a.g.data = in.out.o.data.data(); });
  backward_rejects("dq",
                   [](auto& a, Options&, Inputs& in) { a.dq.data = in.problem.q.data.data(); });
  backward_rejects("dk", [](auto& a, Options&, Inputs& in) {
    in.problem.w.data.resize(in.gradients.dk.data.size());  // so that a kernel would stay inside
    a.key_weight.data = a.dk.data = in.problem.w.data.data();
  });
  backward_rejects("dv",
                   [](auto& a, Options&, Inputs& in) { a.dv.data = in.problem.d_o.data.data(); });
  backward_rejects("dv",
                   [](auto& a, Options&, Inputs& in) { a.dv.data = in.gradients.dk.data.data(); });
}

// Views of one array with equal strides may interleave, but not one row's step apart: there rows fall on rows.
TEST(Errors, OutputsAmongInputsOfOneArray) {
  const std::int64_t N = 5, D = 4;
  std::vector<float> array(4 * N * 4 * D), other(4 * N * D);
  const auto at = [&](std::int64_t i) {
    return BhndView<float>{array.data() + i * D, 1, 1, N, D, 0, 0, 4 * D};
  };
  const auto attend = [&](std::int64_t o) {
    forward<float>({.q = at(0), .k = at(1), .v = at(2), .o = at(o)});
  };
  EXPECT_NO_THROW(attend(3));
  EXPECT_TRUE(rejects("o apart from q", [&] { attend(4); }));
  EXPECT_TRUE(rejects("o apart from q", [&] { attend(8); }));
  EXPECT_TRUE(rejects("o apart from k", [&] { attend(5); }));
  EXPECT_NO_THROW(attend(4 * N));  // behind it
}
TEST(Errors, OutputsOverThemselves) {
  forward_rejects("o with strides",
                  [](auto& a, Options&, Inputs&) { a.o.stride_b = a.o.stride_h; });
  forward_rejects("g with strides",
                  [](auto& a, Options&, Inputs&) { a.g.stride_b = a.g.stride_h; });
  backward_rejects("dk with strides",
                   [](auto& a, Options&, Inputs&) { a.dk.stride_h = a.dk.stride_n; });
}

TEST(Errors, MissingData) {
  both_reject("q", [](auto& a, Options&, Inputs&) { a.q.data = nullptr; });
  both_reject("k", [](auto& a, Options&, Inputs&) { a.k.data = nullptr; });
  both_reject("v", [](auto& a, Options&, Inputs&) { a.v.data = nullptr; });
  both_reject("o", [](auto& a, Options&, Inputs&) { a.o.data = nullptr; });
  backward_rejects("g", [](auto& a, Options&, Inputs&) { a.g.data = nullptr; });
  backward_rejects("d_o", [](auto& a, Options&, Inputs&) { a.d_o.data = nullptr; });
  backward_rejects("dq", [](auto& a, Options&, Inputs&) { a.dq.data = nullptr; });
  backward_rejects("dv", [](auto& a, Options&, Inputs&) { a.dv.data = nullptr; });
}

TEST(Errors, SizesThatOverflow) {
  const std::int64_t many = std::int64_t{1} << 40;
  forward_rejects("q", [&](auto& a, Options&, Inputs&) {
    a.q.B = a.k.B = a.v.B = a.o.B = a.g.B = a.key_weight.B = many;
    a.q.H = a.o.H = a.g.H = a.k.H = a.v.H = many;
  });
  forward_rejects("q sizes", [&](auto& a, Options&, Inputs& in) {  // also of no tokens
    a.q.B = a.k.B = a.v.B = a.o.B = a.final_state.B = many;
    a.q.H = a.k.H = a.v.H = a.o.H = a.final_state.H = many;
    a.q.N = a.k.N = a.v.N = a.o.N = 0;
    a.g = {};
    a.key_weight = {};
    a.final_state.data = in.problem.v.data.data();
    a.final_state.F = 15;
    a.final_state.E = 6;
  });
  forward_rejects("fits memory", [&](auto& a, Options& o, Inputs& in) {
    o.p = 4;
    a.q.B = a.k.B = a.v.B = a.o.B = a.final_state.B = std::int64_t{1} << 24;
    a.q.H = a.k.H = a.v.H = a.o.H = a.final_state.H = std::int64_t{1} << 20;
    a.q.N = a.k.N = a.v.N = a.o.N = 0;
    a.g = {};
    a.key_weight = {};
    a.final_state.data = in.problem.v.data.data();
    a.final_state.F = 70;
    a.final_state.E = 6;
  });
  const std::int64_t most = std::numeric_limits<std::int64_t>::max();
  both_reject("k sizes",
              [&](auto& a, Options&, Inputs&) { a.k.N = a.v.N = a.key_weight.N = most; });
  both_reject("q sizes", [&](auto& a, Options&, Inputs&) { a.q.D = a.k.D = most / 2; });
  both_reject("v sizes", [&](auto& a, Options&, Inputs&) { a.v.D = a.o.D = most; });
  both_reject("k sizes", [&](auto& a, Options&, Inputs&) { a.k.stride_b = most; });
  both_reject("features",
              [](auto& a, Options& o, Inputs&) {  // of one head, whose state is the largest array
                o.p = 4;
                a.q.stride_n = a.k.stride_n = a.q.D = a.k.D = 10000;
                if constexpr (requires { a.dq; })
                  a.dq.stride_n = a.dk.stride_n = a.dq.D = a.dk.D = 10000;
              });
}

}  // namespace
}  // namespace fastmax
