// The definition of Fastmax, forward and backward, O(N M), no tricks. Every kernel is judged
// against it.
//
//   x^ = (x - mean x) / sqrt(var x + eps)             over the D channels of a token       [eq. 5,
//   6] s_nm = scale * q^_n . k^_m,   f(s) = 1 + s + .. + s^p / p!                             [eq.
//   7, 8] F_n = sum_m w_m f(s_nm) v_m,  g_n = sum_m w_m f(s_nm),  o_n = F_n / g_n [eq. 12]
//
// Acc is the type of every intermediate: one wider than T is the truth, T itself measures how much
// rounding is unavoidable. Form and chunk are ignored. Arguments are taken as valid.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "fastmax/fastmax.h"
#include "src/denominator.h"

namespace fastmax::reference {

inline constexpr double kNormEps =
    1e-6;  ///< inside the root: a constant token becomes zeros, not NaN

/// f_p(s), by Horner's rule from the highest power. Its derivative is f_{p-1}(s).
template <class Acc>
Acc score(Acc s, int p) {
  Acc f = 1;
  for (int l = p; l >= 1; --l) f = 1 + f * s / Acc(l);
  return f;
}

/// The tokens of one head after normalisation, [N][D], and what their gradient needs.
template <class Acc>
struct Tokens {
  std::int64_t N = 0, D = 0;
  std::vector<Acc> x;      // [N][D]
  std::vector<Acc> sigma;  // [N]: sqrt(var + eps)
  Acc* operator[](std::int64_t n) { return x.data() + n * D; }
  const Acc* operator[](std::int64_t n) const { return x.data() + n * D; }
};

template <class Acc, class T>
Tokens<Acc> standardize(Rows<const T> x) {
  Tokens<Acc> out{x.N, x.D, std::vector<Acc>(x.N * x.D), std::vector<Acc>(x.N)};
  for (std::int64_t n = 0; n < x.N; ++n) {
    Acc mean = 0, var = 0;
    for (const T x_nd : x[n]) mean += Acc(x_nd) / Acc(x.D);
    for (const T x_nd : x[n]) var += (Acc(x_nd) - mean) * (Acc(x_nd) - mean) / Acc(x.D);
    out.sigma[n] = std::sqrt(var + Acc(kNormEps));
    for (std::int64_t d = 0; d < x.D; ++d) out[n][d] = (Acc(x[n][d]) - mean) / out.sigma[n];
  }
  return out;
}

/// dx = (dx^ - mean(dx^) - x^ mean(dx^ * x^)) / sqrt(var + eps)
template <class Acc, class T>
void standardize_backward(const Tokens<Acc>& x, const std::vector<Acc>& dx_hat, Rows<T> dx) {
  for (std::int64_t n = 0; n < x.N; ++n) {
    const Acc* d_n = dx_hat.data() + n * x.D;
    Acc mean = 0, along = 0;
    for (std::int64_t d = 0; d < x.D; ++d) {
      mean += d_n[d] / Acc(x.D);
      along += d_n[d] * x[n][d] / Acc(x.D);
    }
    for (std::int64_t d = 0; d < x.D; ++d)
      dx[n][d] = T((d_n[d] - mean - x[n][d] * along) / x.sigma[n]);
  }
}

/// Row n of the matrix before its division: the scores of the visible keys, w_m f(s_nm) and their
/// sum g.
template <class Acc>
struct ScoreRow {
  std::vector<Acc> s, wf;  // one entry a visible key
  Acc g = 0;
  bool floored = false;  // g is the floor, a constant
};

template <class Acc, class T>
ScoreRow<Acc> score_row(const Tokens<Acc>& q, const Tokens<Acc>& k, const T* w, std::int64_t n,
                        const Options& options) {
  const Acc scale = Acc(options.scale.value_or(default_scale(options.p, q.D)));
  const std::int64_t visible = options.causal ? n + 1 + k.N - q.N : k.N;  // keys m <= n + M - N
  ScoreRow<Acc> row;
  Acc weight = 0;
  for (std::int64_t m = 0; m < visible; ++m) {
    Acc dot = 0;
    for (std::int64_t d = 0; d < q.D; ++d) dot += q[n][d] * k[m][d];
    row.s.push_back(scale * dot);
    row.wf.push_back((w ? Acc(w[m]) : Acc(1)) * score(row.s.back(), options.p));
    row.g += row.wf.back();
    weight += w ? Acc(w[m]) : Acc(1);
  }
  const Acc floor = Acc(kDenominatorFloor<T>) * weight;
  if (options.p % 2 == 1 && row.g < floor) {
    row.g = floor;
    row.floored = true;
  }
  return row;
}

/// Row n of the attention matrix of one head, A_nm = w_m f(s_nm) / g_n, over all M keys; w may be
/// null (all 1).
template <class Acc, class T>
std::vector<Acc> weights_row(Rows<const T> q, Rows<const T> k, const T* w, std::int64_t n,
                             const Options& options) {
  const auto row = score_row(standardize<Acc>(q), standardize<Acc>(k), w, n, options);
  std::vector<Acc> a(k.N, Acc(0));
  if (row.g != 0)
    std::transform(row.wf.begin(), row.wf.end(), a.begin(), [&](Acc x) { return x / row.g; });
  return a;
}

/// F_n / g_n; zeros where no key has weight.
template <class Acc, class T>
std::vector<Acc> output_row(const ScoreRow<Acc>& row, Rows<const T> v) {
  std::vector<Acc> o(v.D, Acc(0));
  if (row.g == 0) return o;
  for (std::size_t m = 0; m < row.wf.size(); ++m)
    for (std::int64_t e = 0; e < v.D; ++e) o[e] += row.wf[m] * Acc(v[m][e]);
  for (Acc& x : o) x /= row.g;
  return o;
}

template <class Acc, class T>
void forward(const ForwardArgs<T>& a, const Options& options) {
  for (std::int64_t b = 0; b < a.q.B; ++b) {
    for (std::int64_t h = 0; h < a.q.H; ++h) {
      const std::int64_t hk = h / (a.q.H / a.k.H);
      const auto q = standardize<Acc>(a.q.head(b, h)), k = standardize<Acc>(a.k.head(b, hk));
      for (std::int64_t n = 0; n < a.q.N; ++n) {
        const auto row = score_row(q, k, a.key_weight.row(b), n, options);
        const auto o = output_row(row, a.v.head(b, hk));
        std::transform(o.begin(), o.end(), a.o.head(b, h)[n].begin(), [](Acc x) { return T(x); });
        if (a.g.data) a.g.head(b, h)[n] = T(row.g);
      }
    }
  }
}

/// Adds row n's part of the gradients of one head, all [.][D] or [.][E] of Acc, before the
/// normalisation. It inverts o = sum wf v / g: with u = do / g and c = -(do . o) / g, or c = 0
/// where g is the floor,
///   d(wf)_m = u . v_m + c,   ds_m = w_m f'(s_m) d(wf)_m,   dv_m = wf_m u.
template <class Acc, class T>
void backward_row(const Tokens<Acc>& q, const Tokens<Acc>& k, Rows<const T> v, const T* w,
                  std::span<const T> d_o, std::int64_t n, const Options& options, Acc* dq_n,
                  std::vector<Acc>& dk, std::vector<Acc>& dv) {
  const Acc scale = Acc(options.scale.value_or(default_scale(options.p, q.D)));
  const auto row = score_row(q, k, w, n, options);
  if (row.g == 0) return;
  const auto o = output_row(row, v);
  std::vector<Acc> u(v.D);
  Acc c = 0;
  for (std::int64_t e = 0; e < v.D; ++e) {
    u[e] = Acc(d_o[e]) / row.g;
    if (!row.floored) c -= u[e] * o[e];
  }
  for (std::size_t m = 0; m < row.s.size(); ++m) {
    Acc dwf = c;
    for (std::int64_t e = 0; e < v.D; ++e) {
      dwf += u[e] * Acc(v[m][e]);
      dv[m * v.D + e] += row.wf[m] * u[e];
    }
    const Acc ds = (w ? Acc(w[m]) : Acc(1)) * score(row.s[m], options.p - 1) * dwf;
    for (std::int64_t d = 0; d < q.D; ++d) {
      dq_n[d] += scale * ds * k[m][d];
      dk[m * q.D + d] += scale * ds * q[n][d];
    }
  }
}

/// Computes o and g again and reads neither; the heads of a group add up in their key head.
template <class Acc, class T>
void backward(const BackwardArgs<T>& a, const Options& options) {
  for (std::int64_t b = 0; b < a.k.B; ++b) {
    for (std::int64_t hk = 0; hk < a.k.H; ++hk) {
      const std::int64_t group = a.q.H / a.k.H;
      const auto k = standardize<Acc>(a.k.head(b, hk));
      const auto v = a.v.head(b, hk);
      std::vector<Acc> dk(k.N * k.D, Acc(0)), dv(v.N * v.D, Acc(0));
      for (std::int64_t h = hk * group; h < (hk + 1) * group; ++h) {
        const auto q = standardize<Acc>(a.q.head(b, h));
        std::vector<Acc> dq(q.N * q.D, Acc(0));
        for (std::int64_t n = 0; n < q.N; ++n)
          backward_row(q, k, v, a.key_weight.row(b), std::span<const T>(a.d_o.head(b, h)[n]), n,
                       options, dq.data() + n * q.D, dk, dv);
        standardize_backward(q, dq, a.dq.head(b, h));
      }
      standardize_backward(k, dk, a.dk.head(b, hk));
      for (std::int64_t m = 0; m < v.N; ++m)
        for (std::int64_t e = 0; e < v.D; ++e) a.dv.head(b, hk)[m][e] = T(dv[m * v.D + e]);
    }
  }
}

}  // namespace fastmax::reference
