// The definition of Fastmax, forward and backward, O(N M), no tricks. Every kernel is judged against it.
//
//   s_nm = scale * q^_n . k^_m,   f(s) = sum_l c_l s^l                                          [eq. 7, 8]
//   F_n = sum_m w_m f(s_nm) v_m,  g_n = sum_m w_m f(s_nm),  o_n = F_n / g_n                     [eq. 12]
//
// A state S = sum_m w_m phi(k^_m) [v_m, 1] adds sum_alpha W_alpha phi_alpha(q^_n) S_alpha to [F_n, g_n]. Dropout of
// features puts sum_alpha mask_alpha W_alpha phi_alpha(q^_n) phi_alpha(k^_m) in the place of f(s_nm) in F_n, not in g_n.
//
// Acc is the type of every intermediate: one wider than T is the truth, T itself measures how much rounding is
// unavoidable. Form and chunk are ignored. Arguments are taken as valid.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "fastmax/fastmax.h"
#include "src/denominator.h"
#include "src/reference_features.h"
#include "src/reference_tokens.h"

namespace fastmax::reference {

/// c_0 .. c_p of f; zeros behind.
inline Coefficients coefficients_of(const Options& options) {
  Coefficients c = taylor_coefficients(options.p);
  for (int l = 0; options.coefficients && l <= options.p; ++l) c[l] = (*options.coefficients)[l];
  return c;
}
inline Coefficients derivative(const Coefficients& c) {
  Coefficients d{};
  for (int l = 0; l < kMaxOrder; ++l) d[l] = (l + 1) * c[l + 1];
  return d;
}
/// sum_l c_l s^l, by Horner's rule.
template <class Acc>
Acc score(Acc s, const Coefficients& c) {
  Acc f = 0;
  for (int l = kMaxOrder; l >= 0; --l) f = f * s + Acc(c[l]);
  return f;
}
template <class Acc>
Acc score(Acc s, int p) {
  return score(s, taylor_coefficients(p));
}

/// One query head, the key head that it reads, and the past before that.
template <class Acc, class T>
struct Head {
  const Options& options;
  Acc scale;
  Coefficients c;
  Tokens<Acc> q, k;
  Rows<const T> v;
  const T* w;     // [M]; nullptr: all 1
  const T* past;  // the initial state, [F][E + 1]; nullptr: none
  Basis<Acc> basis;
  std::vector<std::vector<Acc>> phi_q, phi_k;  // [N][F], [M][F], only if features are needed

  template <class Args>
  Head(const Args& a, const Options& options, std::int64_t b, std::int64_t h,
       std::int64_t first_batch, bool features)
      : options(options),
        scale(options.scale ? *options.scale : default_scale(options.p, a.q.D, options.normalize)),
        c(coefficients_of(options)),
        q(normalize<Acc>(a.q.head(b, h), options.normalize)),
        k(normalize<Acc>(a.k.head(b, key_head(a, h)), options.normalize, a.key_weight.row(b))),
        v(a.v.head(b, key_head(a, h))),
        w(a.key_weight.row(b)),
        past(a.initial_state.head(b, key_head(a, h))),
        basis(options, c, features ? a.q.D : 0) {
    drop_tokens(q, options.dropout, Drawn::kQuery, first_batch + b, h);
    drop_tokens(k, options.dropout, Drawn::kKey, first_batch + b, key_head(a, h));
    if (!features) return;
    basis.draw(options.dropout, first_batch + b, key_head(a, h));
    for (std::int64_t n = 0; n < q.N; ++n) phi_q.push_back(basis.phi(q[n], q.D, scale));
    for (std::int64_t m = 0; m < k.N; ++m) phi_k.push_back(basis.phi(k[m], k.D, Acc(1)));
  }

  template <class Args>
  static std::int64_t key_head(const Args& a, std::int64_t h) {
    return h / (a.q.H / a.k.H);
  }
  Acc weight(std::int64_t m) const { return w ? Acc(w[m]) : Acc(1); }
  /// Keys m <= n + M - N, or all.
  std::int64_t visible(std::int64_t n) const { return options.causal ? n + 1 + k.N - q.N : k.N; }
  bool masked() const { return drops_features(options.dropout); }
  std::size_t features() const { return basis.monomials.size(); }
};

/// Row n: scores of the visible keys, what multiplies v_m and what adds up to g, and the output.
template <class Acc>
struct Row {
  std::vector<Acc> s, numerator, denominator;  // one entry a visible key
  std::vector<Acc> o;                          // [E]
  Acc g = 0;
  Acc weight = 0;        // sum of the visible weights, the past's included
  Acc ratio = 0;         // g over it before the floor
  bool floored = false;  // g is the floor, a constant
};

template <class Acc, class T>
Row<Acc> row_of(const Head<Acc, T>& head, std::int64_t n) {
  const std::int64_t E = head.v.D;
  Row<Acc> row;
  row.o.assign(E, Acc(0));
  for (std::size_t f = 0; head.past && f < head.features(); ++f) {
    const Acc phi = Acc(head.basis.monomials[f].weight) * head.phi_q[n][f];
    const T* S_f = head.past + f * (E + 1);
    for (std::int64_t e = 0; e < E; ++e) row.o[e] += phi * Acc(S_f[e]);
    row.g += phi * Acc(S_f[E]);
    if (f == 0) row.weight += Acc(S_f[E]);  // its feature is the constant 1
  }
  for (std::int64_t m = 0; m < head.visible(n); ++m) {
    Acc s = 0, f_masked = 0;
    for (std::int64_t d = 0; d < head.q.D; ++d) s += head.scale * head.q[n][d] * head.k[m][d];
    const Acc f = score(s, head.c);
    for (std::size_t i = 0; head.masked() && i < head.features(); ++i)
      f_masked += head.basis.mask[i] * Acc(head.basis.monomials[i].weight) * head.phi_q[n][i] *
                  head.phi_k[m][i];
    row.s.push_back(s);
    row.denominator.push_back(head.weight(m) * f);
    row.numerator.push_back(head.weight(m) * (head.masked() ? f_masked : f));
    row.g += row.denominator.back();
    row.weight += head.weight(m);
    for (std::int64_t e = 0; e < E; ++e) row.o[e] += row.numerator.back() * Acc(head.v[m][e]);
  }
  row.ratio = row.g / row.weight;
  if (const Acc floor = Acc(kDenominatorFloor<T>) * row.weight;
      may_vanish(head.options) && row.g < floor) {
    row.g = floor;
    row.floored = true;
  }
  for (Acc& o : row.o) o = row.g == 0 ? Acc(0) : o / row.g;
  return row;
}

/// The attention matrix of one head as it is applied, [N][M].
template <class Acc, class T>
std::vector<std::vector<Acc>> attention_weights(const ForwardArgs<T>& a, const Options& options,
                                                std::int64_t b, std::int64_t h) {
  const Head<Acc, T> head(a, options, b, h, 0, drops_features(options.dropout));
  std::vector<std::vector<Acc>> matrix;
  for (std::int64_t n = 0; n < head.q.N; ++n) {
    const auto row = row_of(head, n);
    matrix.emplace_back(head.k.N, Acc(0));
    if (row.g != 0)
      std::transform(row.numerator.begin(), row.numerator.end(), matrix[n].begin(),
                     [&](Acc x) { return x / row.g; });
  }
  return matrix;
}

/// Writes o, g and the final state as asked. Returns the smallest denominator over the sum of its row's weights,
/// before the floor. Dropout draws for batch entries from first_batch.
template <class Acc, class T>
double forward(const ForwardArgs<T>& a, const Options& options, std::int64_t first_batch = 0) {
  double smallest = std::numeric_limits<double>::infinity();
  const bool features =
      a.initial_state.data || a.final_state.data || drops_features(options.dropout);
  for (std::int64_t b = 0; b < a.q.B; ++b) {
    for (std::int64_t h = 0; h < a.q.H; ++h) {
      const Head<Acc, T> head(a, options, b, h, first_batch, features);
      for (std::int64_t n = 0; n < a.q.N; ++n) {
        const auto row = row_of(head, n);
        std::transform(row.o.begin(), row.o.end(), a.o.head(b, h)[n].begin(),
                       [](Acc x) { return T(x); });
        if (a.g.data) a.g.head(b, h)[n] = T(row.g);
        if (row.weight > 0) smallest = std::min(smallest, static_cast<double>(row.ratio));
      }
      const std::int64_t group = a.q.H / a.k.H, columns = a.v.D + 1;
      if (!a.final_state.data || h % group != group - 1) continue;
      std::vector<Acc> S(a.final_state.F * columns, Acc(0));
      for (std::size_t f = 0; f < head.features(); ++f) {
        Acc* S_f = S.data() + f * columns;
        for (std::int64_t e = 0; head.past && e < columns; ++e)
          S_f[e] = Acc(head.past[f * columns + e]);
        for (std::int64_t m = 0; m < a.k.N; ++m) {
          for (std::int64_t e = 0; e < columns; ++e)
            S_f[e] += head.weight(m) * head.phi_k[m][f] * (e < a.v.D ? Acc(head.v[m][e]) : Acc(1));
        }
      }
      std::transform(S.begin(), S.end(), a.final_state.head(b, h / group),
                     [](Acc x) { return T(x); });
    }
  }
  return smallest;
}

/// The gradients of one key head, before the normalisation. The query's are of the head at hand.
template <class Acc>
struct HeadGradients {
  std::vector<Acc> dq, dk, dv;        // [N][D], [M][D], [M][E]
  std::vector<Acc> d_phi_q, d_phi_k;  // [N][F], [M][F]
  std::vector<Acc> d_past;            // [F][E + 1]
};

/// Adds row n's part. It inverts o = F / g: with u = do / g and c = -(do . o) / g, or c = 0 where g is the floor,
///   d(numerator)_m = u . v_m,  d(denominator)_m = c,  dv_m = numerator_m u,  dS_alpha = W_alpha phi_alpha(q) [u, c],
/// and without a mask numerator and denominator are both w_m f(s_m), with ds_m = w_m f'(s_m) (u . v_m + c).
template <class Acc, class T>
void backward_row(const Head<Acc, T>& head, std::span<const T> d_o, std::int64_t n,
                  HeadGradients<Acc>& to) {
  const std::int64_t D = head.q.D, E = head.v.D;
  const auto row = row_of(head, n);
  if (row.g == 0) return;
  std::vector<Acc> u(E + 1, Acc(0));  // [u, c]
  for (std::int64_t e = 0; e < E; ++e) {
    u[e] = Acc(d_o[e]) / row.g;
    if (!row.floored) u[E] -= u[e] * row.o[e];
  }
  const std::size_t F = head.features();
  const Coefficients slope = derivative(head.c);
  for (std::size_t m = 0; m < row.s.size(); ++m) {
    Acc d_numerator = 0;
    for (std::int64_t e = 0; e < E; ++e) {
      d_numerator += u[e] * Acc(head.v[m][e]);
      to.dv[m * E + e] += row.numerator[m] * u[e];
    }
    const Acc ds = head.scale * head.weight(m) * score(row.s[m], slope) *
                   (u[E] + (head.masked() ? Acc(0) : d_numerator));
    for (std::int64_t d = 0; d < D; ++d) {
      to.dq[n * D + d] += ds * head.k[m][d];
      to.dk[m * D + d] += ds * head.q[n][d];
    }
    for (std::size_t f = 0; head.masked() && f < F; ++f) {
      const Acc d =
          head.weight(m) * head.basis.mask[f] * Acc(head.basis.monomials[f].weight) * d_numerator;
      to.d_phi_q[n * F + f] += d * head.phi_k[m][f];
      to.d_phi_k[m * F + f] += d * head.phi_q[n][f];
    }
  }
  for (std::size_t f = 0; f < to.d_past.size() / (E + 1); ++f) {
    for (std::int64_t e = 0; e <= E; ++e) {
      const Acc d = Acc(head.basis.monomials[f].weight) * u[e];
      to.d_past[f * (E + 1) + e] += d * head.phi_q[n][f];
      if (head.past) to.d_phi_q[n * F + f] += d * Acc(head.past[f * (E + 1) + e]);
    }
  }
}

/// The keys' part of S = past + sum_m w_m phi(k_m) [v_m, 1], for the gradient dS that comes in through it.
template <class Acc, class T>
void backward_final_state(const Head<Acc, T>& head, const T* dS, HeadGradients<Acc>& to) {
  const std::int64_t E = head.v.D;
  for (std::size_t f = 0; f < head.features(); ++f) {
    for (std::int64_t e = 0; e <= E; ++e) {
      const Acc d = Acc(dS[f * (E + 1) + e]);
      to.d_past[f * (E + 1) + e] += d;
      for (std::int64_t m = 0; m < head.k.N; ++m) {
        to.d_phi_k[m * head.features() + f] +=
            head.weight(m) * d * (e < E ? Acc(head.v[m][e]) : Acc(1));
        if (e < E) to.dv[m * E + e] += head.weight(m) * d * head.phi_k[m][f];
      }
    }
  }
}

/// Computes o and g again and reads neither; the heads of a group add up in their key head.
template <class Acc, class T>
void backward(const BackwardArgs<T>& a, const Options& options, std::int64_t first_batch = 0) {
  const bool states = a.initial_state.data || a.d_final_state.data || a.d_initial_state.data;
  const bool features = states || drops_features(options.dropout);
  const std::int64_t N = a.q.N, M = a.k.N, D = a.q.D, E = a.v.D,
                     group = a.q.H / std::max<std::int64_t>(a.k.H, 1);
  for (std::int64_t b = 0; b < a.q.B; ++b) {
    HeadGradients<Acc> to;
    for (std::int64_t h = 0; h < a.q.H; ++h) {
      const Head<Acc, T> head(a, options, b, h, first_batch, features);
      const auto F = static_cast<std::int64_t>(features ? head.features() : 0);
      if (h % group == 0) {
        to.dk.assign(M * D, Acc(0));
        to.dv.assign(M * E, Acc(0));
        to.d_phi_k.assign(M * F, Acc(0));
        to.d_past.assign(states ? F * (E + 1) : 0, Acc(0));
      }
      to.dq.assign(N * D, Acc(0));
      to.d_phi_q.assign(N * F, Acc(0));
      for (std::int64_t n = 0; n < N; ++n)
        backward_row(head, std::span<const T>(a.d_o.head(b, h)[n]), n, to);
      for (std::int64_t n = 0; features && n < N; ++n)
        head.basis.phi_backward(head.q[n], D, head.scale, to.d_phi_q.data() + n * F,
                                to.dq.data() + n * D);
      normalize_backward(head.q, options.normalize, to.dq, a.q.head(b, h), a.dq.head(b, h));
      if (h % group != group - 1) continue;

      const std::int64_t hk = h / group;
      if (a.d_final_state.data) backward_final_state(head, a.d_final_state.head(b, hk), to);
      for (std::int64_t m = 0; features && m < M; ++m)
        head.basis.phi_backward(head.k[m], D, Acc(1), to.d_phi_k.data() + m * F,
                                to.dk.data() + m * D);
      normalize_backward(head.k, options.normalize, to.dk, a.k.head(b, hk), a.dk.head(b, hk));
      for (std::int64_t m = 0; m < M; ++m)
        for (std::int64_t e = 0; e < E; ++e) a.dv.head(b, hk)[m][e] = T(to.dv[m * E + e]);
      if (T* out = a.d_initial_state.head(b, hk)) {
        std::fill_n(out, a.d_initial_state.F * (E + 1), T(0));
        std::transform(to.d_past.begin(), to.d_past.end(), out, [](Acc x) { return T(x); });
      }
    }
  }
}

}  // namespace fastmax::reference
