// Calls that are valid but for one thing, and whether the Error names it.
#pragma once
#include <gtest/gtest.h>

#include <string>

#include "fastmax/error.h"
#include "fastmax/fastmax.h"
#include "tests/problem.h"
#include "tests/support.h"

namespace fastmax::testing_support {

inline constexpr Case kValid{
    .B = 2, .H = 4, .Hkv = 2, .N = 3, .M = 5, .D = 4, .E = 6, .weights = Weights::kFractional};

/// The call throws "fastmax: need <rule about `name`>, got <value>".
template <class Call>
testing::AssertionResult rejects(const std::string& name, Call call) {
  try {
    call();
  } catch (const Error& e) {
    const std::string what = e.what();
    if (what.rfind("fastmax: need ", 0) != 0)
      return testing::AssertionFailure() << "does not say the rule: " << what;
    if (what.find(", got ") == std::string::npos)
      return testing::AssertionFailure() << "does not say the value: " << what;
    if (what.find(name) == std::string::npos)
      return testing::AssertionFailure() << "does not name " << name << ": " << what;
    if (what.find('\n') != std::string::npos)
      return testing::AssertionFailure() << "is not one line: " << what;
    return testing::AssertionSuccess();
  }
  return testing::AssertionFailure() << "no Error about " << name;
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

/// spoil(args, options, inputs) breaks a valid call; plan refuses it too.
template <class Args, class Call, class Spoil>
void call_rejects(Args Inputs::*args, Call call, const std::string& name, Spoil spoil) {
  Inputs in;
  spoil(in.*args, in.options, in);
  EXPECT_TRUE(rejects(name, [&] { call(in.*args, in.options); }));
  EXPECT_TRUE(rejects(name, [&] { plan(in.*args, in.options); }));
  EXPECT_TRUE(in.nothing_written());
}
template <class Spoil>
void forward_rejects(const std::string& name, Spoil spoil) {
  SCOPED_TRACE(testing::Message() << "forward, " << name);
  call_rejects(
      &Inputs::forward_args, [](const auto& a, const Options& o) { forward(a, o); }, name, spoil);
}
template <class Spoil>
void backward_rejects(const std::string& name, Spoil spoil) {
  SCOPED_TRACE(testing::Message() << "backward, " << name);
  call_rejects(
      &Inputs::backward_args, [](const auto& a, const Options& o) { backward(a, o); }, name, spoil);
}
template <class Spoil>
void both_reject(const std::string& name, Spoil spoil) {
  forward_rejects(name, spoil);
  backward_rejects(name, spoil);
}

}  // namespace fastmax::testing_support
