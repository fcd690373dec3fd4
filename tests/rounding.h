// The right answer to a problem, and how far from it rounding alone may lead.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "src/reference.h"
#include "tests/problem.h"
#include "tests/support.h"

namespace fastmax::testing_support {

/// What rounding may cost: three times what the definition loses in T, and a few units of rounding
/// of the largest sum of absolute terms, for the cases in which the definition happens to lose
/// nothing.
template <class T>
double tolerance(Tensor<T>& in_t, Tensor<T>& truth, double terms) {
  return 3 * max_abs_diff(in_t, truth) + 4 * std::numeric_limits<T>::epsilon() * terms;
}

template <class T>
struct Answer {
  Outputs<T> truth;
  double o, g;  // tolerances
};

template <class T>
Answer<T> answer(Problem<T>& problem) {
  Outputs<T> truth = problem.outputs(), in_t = problem.outputs();
  reference::forward<Wide<T>>(problem.args(truth), problem.options());
  reference::forward<T>(problem.args(in_t), problem.options());
  EXPECT_TRUE(truth.o.all_finite() && truth.g.all_finite());
  const double o = tolerance(in_t.o, truth.o, max_abs(problem.v));
  const double g = tolerance(in_t.g, truth.g, max_abs(truth.g));
  return {std::move(truth), o, g};
}

/// The largest sums of absolute terms in dq, dk and dv: rounding cannot be expected to stay below a
/// few units of them, however small the gradient itself is (with one key, dq = dk = 0 exactly).
template <class T>
std::array<double, 3> absolute_terms(Problem<T>& problem) {
  const Case& c = problem.c;
  const Options options = problem.options();
  const double scale = options.scale.value_or(default_scale(c.p, c.D));
  const auto largest = [](const double* x, std::int64_t D) {
    return std::abs(
        *std::max_element(x, x + D, [](double a, double b) { return std::abs(a) < std::abs(b); }));
  };
  double dq = 0, dk = 0, dv = 0;
  for (std::int64_t b = 0; b < c.B; ++b) {
    for (std::int64_t hk = 0; hk < c.Hkv; ++hk) {
      const auto k = reference::standardize<double>(Rows<const T>(problem.k.view().head(b, hk)));
      const Rows<const T> v = problem.v.view().head(b, hk);
      std::vector<double> dk_m(c.M, 0), dv_m(c.M, 0);
      for (std::int64_t h = hk * (c.H / c.Hkv); h < (hk + 1) * (c.H / c.Hkv); ++h) {
        const auto q = reference::standardize<double>(Rows<const T>(problem.q.view().head(b, h)));
        for (std::int64_t n = 0; n < c.N; ++n) {
          const auto w = problem.key_weight().row(b);
          const auto row = reference::score_row(q, k, w, n, options);
          if (row.g == 0) continue;
          const auto o = reference::output_row(row, v);
          const auto d_o = problem.d_o.view().head(b, h)[n];
          double dq_n = 0;
          for (std::size_t m = 0; m < row.s.size(); ++m) {
            double dwf = 0;  // |u . v_m| + |u . o|
            for (std::int64_t e = 0; e < c.E; ++e)
              dwf += std::abs(d_o[e]) * (std::abs(v[m][e]) + std::abs(o[e])) / row.g;
            const double ds =
                scale * (w ? w[m] : 1) * std::abs(reference::score(row.s[m], c.p - 1)) * dwf;
            dq_n += ds * largest(k[m], c.D);
            dk_m[m] += ds * largest(q[n], c.D) / k.sigma[m];
            for (std::int64_t e = 0; e < c.E; ++e)
              dv_m[m] += std::abs(row.wf[m] * d_o[e]) / row.g / static_cast<double>(c.E);
          }
          dq = std::max(dq, dq_n / q.sigma[n]);
        }
      }
      for (std::int64_t m = 0; m < c.M; ++m) {
        dk = std::max(dk, dk_m[m]);
        dv = std::max(dv, dv_m[m]);
      }
    }
  }
  return {dq, dk, dv};
}

template <class T>
struct GradientAnswer {
  Gradients<T> truth;
  double dq, dk, dv;  // tolerances
};

template <class T>
GradientAnswer<T> gradient_answer(Problem<T>& problem) {
  Outputs<T> unread = problem.outputs();
  Gradients<T> truth = problem.gradients(), in_t = problem.gradients();
  reference::backward<Wide<T>>(problem.args(unread, truth), problem.options());
  reference::backward<T>(problem.args(unread, in_t), problem.options());
  EXPECT_TRUE(truth.dq.all_finite() && truth.dk.all_finite() && truth.dv.all_finite());
  const auto [dq, dk, dv] = absolute_terms(problem);
  return {truth, tolerance(in_t.dq, truth.dq, dq), tolerance(in_t.dk, truth.dk, dk),
          tolerance(in_t.dv, truth.dv, dv)};
}

}  // namespace fastmax::testing_support
