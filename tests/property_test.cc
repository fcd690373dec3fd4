// Identities that hold for every input, tried on random ones. rapidcheck prints the seed and the smallest failure.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <iterator>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "fastmax/fastmax.h"
#include "fastmax/state.h"
#include "hwy/targets.h"
#include "tests/problem.h"
#include "tests/rounding.h"
#include "tests/support.h"

namespace fastmax {
namespace {
using namespace testing_support;

/// A small problem of any structure, on any instruction set. Orders 3 and 4 stay at few channels, where they have few
/// features.
Case any_case() {
  static const std::vector<std::int64_t> targets = hwy::SupportedAndGeneratedTargets();
  const auto target = *rc::gen::inRange<std::size_t>(0, targets.size()).as("target");
  hwy::SetSupportedTargetsForTest(targets[target]);
  Case c;
  c.p = *rc::gen::inRange(1, 5).as("p");
  c.causal = *rc::gen::arbitrary<bool>().as("causal");
  c.Hkv = *rc::gen::inRange(1, 3).as("Hkv");
  c.H = c.Hkv * *rc::gen::inRange(1, 3).as("H / Hkv");
  c.B = *rc::gen::inRange(1, 3).as("B");
  c.M = *rc::gen::inRange(1, 150).as("M");
  c.N = *rc::gen::inRange(1, (c.causal ? static_cast<int>(c.M) : 150) + 1).as("N");
  c.D = *rc::gen::inRange(3, c.p > 2 ? 8 : 40).as("D");
  c.E = *rc::gen::inRange(1, 40).as("E");
  c.weights = *rc::gen::element(Weights::kNone, Weights::kMask, Weights::kFractional).as("weights");
  c.layout = *rc::gen::element(Layout::kBhnd, Layout::kBnhd).as("layout");
  c.chunk = *rc::gen::element(0, 64, 128).as("chunk");
  return c;
}
unsigned any_seed() { return *rc::gen::inRange(0u, 1000000u).as("seed"); }
Form any_form() { return *rc::gen::element(Form::kDirect, Form::kFactorised).as("form"); }

template <class T>
Outputs<T> forward_of(Problem<T>& problem, Form form) {
  Outputs<T> out = problem.outputs();
  forward(problem.args(out), problem.options(form));
  return out;
}
template <class T>
Gradients<T> backward_of(Problem<T>& problem, Form form) {
  Outputs<T> out = forward_of(problem, form);
  Gradients<T> gradients = problem.gradients();
  backward(problem.args(out, gradients), problem.options(form));
  return gradients;
}

/// Calls visit(a's row at perm[m], b's row m) for all rows.
template <class T, class Visit>
void for_each_permuted(Tensor<T>& a, Tensor<T>& b, const std::vector<std::int64_t>& perm,
                       Visit visit) {
  for (std::int64_t i = 0; i < a.s.B; ++i)
    for (std::int64_t h = 0; h < a.s.H; ++h)
      for (std::int64_t m = 0; m < b.s.N; ++m)
        visit(a.view().head(i, h)[perm[m]], b.view().head(i, h)[m]);
}
template <class T>
void copy_permuted(Tensor<T>& from, Tensor<T>& to, const std::vector<std::int64_t>& perm) {
  for_each_permuted(from, to, perm,
                    [](auto x, auto y) { std::copy(x.begin(), x.end(), y.begin()); });
}

template <class T>
void direct_is_factorised() {
  Problem<T> problem(any_case(), any_seed());
  const auto right = answer(problem);
  auto direct = forward_of(problem, Form::kDirect),
       factorised = forward_of(problem, Form::kFactorised);
  RC_ASSERT(max_abs_diff(direct.o, factorised.o) <= 2 * right.o);
  RC_ASSERT(max_abs_diff(direct.g, factorised.g) <= 2 * right.g);
  const auto gradient = gradient_answer(problem);
  auto d_direct = backward_of(problem, Form::kDirect),
       d_factorised = backward_of(problem, Form::kFactorised);
  RC_ASSERT(max_abs_diff(d_direct.dq, d_factorised.dq) <= 2 * gradient.dq);
  RC_ASSERT(max_abs_diff(d_direct.dk, d_factorised.dk) <= 2 * gradient.dk);
  RC_ASSERT(max_abs_diff(d_direct.dv, d_factorised.dv) <= 2 * gradient.dv);
}
RC_GTEST_PROP(Property, DirectIsFactorisedInFloat, ()) { direct_is_factorised<float>(); }
RC_GTEST_PROP(Property, DirectIsFactorisedInDouble, ()) { direct_is_factorised<double>(); }

RC_GTEST_PROP(Property, AnyChunkIsAnyOther, ()) {
  Case c = any_case();
  c.M += 200;
  Problem<float> problem(c, any_seed());
  const auto right = answer(problem);
  const auto gradient = gradient_answer(problem);
  problem.c.chunk = 64 * *rc::gen::inRange(1, 9).as("chunk / 64");
  auto a = forward_of(problem, Form::kFactorised);
  auto d_a = backward_of(problem, Form::kFactorised);
  problem.c.chunk = 64 * *rc::gen::inRange(1, 9).as("other chunk / 64");
  auto b = forward_of(problem, Form::kFactorised);
  auto d_b = backward_of(problem, Form::kFactorised);
  RC_ASSERT(max_abs_diff(a.o, b.o) <= 2 * right.o);
  RC_ASSERT(max_abs_diff(d_a.dq, d_b.dq) <= 2 * gradient.dq);
  RC_ASSERT(max_abs_diff(d_a.dk, d_b.dk) <= 2 * gradient.dk);
  RC_ASSERT(max_abs_diff(d_a.dv, d_b.dv) <= 2 * gradient.dv);
}

// The order of keys means nothing without a mask, forward and backward.
RC_GTEST_PROP(Property, KeysMayBePermuted, ()) {
  Case c = any_case();
  c.causal = false;
  const Form form = any_form();
  Problem<float> problem(c, any_seed()), permuted = problem;
  std::vector<std::int64_t> perm(c.M);
  std::iota(perm.begin(), perm.end(), 0);
  std::shuffle(perm.begin(), perm.end(), std::mt19937(7));
  copy_permuted(problem.k, permuted.k, perm);
  copy_permuted(problem.v, permuted.v, perm);
  for (std::int64_t b = 0; b < c.B; ++b)
    for (std::int64_t m = 0; m < c.M; ++m)
      permuted.w.bn().row(b)[m] = problem.w.bn().row(b)[perm[m]];
  auto a = forward_of(problem, form), b = forward_of(permuted, form);
  RC_ASSERT(max_abs_diff(a.o, b.o) <= 2 * answer(problem).o);
  auto d_a = backward_of(problem, form), d_b = backward_of(permuted, form);
  const auto gradient = gradient_answer(problem);
  Tensor<float> dk = Tensor<float>::nan(d_a.dk.s, c.layout),
                dv = Tensor<float>::nan(d_a.dv.s, c.layout);
  copy_permuted(d_a.dk, dk, perm);
  copy_permuted(d_a.dv, dv, perm);
  RC_ASSERT(max_abs_diff(dk, d_b.dk) <= 2 * gradient.dk);
  RC_ASSERT(max_abs_diff(dv, d_b.dv) <= 2 * gradient.dv);
}

// attention(3 v + v') = 3 attention(v) + attention(v')
RC_GTEST_PROP(Property, OutputIsLinearInValues, ()) {
  const Case c = any_case();
  const Form form = any_form();
  const unsigned seed = any_seed();
  Problem<double> first(c, seed), second = first, both = first;
  second.v = Problem<double>(c, seed + 1).v;
  for (std::size_t i = 0; i < both.v.data.size(); ++i)
    both.v.data[i] = 3 * first.v.data[i] + second.v.data[i];
  auto a = forward_of(first, form), b = forward_of(second, form), ab = forward_of(both, form);
  for (std::size_t i = 0; i < a.o.data.size(); ++i) a.o.data[i] = 3 * a.o.data[i] + b.o.data[i];
  RC_ASSERT(max_abs_diff(a.o, ab.o) <= 5 * answer(first).o + 5 * answer(second).o);
}

// Weights sum to one, so that values all equal come back, and no gradient reaches q or k.
RC_GTEST_PROP(Property, EqualValuesComeBack, ()) {
  Case c = any_case();
  if (c.weights == Weights::kMask) c.weights = Weights::kNone;  // a row with no key left is zero
  const Form form = any_form();
  Problem<float> problem(c, any_seed());
  problem.v.for_each([](float& x) { x = 1.5; });
  auto out = forward_of(problem, form);
  Tensor<float> expected = Tensor<float>::filled(
      out.o.s, [] { return 1.5; }, c.layout);
  RC_ASSERT(max_abs_diff(out.o, expected) <= answer(problem).o);
  auto gradients = backward_of(problem, form);
  const auto gradient = gradient_answer(problem);
  RC_ASSERT(max_abs(gradients.dq) <= gradient.dq);
  RC_ASSERT(max_abs(gradients.dk) <= gradient.dk);
}

// Keys of weight 0 at the end are as good as absent, and get no gradient.
RC_GTEST_PROP(Property, PaddingIsAShorterSequence, ()) {
  Case c = any_case();
  c.causal = false;
  c.weights = Weights::kNone;
  const Form form = any_form();
  const unsigned seed = any_seed();
  Problem<float> full(c, seed);
  Case shorter = c;
  shorter.M = *rc::gen::inRange<std::int64_t>(1, c.M + 1).as("keys that are not padding");
  Problem<float> cut(shorter, seed);
  std::vector<std::int64_t> same(shorter.M);
  std::iota(same.begin(), same.end(), 0);
  copy_permuted(full.k, cut.k, same);
  copy_permuted(full.v, cut.v, same);
  cut.q = full.q;
  cut.d_o = full.d_o;
  full.c.weights = Weights::kMask;
  for (std::int64_t b = 0; b < c.B; ++b)
    for (std::int64_t m = shorter.M; m < c.M; ++m) full.w.bn().row(b)[m] = 0;
  auto a = forward_of(full, form), b = forward_of(cut, form);
  RC_ASSERT(max_abs_diff(a.o, b.o) <= 2 * answer(cut).o);
  auto d_a = backward_of(full, form), d_b = backward_of(cut, form);
  const auto gradient = gradient_answer(cut);
  RC_ASSERT(max_abs_diff(d_a.dq, d_b.dq) <= 2 * gradient.dq);
  Gradients<float> kept = cut.gradients();
  copy_permuted(d_a.dk, kept.dk, same);
  copy_permuted(d_a.dv, kept.dv, same);
  RC_ASSERT(max_abs_diff(kept.dk, d_b.dk) <= 2 * gradient.dk);
  RC_ASSERT(max_abs_diff(kept.dv, d_b.dv) <= 2 * gradient.dv);
  for (std::int64_t i = 0; i < c.B; ++i)
    for (std::int64_t h = 0; h < c.Hkv; ++h)
      for (std::int64_t m = shorter.M; m < c.M; ++m) {
        for (const float x : d_a.dk.view().head(i, h)[m]) RC_ASSERT(x == 0);
        for (const float x : d_a.dv.view().head(i, h)[m]) RC_ASSERT(x == 0);
      }
}

// A causal row knows nothing of later keys: not approximately, but to the last bit.
RC_GTEST_PROP(Property, CausalRowsIgnoreTheFuture, ()) {
  Case c = any_case();
  c.causal = true;
  c.N = c.M;
  const Form form = any_form();
  Problem<float> problem(c, any_seed()), changed = problem;
  const auto from = *rc::gen::inRange<std::int64_t>(0, c.M).as("first key that changes");
  for (std::int64_t b = 0; b < c.B; ++b)
    for (std::int64_t h = 0; h < c.Hkv; ++h)
      for (std::int64_t m = from; m < c.M; ++m) {
        for (float& x : changed.k.view().head(b, h)[m]) x = 3 - x * x;
        for (float& x : changed.v.view().head(b, h)[m]) x = 1e6f * x;
      }
  auto a = forward_of(problem, form), b = forward_of(changed, form);
  for (std::int64_t i = 0; i < c.B; ++i)
    for (std::int64_t h = 0; h < c.H; ++h)
      for (std::int64_t n = 0; n < from; ++n) {
        const auto x = a.o.view().head(i, h)[n], y = b.o.view().head(i, h)[n];
        RC_ASSERT(std::equal(x.begin(), x.end(), y.begin()));
      }
}

// The first causal row sees one key: o_1 = v_1 whatever the weight.
RC_GTEST_PROP(Property, FirstCausalRowIsTheFirstValue, ()) {
  Case c = any_case();
  c.causal = true;
  c.N = c.M;
  c.weights = Weights::kNone;
  Problem<float> problem(c, any_seed());
  auto out = forward_of(problem, any_form());
  for (std::int64_t b = 0; b < c.B; ++b)
    for (std::int64_t h = 0; h < c.H; ++h)
      for (std::int64_t e = 0; e < c.E; ++e) {
        const float v_1 = problem.v.view().head(b, h / (c.H / c.Hkv))[0][e];
        RC_ASSERT(std::abs(out.o.view().head(b, h)[0][e] - v_1) <= 4e-7f * std::abs(v_1));
      }
}

/// A problem of any normalisation that a state can have.
template <class T>
Problem<T> any_problem(const Case& c) {
  Problem<T> problem(c, any_seed());
  problem.base.normalize =
      *rc::gen::element(Normalize::kStandardize, Normalize::kL2, Normalize::kNone);
  if (problem.base.normalize == Normalize::kNone) problem.base.scale = 0.02;
  return problem;
}

// A key of weight 2 is that key twice, and its gradient is the sum of theirs.
RC_GTEST_PROP(Property, WeightsAreRepetition, ()) {
  Case c = any_case();
  c.causal = false;
  c.weights = Weights::kMask;  // the weights are given below
  const Form form = any_form();
  const unsigned seed = any_seed();
  Problem<float> weighted(c, seed);
  std::vector<std::int64_t> source;
  std::vector<std::int64_t> times(c.M);
  for (std::int64_t m = 0; m < c.M; ++m) {
    times[m] = (m + seed) % 4 == 0 ? 2 : (m + seed) % 7 == 1 && m > 0 ? 0 : 1;
    for (std::int64_t b = 0; b < c.B; ++b) weighted.w.bn().row(b)[m] = float(times[m]);
    for (std::int64_t i = 0; i < times[m]; ++i) source.push_back(m);
  }
  Case longer = c;
  longer.M = std::ssize(source);
  longer.weights = Weights::kNone;
  RC_PRE(longer.M > 0);
  Problem<float> repeated(longer, seed);
  repeated.q = weighted.q;
  repeated.d_o = weighted.d_o;
  copy_permuted(weighted.k, repeated.k, source);
  copy_permuted(weighted.v, repeated.v, source);
  auto a = forward_of(weighted, form), b = forward_of(repeated, form);
  RC_ASSERT(max_abs_diff(a.o, b.o) <= 2 * answer(repeated).o);
  auto d_a = backward_of(weighted, form), d_b = backward_of(repeated, form);
  const auto gradient = gradient_answer(weighted);
  RC_ASSERT(max_abs_diff(d_a.dq, d_b.dq) <= 2 * gradient.dq);
  Gradients<float> sum = weighted.gradients();
  for (Tensor<float>* x : {&sum.dk, &sum.dv}) x->for_each([](float& y) { y = 0; });
  for (std::int64_t i = 0; i < c.B; ++i)
    for (std::int64_t h = 0; h < c.Hkv; ++h)
      for (std::size_t j = 0; j < source.size(); ++j) {
        for (std::int64_t d = 0; d < c.D; ++d)
          sum.dk.view().head(i, h)[source[j]][d] += d_b.dk.view().head(i, h)[j][d];
        for (std::int64_t e = 0; e < c.E; ++e)
          sum.dv.view().head(i, h)[source[j]][e] += d_b.dv.view().head(i, h)[j][e];
      }
  RC_ASSERT(max_abs_diff(d_a.dk, sum.dk) <= 2 * gradient.dk);
  RC_ASSERT(max_abs_diff(d_a.dv, sum.dv) <= 2 * gradient.dv);
}

// x^ does not change when a token is shifted, nor when it is scaled by a positive number, beyond eps beside its variance:
// tokens of size 1000 leave 1e-12 of that. Powers of two shift and scale without rounding the token.
RC_GTEST_PROP(Property, ShiftAndScaleOfATokenChangeNothing, ()) {
  Case c = any_case();
  const Form form = any_form();
  Problem<double> problem(c, any_seed());
  for (Tensor<double>* x : {&problem.q, &problem.k}) x->for_each([](double& y) { y *= 1024; });
  Problem<double> changed = problem;
  const double shift = *rc::gen::element(-8.0, 0.5, 4096.0),
               scale = *rc::gen::element(2.0, 8.0, 1024.0);
  int token = 0;
  for (Tensor<double>* x : {&changed.q, &changed.k})
    for (std::int64_t b = 0; b < x->s.B; ++b)
      for (std::int64_t h = 0; h < x->s.H; ++h)
        for (std::int64_t n = 0; n < x->s.N; ++n)
          if (++token % 3)
            for (double& y : x->view().head(b, h)[n]) y = scale * (y + shift);
  auto a = forward_of(problem, form), b = forward_of(changed, form);
  RC_ASSERT(rel_rms(b.o, a.o) <= 1e-7);
}

// A sequence may be split anywhere, with a state from part to part; merging states is the same in any order.
RC_GTEST_PROP(Property, SplitAnywhere, ()) {
  Case c = any_case();
  c.causal = true;
  c.N = c.M;
  auto problem = any_problem<double>(c);
  const auto right = answer(problem);
  State<double> state(c.B, c.Hkv, c.D, c.E, problem.options());
  Tensor<double> o = Tensor<double>::nan(problem.d_o.s, c.layout);
  for (std::int64_t from = 0; from < c.N;) {
    const auto to =
        from + *rc::gen::inRange<std::int64_t>(1, c.N - from + 1).as("tokens of a part");
    state.extend(part(BhndView<const double>(problem.q.view()), from, to),
                 part(BhndView<const double>(problem.k.view()), from, to),
                 part(BhndView<const double>(problem.v.view()), from, to), part(o.view(), from, to),
                 part(problem.key_weight(), from, to));
    from = to;
  }
  RC_ASSERT(state.count() == c.N);
  RC_ASSERT(max_abs_diff(o, right.truth.o) <= 10 * right.o);
}

RC_GTEST_PROP(Property, MergeInAnyOrder, ()) {
  Case c = any_case();
  c.causal = false;
  auto problem = any_problem<double>(c);
  const auto right = answer(problem);
  std::vector<State<double>> parts;
  for (std::int64_t from = 0; from < c.M;) {
    const auto to = from + *rc::gen::inRange<std::int64_t>(1, c.M - from + 1).as("keys of a part");
    parts.emplace_back(c.B, c.Hkv, c.D, c.E, problem.options());
    parts.back().add(part(BhndView<const double>(problem.k.view()), from, to),
                     part(BhndView<const double>(problem.v.view()), from, to),
                     part(problem.key_weight(), from, to));
    from = to;
  }
  std::shuffle(parts.begin(), parts.end(), std::mt19937(any_seed()));
  State<double> state(c.B, c.Hkv, c.D, c.E, problem.options());
  for (const State<double>& each : parts) state += each;
  Tensor<double> o = Tensor<double>::nan(problem.d_o.s, c.layout);
  std::as_const(state).query(BhndView<const double>(problem.q.view()), o.view());
  RC_ASSERT(state.count() == c.M);
  RC_ASSERT(max_abs_diff(o, right.truth.o) <= 10 * right.o);
}

}  // namespace
}  // namespace fastmax
