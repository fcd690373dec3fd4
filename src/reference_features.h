// The features of docs/math.md, written out one by one: what states are made of, and what dropout masks.
//
//   phi_alpha(kappa) = kappa_a1 .. kappa_ap,   0 <= a1 <= .. <= ap < K,   in lexicographic order
//   f(s) = sum_alpha W_alpha phi_alpha(kappa_q) phi_alpha(kappa_k),   W_alpha = c_l l! / prod n_j!
//
// with kappa = [1, x''_1, ..], x'' the Householder reflection of x^, under kStandardize, and kappa = [1, x^_0, ..] else.
#pragma once
#include <cmath>
#include <cstdint>
#include <vector>

#include "fastmax/fastmax.h"
#include "src/dropout.h"
#include "src/score.h"

namespace fastmax::reference {

struct Monomial {
  std::vector<int> index;  ///< a1 .. ap
  int degree = 0;          ///< indices that are not 0
  double weight = 1;       ///< W_alpha
};

/// Appends the monomials of order p in K variables that begin with `prefix`, in order.
inline void append_monomials(int p, int K, const Coefficients& c, std::vector<int> prefix,
                             std::vector<Monomial>& all) {
  if (static_cast<int>(prefix.size()) < p) {
    const int first = prefix.empty() ? 0 : prefix.back();
    prefix.push_back(0);
    for (prefix.back() = first; prefix.back() < K; ++prefix.back())
      append_monomials(p, K, c, prefix, all);
    return;
  }
  Monomial m{.index = prefix};
  double factorial = 1, repeats = 1;
  for (int i = 0, equal = 0; i < p; ++i) {
    if (prefix[i] == 0) continue;
    equal = i > 0 && prefix[i] == prefix[i - 1] ? equal + 1 : 1;
    repeats *= equal;
    factorial *= ++m.degree;
  }
  m.weight = c[m.degree] * factorial / repeats;
  all.push_back(m);
}

/// The features of a call, and what dropout makes of each one's weight in the numerator.
template <class Acc>
struct Basis {
  int p = 0;
  bool reflects = false;
  std::vector<Monomial> monomials;
  std::vector<Acc> mask;  // [F]: 0 or 1 / (1 - rate) where a feature may be dropped, else 1

  Basis(const Options& options, const Coefficients& c, std::int64_t D)
      : p(options.p), reflects(options.normalize == Normalize::kStandardize) {
    append_monomials(p, static_cast<int>(reflects ? D : D + 1), c, {}, monomials);
    mask.assign(monomials.size(), Acc(1));
  }

  /// Draws the mask of one batch entry and key head.
  void draw(const Dropout& dropout, std::int64_t b, std::int64_t key_head) {
    mask.assign(mask.size(), Acc(1));
    if (!drops_features(dropout)) return;
    std::vector<int> keep(mask.size());
    draw_kept(dropout, Drawn::kFeature, static_cast<std::size_t>(b),
              static_cast<std::size_t>(key_head), 0, keep.size(), keep.data());
    const int lowest = dropout.mode == DropoutMode::kQuadratic ? 2 : 0;
    for (std::size_t f = 0; f < mask.size(); ++f) {
      if (monomials[f].degree >= lowest) mask[f] = Acc(keep[f]) / (1 - Acc(dropout.rate));
    }
  }

  std::vector<Acc> kappa(const Acc* x, std::int64_t D, Acc scale) const {
    std::vector<Acc> out{Acc(1)};
    const Acc shift = reflects && D > 1 ? x[0] / (std::sqrt(Acc(D)) - 1) : Acc(0);
    for (std::int64_t d = reflects ? 1 : 0; d < D; ++d) out.push_back(scale * (x[d] + shift));
    return out;
  }

  /// phi of one token; scale is the query's, 1 for a key.
  std::vector<Acc> phi(const Acc* x, std::int64_t D, Acc scale) const {
    const auto kappa_x = kappa(x, D, scale);
    std::vector<Acc> out;
    for (const Monomial& m : monomials) {
      out.push_back(1);
      for (int i = 0; i < p; ++i) out.back() *= kappa_x[m.index[i]];
    }
    return out;
  }

  /// Adds J^T d_phi to dx, the gradient with respect to x^: the product rule, and the reflection's transpose.
  void phi_backward(const Acc* x, std::int64_t D, Acc scale, const Acc* d_phi, Acc* dx) const {
    const auto kappa_x = kappa(x, D, scale);
    std::vector<Acc> d_kappa(kappa_x.size(), Acc(0));
    for (std::size_t f = 0; f < monomials.size(); ++f) {
      for (int j = 0; j < p; ++j) {
        Acc others = d_phi[f];
        for (int i = 0; i < p; ++i)
          if (i != j) others *= kappa_x[monomials[f].index[i]];
        d_kappa[monomials[f].index[j]] += others;
      }
    }
    const std::int64_t first = reflects ? 1 : 0;
    for (std::int64_t d = first; d < D; ++d) {
      const Acc g = scale * d_kappa[d + 1 - first];
      dx[d] += g;
      if (reflects) dx[0] += g / (std::sqrt(Acc(D)) - 1);
    }
  }
};

}  // namespace fastmax::reference
