// What is wrong with a state or a step: one Error that names it, before anything is written.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "fastmax/fastmax.h"
#include "fastmax/state.h"
#include "tests/rejects.h"

namespace fastmax {
namespace {
using namespace testing_support;

/// What is wrong with a state, as itself and with the options of its call.
TEST(StateErrors, OfItselfAndOfItsCall) {
  const auto reject = [](const std::string& name, auto spoil) {
    std::vector<float> memory(4 * 15 * 7);
    const StateView<float> good{memory.data(), 2, 2, 15, 6};
    forward_rejects(name, [&](auto& a, Options& o, Inputs&) {
      a.initial_state = good;
      spoil(a.initial_state, o);
    });
    forward_rejects(name, [&](auto& a, Options& o, Inputs&) {
      a.final_state = good;
      spoil(a.final_state, o);
    });
    backward_rejects(name, [&](auto& a, Options& o, Inputs&) {
      a.d_final_state = good;
      spoil(a.d_final_state, o);
    });
    backward_rejects(name, [&](auto& a, Options& o, Inputs&) {
      a.d_initial_state = good;
      spoil(a.d_initial_state, o);
    });
  };
  reject("state.B", [](auto& s, Options&) { s.B = 1; });
  reject("state.H", [](auto& s, Options&) { s.H = 4; });
  reject("state.F", [](auto& s, Options&) { s.F = 10; });
  reject("state.F", [](auto&, Options& o) { o.p = 3; });  // a state of another order
  reject("state.E", [](auto& s, Options&) { s.E = 5; });
  reject("kDirect with a state", [](auto&, Options& o) { o.form = Form::kDirect; });
  reject("kMaxNorm with a state", [](auto&, Options& o) { o.normalize = Normalize::kMaxNorm; });
  reject("dropout of features", [](auto&, Options& o) { o.dropout.rate = 0.1; });
  reject("coefficients other than 0", [](auto&, Options& o) {
    o.coefficients = {{1, 0, 1, 0, 0}};
  });
}

TEST(StateErrors, OthersMemory) {
  forward_rejects("final_state", [](auto& a, Options&, Inputs& in) {
    in.problem.v.data.resize(4 * 15 * 7);
    a.v.data = in.problem.v.data.data();
    a.final_state = {in.problem.v.data.data(), 2, 2, 15, 6};
  });
  // A state may change in place, but no other output is a state's memory, and no state a part of another.
  std::vector<float> memory(5 * 15 * 7);
  const StateView<float> state{memory.data(), 2, 2, 15, 6}, next{memory.data() + 7, 2, 2, 15, 6};
  forward_rejects("o apart from initial_state", [&](auto& a, Options&, Inputs& in) {
    in.out.o.data.resize(4 * 15 * 7, in.out.o.data[0]);
    a.o.data = in.out.o.data.data();
    a.initial_state = {in.out.o.data.data(), 2, 2, 15, 6};
  });
  forward_rejects("final_state apart from initial_state", [&](auto& a, Options&, Inputs&) {
    a.initial_state = state;
    a.final_state = next;
  });
  backward_rejects("d_initial_state apart from d_final_state", [&](auto& a, Options&, Inputs&) {
    a.d_final_state = state;
    a.d_initial_state = next;
  });
  backward_rejects("dq apart from d_final_state", [&](auto& a, Options&, Inputs& in) {
    in.gradients.dq.data.resize(4 * 15 * 7, in.gradients.dq.data[0]);
    a.dq.data = in.gradients.dq.data.data();
    a.d_final_state = {in.gradients.dq.data.data(), 2, 2, 15, 6};
  });
}

TEST(StateErrors, Values) {
  const Options options;
  EXPECT_TRUE(rejects("B and Hkv", [&] { State<float>(-1, 1, 4, 4, options); }));
  EXPECT_TRUE(rejects("D", [&] { State<float>(1, 1, 0, 4, options); }));
  EXPECT_TRUE(rejects("E", [&] { State<float>(1, 1, 4, 0, options); }));
  EXPECT_TRUE(rejects("fits memory", [&] { State<float>(1 << 30, 1 << 30, 64, 64, options); }));
  EXPECT_TRUE(rejects("p in 1..4", [&] { State<float>(1, 1, 4, 4, {.p = 5}); }));
  EXPECT_TRUE(
      rejects("kMaxNorm", [&] { State<float>(1, 1, 4, 4, {.normalize = Normalize::kMaxNorm}); }));
  EXPECT_TRUE(rejects("dropout", [&] { State<float>(1, 1, 4, 4, {.dropout = {.rate = 0.1}}); }));
  EXPECT_TRUE(rejects("scale", [&] { State<float>(1, 1, 4, 4, {.scale = -1}); }));
  EXPECT_TRUE(rejects("float's range", [&] { State<float>(1, 1, 4, 4, {.scale = 1e39}); }));
  EXPECT_NO_THROW(State<double>(1, 1, 4, 4, {.scale = 1e39}));
  EXPECT_TRUE(rejects("explicit scale",
                      [&] { State<float>(1, 1, 4, 4, {.p = 1, .normalize = Normalize::kNone}); }));
  EXPECT_TRUE(rejects("coefficients other than 0", [&] {
    State<float>(1, 1, 4, 4, {.coefficients = {{1, 0, 1}}});
  }));
  EXPECT_TRUE(rejects("coefficients[0]", [&] {
    State<float>(1, 1, 4, 4, {.coefficients = {{-1, 1, 1}}});
  }));
  EXPECT_TRUE(rejects("chunk", [&] { State<float>(1, 1, 4, 4, {.chunk = 5}); }));
  EXPECT_TRUE(
      rejects("C(D + p, p)", [&] { State<float>(1, 1, std::int64_t{1} << 60, 4, {.p = 4}); }));
  State<float> state(1, 1, 4, 4, options);
  const auto add = [&](const State<float>& other) { return [&] { state += other; }; };
  EXPECT_TRUE(rejects("one size", add(State<float>(1, 2, 4, 4, options))));
  EXPECT_TRUE(rejects("one size", add(State<float>(1, 1, 5, 4, options))));
  EXPECT_TRUE(
      rejects("one scale to add, got 1 and 0.5", add(State<float>(1, 1, 4, 4, {.scale = 0.5}))));
  EXPECT_TRUE(rejects("one normalisation to add, got standardize and l2",
                      add(State<float>(1, 1, 4, 4, {.normalize = Normalize::kL2}))));
  EXPECT_TRUE(rejects("coefficients to add, got 1 / l! and 1 0.5 0.1",
                      add(State<float>(1, 1, 4, 4, {.coefficients = {{1, 0.5, 0.1}}}))));
  EXPECT_TRUE(rejects("one order to add, got 2 and 1", add(State<float>(1, 1, 4, 4, {.p = 1}))));
  EXPECT_TRUE(rejects("one size", [&] {
    State<float> other(1, 1, 4, 4, {.p = 1});
    State<float> larger(1, 1, 4, 5, {.p = 1});
    other += larger;
  }));
}

TEST(StateErrors, Steps) {
  std::vector<float> state(15 * 7), token(6), more(12);
  const auto one = [&](std::int64_t D) { return contiguous<const float>(more.data(), 1, 1, 1, D); };
  StepArgs<float> args{.q = one(4),
                       .k = one(4),
                       .v = one(6),
                       .state = {state.data(), 1, 1, 15, 6},
                       .o = contiguous(token.data(), 1, 1, 1, 6)};
  EXPECT_NO_THROW(step(args));
  EXPECT_TRUE(rejects("dropout", [&] { step(args, {.dropout = {.rate = 0.1}}); }));
  EXPECT_TRUE(rejects("state.F", [&] { step(args, {.p = 1}); }));
  StepArgs<float> two = args;
  two.k.N = two.v.N = 2;
  EXPECT_TRUE(rejects("one token", [&] { step(two); }));
  StepArgs<float> none = args;
  none.state.data = nullptr;
  EXPECT_TRUE(rejects("a state", [&] { step(none); }));
}

}  // namespace
}  // namespace fastmax
