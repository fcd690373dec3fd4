// The list of kernels (src/cpu/kernels.h), expanded: each has a case here, or this does not compile. Run by itself, a
// kernel gives the right answer, and to the bit what the public call of its case gives: that call reaches it.
#include "src/cpu/kernels.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

#include "src/call.h"
#include "tests/problem.h"
#include "tests/rounding.h"
#include "tests/support.h"

namespace fastmax {
namespace {
using namespace testing_support;
using testing_support::Problem;  // not the planner's

/// The order and form of a public call that runs a kernel.
struct Asks {
  int p;
  Form form = Form::kAuto;
};
namespace cases {
constexpr Asks direct_forward{2, Form::kDirect}, factorised_forward{2, Form::kFactorised},
    linear_forward{1, Form::kFactorised}, direct_backward{2, Form::kDirect},
    factorised_backward{2, Form::kFactorised}, linear_backward{1, Form::kFactorised}, step{2},
    attention_weights{2};
}  // namespace cases

template <class Call>
struct Kernel {
  void (*run)(const Call& call, const cpu::Team& team, std::byte* workspace);
  std::size_t (*workspace)(const Call& call, std::size_t threads);

  void alone(const Call& call) const {
    Workspace memory;
    run(call, cpu::Team::alone(), memory.reserve(workspace(call, 1)).data());
  }
  /// With the scratch that a call of these options has.
  template <template <class> class CallOf, class T, class Args>
  void alone(const Args& args, const Options& options) const {
    auto call = make_call<T, CallOf>(args, options, {.chunk = options.chunk}, 0);
    Workspace memory;
    cpu::Arena arena(memory.reserve(call_scratch_bytes<T>(args, options)).data());
    prepare(CallScratch<T>(arena, args, options), options, call);
    alone(call);
  }
};

template <class T>
Problem<T> problem_of(const Asks& asks) {
  return Problem<T>({.B = 2,
                     .H = 4,
                     .Hkv = 2,
                     .N = 150,
                     .M = 170,
                     .D = 7,
                     .E = 5,
                     .p = asks.p,
                     .causal = true,
                     .chunk = 64});
}

template <class T>
void judge(const Kernel<cpu::ForwardCall<T>>& kernel, const Asks& asks) {
  Problem<T> problem = problem_of<T>(asks);
  const auto right = answer(problem);
  for_each_target([&] {
    Outputs<T> called = problem.outputs(), alone = called;
    const Options options = problem.options(asks.form);
    forward(problem.args(called), options, serial());
    kernel.template alone<cpu::ForwardCall, T>(problem.args(alone), options);
    EXPECT_LE(max_abs_diff(alone.o, right.truth.o), right.o);
    EXPECT_LE(max_abs_diff(alone.g, right.truth.g), right.g);
    EXPECT_TRUE(same_bits(called.o, alone.o) && same_bits(called.g, alone.g));
  });
}

template <class T>
void judge(const Kernel<cpu::BackwardCall<T>>& kernel, const Asks& asks) {
  Problem<T> problem = problem_of<T>(asks);
  const auto right = gradient_answer(problem);
  for_each_target([&] {
    Outputs<T> saved = problem.outputs();
    Gradients<T> called = problem.gradients(), alone = called;
    const Options options = problem.options(asks.form);
    forward(problem.args(saved), options, serial());
    backward(problem.args(saved, called), options, serial());
    kernel.template alone<cpu::BackwardCall, T>(problem.args(saved, alone), options);
    EXPECT_LE(max_abs_diff(alone.dq, right.truth.dq), right.dq);
    EXPECT_LE(max_abs_diff(alone.dk, right.truth.dk), right.dk);
    EXPECT_LE(max_abs_diff(alone.dv, right.truth.dv), right.dv);
    EXPECT_TRUE(same_bits(called.dq, alone.dq) && same_bits(called.dk, alone.dk) &&
                same_bits(called.dv, alone.dv));
  });
}

template <class T>
void judge(const Kernel<cpu::StepCall<T>>& kernel, const Asks& asks) {
  Problem<T> problem({.B = 2, .H = 4, .Hkv = 2, .D = 7, .E = 5, .p = asks.p});
  problem.add_states(60);
  const auto right = answer(problem);
  for_each_target([&] {
    Outputs<T> called = problem.outputs(), alone = called;
    called.final_state = alone.final_state = problem.initial_state;  // in place
    const auto args = [&](Outputs<T>& out) {
      return StepArgs<T>{.q = problem.q.view(),
                         .k = problem.k.view(),
                         .v = problem.v.view(),
                         .state = problem.state(out.final_state),
                         .o = out.o.view()};
    };
    step(args(called), problem.options(), serial());
    cpu::StepCall<T> call;
    cpu::resolve(problem.options(), problem.c.D, call);
    call.args = args(alone);
    call.score = shifted_polynomial(call.p, call.coefficients, 1);
    kernel.alone(call);
    EXPECT_LE(max_abs_diff(alone.o, right.truth.o), right.o);
    EXPECT_LE(max_abs_diff(alone.final_state, right.truth.final_state), right.final_state);
    EXPECT_TRUE(same_bits(called.o, alone.o) && same_bits(called.final_state, alone.final_state));
  });
}

template <class T>
void judge(const Kernel<cpu::WeightsCall<T>>& kernel, const Asks& asks) {
  Problem<T> problem = problem_of<T>(asks);
  const Case& c = problem.c;
  const auto right = answer(problem);
  Outputs<T> unread = problem.outputs();
  Tensor<T> truth = Tensor<T>::nan({c.B, c.H, c.N, c.M});
  for (std::int64_t b = 0; b < c.B; ++b)
    for (std::int64_t h = 0; h < c.H; ++h) {
      const auto rows =
          reference::attention_weights<Wide<T>>(problem.args(unread), problem.options(), b, h);
      for (std::int64_t n = 0; n < c.N; ++n)
        for (std::int64_t m = 0; m < c.M; ++m) truth.view().head(b, h)[n][m] = T(rows[n][m]);
    }
  for_each_target([&] {
    Tensor<T> called = Tensor<T>::nan(truth.s), alone = called;
    const auto args = [&](Tensor<T>& a) {
      return WeightsArgs<T>{.q = problem.q.view(), .k = problem.k.view(), .a = a.view()};
    };
    attention_weights(args(called), problem.options(), serial());
    kernel.template alone<cpu::WeightsCall, T>(args(alone), problem.options());
    EXPECT_LE(max_abs_diff(alone, truth), right.o);  // as an output whose values are at most 1
    EXPECT_TRUE(same_bits(called, alone));
  });
}

#define FASTMAX_TEST(name, Call)                                                     \
  TEST(Kernels, name) {                                                              \
    judge(Kernel<cpu::Call<float>>{cpu::name, cpu::name##_workspace}, cases::name);  \
    judge(Kernel<cpu::Call<double>>{cpu::name, cpu::name##_workspace}, cases::name); \
  }
FASTMAX_CPU_KERNELS(FASTMAX_TEST)
#undef FASTMAX_TEST

}  // namespace
}  // namespace fastmax
