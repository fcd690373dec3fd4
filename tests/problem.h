// A problem with its inputs, its answer and the error that rounding alone may cause.
#pragma once
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <limits>
#include <ostream>
#include <string>
#include <type_traits>
#include <vector>

#include "fastmax/fastmax.h"
#include "hwy/targets.h"
#include "src/cpu/amx.h"
#include "src/reference.h"
#include "tests/support.h"

namespace fastmax::testing_support {

enum class Weights {
  kNone,        ///< no key_weight at all
  kMask,        ///< 0 or 1: the last keys of the first batch entry and some others are padding
  kFractional,  ///< anything in [0, 2)
  kZero,        ///< the first batch entry has no key left
};

struct Case {
  std::int64_t B = 1, H = 1, Hkv = 1, N = 1, M = 1, D = 4, E = 4;
  int p = 2;
  bool causal = false;
  Weights weights = Weights::kNone;
  Layout layout = Layout::kBhnd;
  int chunk = 0;
};

/// A name that GoogleTest accepts.
inline std::string case_name(const Case& c) {
  static const char* const kWeightNames[] = {"", "_mask", "_fractional", "_zero"};
  const auto part = [](const char* name, std::int64_t n) { return name + std::to_string(n); };
  return part("B", c.B) + part("_H", c.H) + part("of", c.Hkv) + part("_N", c.N) + part("_M", c.M) +
         part("_D", c.D) + part("_E", c.E) + part("_p", c.p) + (c.causal ? "_causal" : "") +
         kWeightNames[static_cast<int>(c.weights)] + (c.layout == Layout::kBnhd ? "_bnhd" : "") +
         (c.chunk ? part("_chunk", c.chunk) : "");
}
/// What of the options a Case does not say.
inline std::string options_name(const Options& o) {
  static const char* const kNormalizeNames[] = {"", "_l2", "_none", "_maxnorm"};
  static const char* const kDropoutNames[] = {"_quadratic", "_standard", "_token"};
  return std::string(kNormalizeNames[static_cast<int>(o.normalize)]) + (o.scale ? "_scale" : "") +
         (o.coefficients ? "_coefficients" : "") +
         (o.dropout.rate > 0 ? kDropoutNames[static_cast<int>(o.dropout.mode)] : "");
}
inline void PrintTo(const Case& c, std::ostream* out) { *out << case_name(c); }

template <class T>
struct Outputs {
  Tensor<T> o, g;
  std::vector<T> final_state;  ///< empty: none wanted
};
template <class T>
struct Gradients {
  Tensor<T> dq, dk, dv;
  std::vector<T> d_initial_state;
};

/// Twice the digits (long double: eleven bits more than double) to judge T by.
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, float>, double, long double>;

template <class T>
struct Problem {
  Case c;
  Tensor<T> q, k, v, d_o, w;
  Options base{.floor = Floor::kClamp};  ///< what the case does not say: scale, normalisation, ..
  std::vector<T> initial_state, d_final_state;  ///< empty: the call has no state

  explicit Problem(const Case& c, unsigned seed = 1) : c(c) {
    std::mt19937 rng(seed);
    std::normal_distribution<double> normal;
    const auto token = [&] {
      return 0.5 + 1.5 * normal(rng);
    };  // a mean to remove, a variance not 1
    q = Tensor<T>::filled({c.B, c.H, c.N, c.D}, token, c.layout);
    k = Tensor<T>::filled({c.B, c.Hkv, c.M, c.D}, token, c.layout);
    v = Tensor<T>::normal({c.B, c.Hkv, c.M, c.E}, 1, rng, c.layout);
    d_o = Tensor<T>::normal({c.B, c.H, c.N, c.E}, 1, rng, c.layout);
    w = Tensor<T>::filled({1, 1, c.B, c.M}, [&] { return 1; });
    for (std::int64_t b = 0; b < c.B; ++b)
      for (std::int64_t m = 0; m < c.M; ++m) w.bn().row(b)[m] = weight(b, m, rng);
    // With three channels or fewer many tokens are opposite, where an odd f has its root: stay away from it.
    if (c.p % 2 == 1 && c.D <= 3) base.scale = 0.25;
  }

  Options options(Form form = Form::kAuto) const {
    Options options = base;
    options.p = c.p;
    options.causal = c.causal;
    options.form = form;
    options.chunk = c.chunk;
    return options;
  }
  StateView<T> state(std::vector<T>& data) const {
    if (data.empty()) return {};
    return {data.data(), c.B, c.Hkv, state_features(c.p, c.D), c.E};
  }
  /// Gives the call a state in, of `keys` earlier tokens, and a state out, with the gradient that comes through it.
  void add_states(std::int64_t keys = 5) {
    Case before = c;
    before.N = 0;
    before.M = keys;
    before.weights = Weights::kNone;
    Problem past(before, 77);
    past.base = base;
    const std::int64_t F = state_features(c.p, c.D);
    initial_state.assign(c.B * c.Hkv * F * (c.E + 1), T(0));
    Outputs<T> out = past.outputs();
    out.final_state = initial_state;
    reference::forward<Wide<T>>(past.args(out), past.options());
    initial_state = out.final_state;
    std::mt19937 rng(78);
    std::normal_distribution<double> normal;
    d_final_state = initial_state;
    for (T& x : d_final_state) x = static_cast<T>(normal(rng));
  }
  Outputs<T> outputs() const {
    return {Tensor<T>::nan(d_o.s, c.layout), Tensor<T>::nan({c.B, 1, c.H, c.N}),
            std::vector<T>(initial_state.size(), std::numeric_limits<T>::quiet_NaN())};
  }
  Gradients<T> gradients() const {
    return {Tensor<T>::nan(q.s, c.layout), Tensor<T>::nan(k.s, c.layout),
            Tensor<T>::nan(v.s, c.layout),
            std::vector<T>(initial_state.size(), std::numeric_limits<T>::quiet_NaN())};
  }
  BnView<const T> key_weight() {
    return c.weights == Weights::kNone ? BnView<const T>{} : BnView<const T>(w.bn());
  }
  ForwardArgs<T> args(Outputs<T>& out) {
    return {.q = q.view(),
            .k = k.view(),
            .v = v.view(),
            .key_weight = key_weight(),
            .o = out.o.view(),
            .g = out.g.bhn(),
            .initial_state = state(initial_state),
            .final_state = state(out.final_state)};
  }
  BackwardArgs<T> args(Outputs<T>& saved, Gradients<T>& out) {
    return {.q = q.view(),
            .k = k.view(),
            .v = v.view(),
            .key_weight = key_weight(),
            .o = saved.o.view(),
            .g = saved.g.bhn(),
            .d_o = d_o.view(),
            .dq = out.dq.view(),
            .dk = out.dk.view(),
            .dv = out.dv.view(),
            .initial_state = state(initial_state),
            .d_final_state = state(d_final_state),
            .d_initial_state = state(out.d_initial_state)};
  }

 private:
  template <class Rng>
  T weight(std::int64_t b, std::int64_t m, Rng& rng) const {
    std::uniform_real_distribution<double> uniform(0, 2);
    const double x = uniform(rng);
    switch (c.weights) {
      case Weights::kNone:
        return 1;
      case Weights::kMask:
        return (b == 0 && 3 * m >= 2 * c.M) || x < 0.3 ? 0 : 1;
      case Weights::kFractional:
        return static_cast<T>(x);
      case Weights::kZero:
        return b == 0 ? 0 : 1;
    }
    return 1;
  }
};

/// Says once a program on which instruction sets its kernels run, and which are built but not run on this CPU; `./dev
/// test` reads both from the XML and says so at its end.
class InstructionSets : public testing::Environment {
 public:
  void SetUp() override {
    std::string ran, not_run;
    const auto add = [](std::string& list, const char* name) { (list += ' ') += name; };
    for (std::int64_t left = HWY_TARGETS; left != 0; left &= left - 1) {
      const std::int64_t target = left & -left;
      const bool runs = (hwy::SupportedTargets() & target) != 0;
      add(runs ? ran : not_run, hwy::TargetName(target));
    }
#if HWY_ARCH_X86
    add(cpu::amx::available() ? ran : not_run, "AMX");
#endif
    std::printf("instruction sets:%s; built, not run on this CPU:%s\n", ran.c_str(),
                not_run.empty() ? " none" : not_run.c_str());
    testing::Test::RecordProperty("ran", ran);
    testing::Test::RecordProperty("not_run", not_run);
  }
};
inline testing::Environment* const instruction_sets =
    testing::AddGlobalTestEnvironment(new InstructionSets);

/// Runs body once for each instruction set that this build and CPU offer.
template <class Body>
void for_each_target(Body body) {
  struct Restore {
    ~Restore() { hwy::SetSupportedTargetsForTest(0); }
  } restore;
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    ASSERT_STREQ(target_name(), hwy::TargetName(target));
    body();
  }
}

/// The forms that a case can run: the features of the higher orders are too many beyond small D.
inline std::vector<Form> forms(const Case& c) {
  double features = 1;  // C(D + p, p)
  for (int l = 1; l <= c.p; ++l) features *= double(c.D + l) / l;
  if (c.p > 2 && features > 1500) return {Form::kDirect};
  return {Form::kDirect, Form::kFactorised};
}
inline const char* form_name(Form form) { return form == Form::kDirect ? "direct" : "factorised"; }

}  // namespace fastmax::testing_support
