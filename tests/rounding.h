// The right answer to a problem, and how far from it rounding alone may lead.
#pragma once
#include <algorithm>
#include <cmath>
#include <iterator>
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

/// The same for states.
template <class T>
double tolerance(const std::vector<T>& in_t, const std::vector<T>& truth, double terms) {
  return 3 * max_abs_diff(in_t, truth) + 4 * std::numeric_limits<T>::epsilon() * terms;
}

/// What a row of the definition is rounded to, in units of rounding. Rounding errors of a sum have random signs and
/// add up like the root of the sum of squares: a score errs by r_m = scale * |q^ * k^| (in the 2-norm over d), f(s)
/// by |f| + |f'| r, and its features, one product each, by f(r). Where features themselves are the terms (a state, a
/// mask) their absolute values are summed.
struct RoundingRow {
  std::vector<double> f, df;  // of w_m f(s_m) and w_m f'(s_m)
  std::vector<double> o;      // of the output
  double g = 0;               // of the denominator
  double divisor = 0;         // the denominator itself; 0: the row is zero
};

template <class T>
using Head = reference::Head<double, T>;

inline Coefficients absolute(Coefficients c) {
  for (double& c_l : c) c_l = std::abs(c_l);
  return c;
}

template <class T>
RoundingRow rounding_row(const Head<T>& head, std::int64_t n) {
  const std::int64_t D = head.q.D, E = head.v.D;
  const auto row = reference::row_of(head, n);
  const Coefficients derivatives[] = {head.c, reference::derivative(head.c),
                                      reference::derivative(reference::derivative(head.c))};
  RoundingRow out;
  out.o.assign(E, 0);
  out.divisor = row.g;
  for (std::size_t i = 0; head.past && i < head.features(); ++i) {
    const double phi = std::abs(head.basis.monomials[i].weight * head.phi_q[n][i]);
    const T* S = head.past + i * (E + 1);
    for (std::int64_t e = 0; e < E && row.g > 0; ++e) out.o[e] += phi * std::abs(S[e]) / row.g;
    out.g += phi * std::abs(S[E]);
  }
  for (std::size_t m = 0; m < row.s.size(); ++m) {
    double squares = 0, masked = 0;
    for (std::int64_t d = 0; d < D; ++d)
      squares += head.q[n][d] * head.k[m][d] * head.q[n][d] * head.k[m][d];
    for (std::size_t i = 0; head.masked() && i < head.features(); ++i)
      masked += std::abs(head.basis.mask[i] * head.basis.monomials[i].weight * head.phi_q[n][i] *
                         head.phi_k[m][i]);
    const double r = head.scale * std::sqrt(squares), s = row.s[m];
    const auto units = [&](int order) {
      return std::abs(reference::score(s, derivatives[order])) +
             std::abs(reference::score(s, derivatives[order + 1])) * r +
             reference::score(r, absolute(derivatives[order]));
    };
    const double w = head.weight(m), numerator = w * (units(0) + masked);
    out.f.push_back(numerator);
    out.df.push_back(w * (units(1) + head.options.p * masked));
    out.g += w * units(0);
    for (std::int64_t e = 0; e < E && row.g > 0; ++e)
      out.o[e] += numerator * std::abs(head.v[m][e]) / row.g;
  }
  // The quotient errs by the denominator's error, too.
  for (std::int64_t e = 0; e < E && row.g > 0; ++e)
    out.o[e] += out.g / row.g * std::abs(row.o[e]) * (head.past || head.masked() ? 1 : 0);
  return out;
}

template <class T>
struct Answer {
  Outputs<T> truth;
  double o, g, final_state;  // tolerances
  double smallest;           // denominator over the sum of its row's weights
};

template <class T>
bool needs_features(const Problem<T>& problem) {
  return drops_features(problem.base.dropout) || !problem.initial_state.empty();
}

/// A bound on the entries of J^T d_phi with respect to x^, terms summed without their signs.
template <class T>
double jacobian_terms(const Head<T>& head, const double* x, double scale,
                      const std::vector<double>& d_phi) {
  const auto kappa = head.basis.kappa(x, head.q.D, scale);
  double sum = 0;
  for (std::size_t f = 0; f < head.features(); ++f) {
    const auto& index = head.basis.monomials[f].index;
    for (int j = 0; j < head.basis.p; ++j) {
      double others = std::abs(d_phi[f]);
      for (int i = 0; i < head.basis.p; ++i)
        if (i != j) others *= std::abs(kappa[index[i]]);
      if (index[j] > 0) sum += scale * others;
    }
  }
  return sum;
}

/// |S_alpha| . |x| for each feature, with x = [x_0 .. x_{E-1}, last].
template <class T, class X>
std::vector<double> absolute_product(const Head<T>& head, const T* S, const X& x, double last) {
  std::vector<double> out;
  for (std::size_t f = 0; f < head.features(); ++f, S += head.v.D + 1) {
    out.push_back(std::abs(S[head.v.D] * last));
    for (std::int64_t e = 0; e < head.v.D; ++e) out.back() += std::abs(S[e] * x[e]);
  }
  return out;
}

template <class T>
Answer<T> answer(Problem<T>& problem) {
  Outputs<T> truth = problem.outputs(), in_t = problem.outputs();
  const double smallest = reference::forward<Wide<T>>(problem.args(truth), problem.options());
  reference::forward<T>(problem.args(in_t), problem.options());
  EXPECT_TRUE(truth.o.all_finite() && truth.g.all_finite());
  const Case& c = problem.c;
  const Options options = problem.options();
  double o = 0, g = 0, S = 0;
  for (std::int64_t b = 0; b < c.B; ++b) {
    for (std::int64_t h = 0; h < c.H; ++h) {
      const Head<T> head(problem.args(truth), options, b, h, 0, needs_features(problem));
      for (std::int64_t n = 0; n < c.N; ++n) {
        const auto row = rounding_row(head, n);
        for (const double x : row.o) o = std::max(o, x);
        g = std::max(g, row.g);
      }
      for (std::size_t f = 0; head.past && f < head.features(); ++f) {
        for (std::int64_t e = 0; e <= c.E; ++e) {
          double sum = std::abs(head.past[f * (c.E + 1) + e]);
          for (std::int64_t m = 0; m < c.M; ++m)
            sum += head.weight(m) * std::abs(head.phi_k[m][f] * (e < c.E ? head.v[m][e] : 1));
          S = std::max(S, sum);
        }
      }
    }
  }
  return {truth, tolerance(in_t.o, truth.o, o), tolerance(in_t.g, truth.g, g),
          tolerance(in_t.final_state, truth.final_state, S), smallest};
}

template <class X>
double largest(const X& x, std::int64_t n) {
  double most = 0;
  for (std::int64_t i = 0; i < n; ++i) most = std::max(most, std::abs(static_cast<double>(x[i])));
  return most;
}

/// The largest sums of absolute terms in each gradient. They are what a gradient is rounded to however small it is
/// itself: with one key, dq = dk = 0 exactly.
struct GradientTerms {
  double dq = 0, dk = 0, dv = 0, d_initial_state = 0;
};

/// What comes through the final state, once a key head.
template <class T>
void add_state_terms(const Head<T>& head, const T* dS, std::vector<double>& dk,
                     std::vector<double>& dv) {
  const std::int64_t E = head.v.D;
  for (std::int64_t m = 0; m < head.k.N; ++m) {
    dk[m] += head.weight(m) / head.k.divisor[m] *
             jacobian_terms(head, head.k[m], 1, absolute_product(head, dS, head.v[m], 1));
    for (std::size_t f = 0; f < head.features(); ++f)
      dv[m] += head.weight(m) * std::abs(head.phi_k[m][f]) * largest(dS + f * (E + 1), E);
  }
}

template <class T>
GradientTerms gradient_terms(Problem<T>& problem) {
  const Case& c = problem.c;
  const Options options = problem.options();
  Outputs<T> unread = problem.outputs();
  Gradients<T> unwritten = problem.gradients();
  const auto args = problem.args(unread, unwritten);
  GradientTerms most;
  for (std::int64_t b = 0; b < c.B; ++b) {
    std::vector<double> dk, dv, dS;
    for (std::int64_t h = 0; h < c.H; ++h) {
      const std::int64_t group = c.H / c.Hkv;
      const Head<T> head(args, options, b, h, 0, needs_features(problem));
      if (h % group == 0) {
        dk.assign(c.M, 0);
        dv.assign(c.M, 0);
        dS.assign(head.past ? head.features() : 0,
                  largest(problem.d_final_state, std::ssize(problem.d_final_state)));
        if (head.past) add_state_terms(head, args.d_final_state.head(b, h / group), dk, dv);
      }
      for (std::int64_t n = 0; n < c.N; ++n) {
        const auto row = rounding_row(head, n);
        if (row.divisor == 0) continue;
        std::vector<double> u(c.E);
        double along = 0, dq = 0;  // |u . o|
        for (std::int64_t e = 0; e < c.E; ++e) {
          u[e] = std::abs(problem.d_o.view().head(b, h)[n][e]) / row.divisor;
          along += u[e] * row.o[e];
        }
        for (std::size_t m = 0; m < row.f.size(); ++m) {
          double d_f = along;
          for (std::int64_t e = 0; e < c.E; ++e) d_f += u[e] * std::abs(head.v[m][e]);
          dq += head.scale * row.df[m] * d_f * largest(head.k[m], c.D);
          dk[m] += head.scale * row.df[m] * d_f * largest(head.q[n], c.D) / head.k.divisor[m];
          dv[m] += row.f[m] * largest(u, c.E);
        }
        if (head.past) {
          auto d_phi = absolute_product(head, head.past, u, along);
          for (std::size_t f = 0; f < head.features(); ++f) {
            const double weight = std::abs(head.basis.monomials[f].weight);
            d_phi[f] *= weight;
            dS[f] += weight * std::abs(head.phi_q[n][f]) * (along + largest(u, c.E));
          }
          dq += jacobian_terms(head, head.q[n], head.scale, d_phi);
        }
        most.dq = std::max(most.dq, dq / head.q.divisor[n]);
      }
      most.dk = std::max(most.dk, largest(dk, c.M));
      most.dv = std::max(most.dv, largest(dv, c.M));
      most.d_initial_state = std::max(most.d_initial_state, largest(dS, std::ssize(dS)));
    }
  }
  return most;
}

template <class T>
struct GradientAnswer {
  Gradients<T> truth;
  double dq, dk, dv, d_initial_state;  // tolerances
};

template <class T>
GradientAnswer<T> gradient_answer(Problem<T>& problem) {
  Outputs<T> unread = problem.outputs();
  Gradients<T> truth = problem.gradients(), in_t = problem.gradients();
  reference::backward<Wide<T>>(problem.args(unread, truth), problem.options());
  reference::backward<T>(problem.args(unread, in_t), problem.options());
  EXPECT_TRUE(truth.dq.all_finite() && truth.dk.all_finite() && truth.dv.all_finite());
  const auto terms = gradient_terms(problem);
  return {truth, tolerance(in_t.dq, truth.dq, terms.dq), tolerance(in_t.dk, truth.dk, terms.dk),
          tolerance(in_t.dv, truth.dv, terms.dv),
          tolerance(in_t.d_initial_state, truth.d_initial_state, terms.d_initial_state)};
}

}  // namespace fastmax::testing_support
