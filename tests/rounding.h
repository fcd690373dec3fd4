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
/// of the terms that are summed, for the cases in which the definition happens to lose nothing.
template <class T>
double tolerance(const Tensor<T>& in_t, const Tensor<T>& truth, double terms) {
  return 3 * max_abs_diff(in_t, truth) + 4 * std::numeric_limits<T>::epsilon() * terms;
}

template <class T>
reference::Tokens<double> standardized(Tensor<T>& x, std::int64_t b, std::int64_t h) {
  return reference::standardize<double>(Rows<const T>(x.view().head(b, h)));
}

/// The k-th derivative of f_p.
inline double derivative(double s, int p, int k) { return p < k ? 0 : reference::score(s, p - k); }

/// What a row of the definition is rounded to, in units of rounding. Rounding errors of a sum have random signs and
/// add up like the root of the sum of squares: a score errs by r_m = scale * |q^ * k^| (in the 2-norm over d), f(s)
/// by |f| + |f'| r, and its features, one product each, by f(r).
struct RoundingRow {
  std::vector<double> wf, wdf;  // of w_m f(s_m) and w_m f'(s_m)
  std::vector<double> o;        // of the output
  double g = 0;                 // of the denominator
  double divisor = 0;           // the denominator itself; 0: the row is zero
};

template <class T>
RoundingRow rounding_row(const reference::Tokens<double>& q, const reference::Tokens<double>& k,
                         Rows<const T> v, const T* w, std::int64_t n, const Options& options) {
  const double scale = options.scale.value_or(default_scale(options.p, q.D));
  const auto row = reference::score_row(q, k, w, n, options);
  RoundingRow out;
  out.o.assign(v.D, 0);
  out.divisor = row.g;
  for (std::size_t m = 0; m < row.s.size(); ++m) {
    double squares = 0;
    for (std::int64_t d = 0; d < q.D; ++d) squares += q[n][d] * k[m][d] * q[n][d] * k[m][d];
    const double r = scale * std::sqrt(squares), s = row.s[m];
    const auto units = [&](int order) {
      return std::abs(derivative(s, options.p, order)) +
             std::abs(derivative(s, options.p, order + 1)) * r + derivative(r, options.p, order);
    };
    const double w_m = w ? w[m] : 1;
    out.wf.push_back(w_m * units(0));
    out.wdf.push_back(w_m * units(1));
    out.g += out.wf.back();
    for (std::int64_t e = 0; e < v.D && row.g > 0; ++e)
      out.o[e] += out.wf.back() * std::abs(v[m][e]) / row.g;
  }
  return out;
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
  const Case& c = problem.c;
  double o = 0, g = 0;
  for (std::int64_t b = 0; b < c.B; ++b) {
    for (std::int64_t h = 0; h < c.H; ++h) {
      const std::int64_t hk = h / (c.H / c.Hkv);
      const auto q = standardized(problem.q, b, h), k = standardized(problem.k, b, hk);
      const Rows<const T> v = problem.v.view().head(b, hk);
      for (std::int64_t n = 0; n < c.N; ++n) {
        const auto row = rounding_row(q, k, v, problem.key_weight().row(b), n, problem.options());
        for (const double x : row.o) o = std::max(o, x);
        g = std::max(g, row.g);
      }
    }
  }
  return {truth, tolerance(in_t.o, truth.o, o), tolerance(in_t.g, truth.g, g)};
}

/// The largest sums of absolute terms in dq, dk and dv. They are what a gradient is rounded to
/// however small it is itself: with one key, dq = dk = 0 exactly.
template <class T>
std::array<double, 3> gradient_terms(Problem<T>& problem) {
  const Case& c = problem.c;
  const Options options = problem.options();
  const double scale = options.scale.value_or(default_scale(c.p, c.D));
  const auto largest = [&](const double* x) {
    double most = 0;
    for (std::int64_t d = 0; d < c.D; ++d) most = std::max(most, std::abs(x[d]));
    return most;
  };
  double dq = 0, dk = 0, dv = 0;
  for (std::int64_t b = 0; b < c.B; ++b) {
    for (std::int64_t hk = 0; hk < c.Hkv; ++hk) {
      const auto k = standardized(problem.k, b, hk);
      const Rows<const T> v = problem.v.view().head(b, hk);
      std::vector<double> dk_m(c.M, 0), dv_m(c.M, 0);
      for (std::int64_t h = hk * (c.H / c.Hkv); h < (hk + 1) * (c.H / c.Hkv); ++h) {
        const auto q = standardized(problem.q, b, h);
        for (std::int64_t n = 0; n < c.N; ++n) {
          const auto row = rounding_row(q, k, v, problem.key_weight().row(b), n, options);
          if (row.divisor == 0) continue;
          const auto d_o = problem.d_o.view().head(b, h)[n];
          double dq_n = 0;
          for (std::size_t m = 0; m < row.wf.size(); ++m) {
            double dwf = 0, u = 0;  // |u . v_m| + |u . o|,  max |u|
            for (std::int64_t e = 0; e < c.E; ++e) {
              dwf += std::abs(d_o[e]) * (std::abs(v[m][e]) + row.o[e]) / row.divisor;
              u = std::max(u, std::abs(static_cast<double>(d_o[e])) / row.divisor);
            }
            dq_n += scale * row.wdf[m] * dwf * largest(k[m]);
            dk_m[m] += scale * row.wdf[m] * dwf * largest(q[n]) / k.sigma[m];
            dv_m[m] += row.wf[m] * u;
          }
          dq = std::max(dq, dq_n / q.sigma[n]);
        }
      }
      for (const double x : dk_m) dk = std::max(dk, x);
      for (const double x : dv_m) dv = std::max(dv, x);
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
  const auto [dq, dk, dv] = gradient_terms(problem);
  return {truth, tolerance(in_t.dq, truth.dq, dq), tolerance(in_t.dk, truth.dk, dk),
          tolerance(in_t.dv, truth.dv, dv)};
}

}  // namespace fastmax::testing_support
