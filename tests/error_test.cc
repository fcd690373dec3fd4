// Every bad input of the core: one Error that names the argument, before anything is written.
#include "fastmax/error.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>

#include "fastmax/fastmax.h"
#include "tests/problem.h"
#include "tests/support.h"

namespace fastmax {
namespace {
using namespace testing_support;
using testing::AssertionFailure;
using testing::AssertionResult;
using testing::AssertionSuccess;

constexpr Case kValid{
    .B = 2, .H = 4, .Hkv = 2, .N = 3, .M = 5, .D = 4, .E = 6, .weights = Weights::kFractional};

/// The call throws "fastmax: need <rule about `name`>, got <value>".
template <class Call>
AssertionResult rejects(const std::string& name, Call call) {
  try {
    call();
  } catch (const Error& e) {
    const std::string what = e.what();
    if (what.rfind("fastmax: need ", 0) != 0)
      return AssertionFailure() << "does not say the rule: " << what;
    if (what.find(", got ") == std::string::npos)
      return AssertionFailure() << "does not say the value: " << what;
    if (what.find(name) == std::string::npos)
      return AssertionFailure() << "does not name " << name << ": " << what;
    if (what.find('\n') != std::string::npos)
      return AssertionFailure() << "is not one line: " << what;
    return AssertionSuccess();
  }
  return AssertionFailure() << "no Error about " << name;
}

struct Inputs {
  Problem<float> problem{kValid};
  Outputs<float> out = problem.outputs();
  Gradients<float> gradients = problem.gradients();
  Options options = problem.options();
  ForwardArgs<float> forward_args = problem.args(out);
  BackwardArgs<float> backward_args = problem.args(out, gradients);

  bool nothing_written() const {
    return out.o.all_nan() && out.g.all_nan() && gradients.dq.all_nan() && gradients.dk.all_nan() &&
           gradients.dv.all_nan();
  }
};

/// spoil(args, options, inputs) breaks a valid forward call; plan refuses it too.
template <class Spoil>
void forward_rejects(const std::string& name, Spoil spoil) {
  SCOPED_TRACE("forward, " + name);
  Inputs in;
  spoil(in.forward_args, in.options, in);
  EXPECT_TRUE(rejects(name, [&] { forward(in.forward_args, in.options); }));
  EXPECT_TRUE(rejects(name, [&] { plan(in.forward_args, in.options); }));
  EXPECT_TRUE(in.nothing_written());
}
template <class Spoil>
void backward_rejects(const std::string& name, Spoil spoil) {
  SCOPED_TRACE("backward, " + name);
  Inputs in;
  spoil(in.backward_args, in.options, in);
  EXPECT_TRUE(rejects(name, [&] { backward(in.backward_args, in.options); }));
  EXPECT_TRUE(rejects(name, [&] { plan(in.backward_args, in.options); }));
  EXPECT_TRUE(in.nothing_written());
}
template <class Spoil>
void both_reject(const std::string& name, Spoil spoil) {
  forward_rejects(name, spoil);
  backward_rejects(name, spoil);
}

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
       {-0.25f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
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
  for (const int chunk : {-64, 1, 100})
    both_reject("chunk", [&](auto&, Options& o, Inputs&) { o.chunk = chunk; });
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
  forward_rejects("q", [](auto& a, Options&, Inputs&) {
    const std::int64_t many = std::int64_t{1} << 40;
    a.q.B = a.k.B = a.v.B = a.o.B = a.g.B = a.key_weight.B = many;
    a.q.H = a.o.H = a.g.H = a.k.H = a.v.H = many;
  });
}

}  // namespace
}  // namespace fastmax
