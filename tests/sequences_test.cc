// Packed sequences are as many calls: the same bits, with states and dropout of their own.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "fastmax/fastmax.h"
#include "src/run.h"
#include "tests/problem.h"
#include "tests/rounding.h"
#include "tests/support.h"

namespace fastmax {
namespace {
using namespace testing_support;

struct Packing {
  const char* name;
  std::vector<std::int32_t> cu_q, cu_k;
};
/// Lengths of nothing, one, a vector, a panel and more; as many queries as keys, fewer, and for some none. Those of "even" run a
/// thread each where there are three threads, those of "many" on any number.
std::vector<Packing> packings() {
  return {{"one", {0, 70}, {0, 70}},
          {"several", {0, 1, 1, 17, 81, 150}, {0, 1, 4, 20, 84, 160}},
          {"empty", {0, 0, 5, 5, 5}, {0, 0, 9, 9, 12}},
          {"even", {0, 20, 40, 60}, {0, 24, 48, 72}},
          {"many",
           {0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 36, 39, 42, 45, 110},
           {0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 36, 39, 42, 45, 110}}};
}

template <class T>
StateView<T> one(StateView<T> x, std::int64_t i) {
  if (!x.data) return x;
  return {x.head(i, 0), 1, x.H, x.F, x.E};
}

template <class T>
ForwardArgs<T> sequence(ForwardArgs<T> a, const Packing& s, std::size_t i) {
  const auto q = [&](auto x) { return part(x, s.cu_q[i], s.cu_q[i + 1]); };
  const auto k = [&](auto x) { return part(x, s.cu_k[i], s.cu_k[i + 1]); };
  const auto at = static_cast<std::int64_t>(i);
  return {q(a.q),
          k(a.k),
          k(a.v),
          k(a.key_weight),
          q(a.o),
          q(a.g),
          one(a.initial_state, at),
          one(a.final_state, at)};
}
template <class T>
BackwardArgs<T> sequence(BackwardArgs<T> a, const Packing& s, std::size_t i) {
  const auto q = [&](auto x) { return part(x, s.cu_q[i], s.cu_q[i + 1]); };
  const auto k = [&](auto x) { return part(x, s.cu_k[i], s.cu_k[i + 1]); };
  const auto at = static_cast<std::int64_t>(i);
  return {q(a.q),
          k(a.k),
          k(a.v),
          k(a.key_weight),
          q(a.o),
          q(a.g),
          q(a.d_o),
          q(a.dq),
          k(a.dk),
          k(a.dv),
          one(a.initial_state, at),
          one(a.d_final_state, at),
          one(a.d_initial_state, at)};
}

struct SequencesCase {
  Packing packing;
  bool causal, weights, states;
  Form form;
  int p;
  Options base;
};
std::string sequences_name(const testing::TestParamInfo<SequencesCase>& info) {
  const SequencesCase& s = info.param;
  return std::string(s.packing.name) + "_p" + std::to_string(s.p) + (s.causal ? "_causal" : "") +
         (s.weights ? "_weights" : "") + (s.states ? "_states" : "") + options_name(s.base) + "_" +
         form_name(s.form);
}
void PrintTo(const SequencesCase& s, std::ostream* out) { *out << s.packing.name; }

/// Every order under every normalisation that is legal; packings and what else a caller may ask for take turns, so that
/// each meets each.
std::vector<SequencesCase> sequences_cases() {
  const std::array<double, 5> some{1.2, 0.6, 0.4, 0.1, 0.2};
  const std::vector<Options> extras{
      {},
      {.scale = 0.03},
      {.coefficients = some},
      {.dropout = {.rate = 0.3, .mode = DropoutMode::kToken, .seed = 6}},
      {.scale = 0.03,
       .coefficients = some,
       .dropout = {.rate = 0.3, .mode = DropoutMode::kQuadratic, .seed = 7}}};
  std::vector<SequencesCase> cases;
  std::size_t i = 0;
  for (const bool causal : {false, true})
    for (const bool states : {false, true})
      for (const Form form : {Form::kDirect, Form::kFactorised})
        for (const int p : {1, 2, 3, 4})
          for (const Normalize normalize :
               {Normalize::kStandardize, Normalize::kL2, Normalize::kNone, Normalize::kMaxNorm})
            for (const Packing& packing : packings()) {
              const bool max_norm = normalize == Normalize::kMaxNorm;
              if ((states && form == Form::kDirect) || (max_norm && (causal || states))) continue;
              Options base = extras[i++ % extras.size()];
              // Dropout of features is refused with states, and in the direct form.
              if (states || form == Form::kDirect) base.dropout.mode = DropoutMode::kToken;
              base.normalize = normalize;
              base.floor = Floor::kClamp;
              if (normalize == Normalize::kNone && !base.scale) base.scale = 0.05;
              cases.push_back({packing, causal, i % 3 == 0, states, form, p, base});
            }
  return cases;
}

class PackedSequences : public testing::TestWithParam<SequencesCase> {};

/// A state for each sequence in the place of a batch entry.
template <class T>
struct Packed {
  Problem<T> problem;
  std::int64_t count, F;
  std::vector<T> initial, d_final;

  explicit Packed(const SequencesCase& s)
      : problem({.H = 4,
                 .Hkv = 2,
                 .N = s.packing.cu_q.back(),
                 .M = s.packing.cu_k.back(),
                 .D = 6,
                 .E = 5,
                 .p = s.p,
                 .causal = s.causal,
                 .weights = s.weights ? Weights::kFractional : Weights::kNone,
                 .layout = Layout::kBnhd}),
        count(std::ssize(s.packing.cu_q) - 1),
        F(state_features(s.p, 6)) {
    problem.base = s.base;
    if (!s.states) return;
    Problem<T> states({.B = count, .H = 2, .Hkv = 2, .N = 0, .M = 1, .D = 6, .E = 5, .p = s.p});
    states.add_states();
    initial = states.initial_state;
    d_final = states.d_final_state;
  }
  StateView<T> state(std::vector<T>& data) const {
    if (data.empty()) return {};
    return {data.data(), count, 2, F, 5};
  }
};

/// Sequence i draws as batch entry i: what a public call of one sequence cannot ask for.
Place place(std::int64_t i) { return {.first_batch = static_cast<std::size_t>(i)}; }

template <class T>
void equals_separate_calls(const SequencesCase& s) {
  Packed<T> packed(s);
  auto& problem = packed.problem;
  const Options options = problem.options(s.form);
  const Sequences sequences{s.packing.cu_q, s.packing.cu_k};
  const auto nothing = std::vector<T>(packed.initial.size(), std::numeric_limits<T>::quiet_NaN());
  struct Results {
    Outputs<T> out;
    Gradients<T> gradients;
    std::vector<T> final_state, d_initial_state;
  } together{problem.outputs(), problem.gradients(), nothing, nothing}, separate = together;
  const auto forward_args = [&](Results& r) {
    auto args = problem.args(r.out);
    args.initial_state = packed.state(packed.initial);
    args.final_state = packed.state(r.final_state);
    return args;
  };
  const auto backward_args = [&](Results& r) {
    auto args = problem.args(r.out, r.gradients);
    args.initial_state = packed.state(packed.initial);
    args.d_final_state = packed.state(packed.d_final);
    args.d_initial_state = packed.state(r.d_initial_state);
    return args;
  };
  for_each_target([&] {
    for (std::int64_t i = 0; i < packed.count; ++i)
      run_forward(sequence(forward_args(separate), s.packing, i), options, serial(), place(i));
    for (std::int64_t i = 0; i < packed.count; ++i)
      run_backward(sequence(backward_args(separate), s.packing, i), options, serial(), place(i));
    for (const int threads : {1, 3}) {
      together = {problem.outputs(), problem.gradients(), nothing, nothing};
      forward(forward_args(together), sequences, options, {.threads = threads});
      backward(backward_args(together), sequences, options, {.threads = threads});
      EXPECT_TRUE(same_bits(together.out.o, separate.out.o));
      EXPECT_TRUE(same_bits(together.out.g, separate.out.g));
      EXPECT_TRUE(same_bits(together.gradients.dq, separate.gradients.dq));
      EXPECT_TRUE(same_bits(together.gradients.dk, separate.gradients.dk));
      EXPECT_TRUE(same_bits(together.gradients.dv, separate.gradients.dv));
      EXPECT_TRUE(same_bits(together.final_state, separate.final_state));
      EXPECT_TRUE(same_bits(together.d_initial_state, separate.d_initial_state));
      EXPECT_TRUE(together.out.o.all_finite() && together.gradients.dk.all_finite());
    }
  });
}
TEST_P(PackedSequences, EqualSeparateCallsInFloat) { equals_separate_calls<float>(GetParam()); }
TEST_P(PackedSequences, EqualSeparateCallsInDouble) { equals_separate_calls<double>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Core, PackedSequences, testing::ValuesIn(sequences_cases()),
                         sequences_name);

// Sequence i draws what batch entry i would.
TEST(SequencesDropout, DrawsForEachSequence) {
  for (const bool causal : {false, true})
    for (const DropoutMode mode :
         {DropoutMode::kQuadratic, DropoutMode::kStandard, DropoutMode::kToken}) {
      SCOPED_TRACE(testing::Message() << "causal " << causal << " mode " << static_cast<int>(mode));
      const Packing packing = packings()[1];
      Problem<float> problem({.H = 2,
                              .Hkv = 1,
                              .N = packing.cu_q.back(),
                              .M = packing.cu_k.back(),
                              .D = 5,
                              .E = 3,
                              .causal = causal});
      problem.base.dropout = {.rate = 0.4, .mode = mode, .seed = 6};
      const auto whole = answer(problem);  // tolerances: those of one long sequence
      const auto gradient = gradient_answer(problem);
      Outputs<float> out = problem.outputs(), truth = out;
      Gradients<float> gradients = problem.gradients(), true_gradients = gradients;
      const Sequences sequences{packing.cu_q, packing.cu_k};
      forward(problem.args(out), sequences, problem.options());
      backward(problem.args(out, gradients), sequences, problem.options());
      for (std::size_t i = 0; i + 1 < packing.cu_q.size(); ++i) {
        reference::forward<double>(sequence(problem.args(truth), packing, i), problem.options(),
                                   static_cast<std::int64_t>(i));
        reference::backward<double>(sequence(problem.args(truth, true_gradients), packing, i),
                                    problem.options(), static_cast<std::int64_t>(i));
      }
      const double scale = 10;  // few keys give larger weights than many
      EXPECT_LE(max_abs_diff(out.o, truth.o), scale * whole.o);
      EXPECT_LE(max_abs_diff(gradients.dq, true_gradients.dq), scale * gradient.dq);
      EXPECT_LE(max_abs_diff(gradients.dk, true_gradients.dk), scale * gradient.dk);
      EXPECT_LE(max_abs_diff(gradients.dv, true_gradients.dv), scale * gradient.dv);
    }
}

// The smallest denominator is that of all sequences.
TEST(SequencesReport, CoversAllSequences) {
  const Packing packing = packings()[1];
  Problem<float> problem(
      {.N = packing.cu_q.back(), .M = packing.cu_k.back(), .D = 6, .E = 3, .p = 1, .causal = true});
  Outputs<float> out = problem.outputs();
  const Report report =
      forward(problem.args(out), Sequences{packing.cu_q, packing.cu_k}, problem.options());
  double smallest = 1e9;
  for (std::size_t i = 0; i + 1 < packing.cu_q.size(); ++i)
    for (std::int64_t n = packing.cu_q[i]; n < packing.cu_q[i + 1]; ++n) {
      const std::int64_t keys = n - packing.cu_q[i] + 1 + (packing.cu_k[i + 1] - packing.cu_k[i]) -
                                (packing.cu_q[i + 1] - packing.cu_q[i]);
      smallest = std::min(smallest, double(out.g.bhn().head(0, 0)[n]) / double(keys));
    }
  EXPECT_NEAR(report.smallest_denominator, smallest, 1e-6);
}

}  // namespace
}  // namespace fastmax
