// Normalize::kMaxNorm: x over the largest norm among the tokens of its head.
//
//   x^ = x / mu,  mu = max_n |x_n| = |x_a|
//
// Kernels see it as a factor 1 / mu of the head, and give the gradient dx with mu held fixed. What flows through mu
// comes back to the token a alone: dx_a -= x_a (sum_n x_n . dx_n) / mu^2.
#pragma once
#include <cmath>
#include <cstdint>

#include "fastmax/view.h"

namespace fastmax::max_norm {

struct Largest {
  std::int64_t at = -1;  ///< -1: no token, or all are zero
  double norm = 0;
};

/// The longest token of a head; tokens of weight zero (padding) do not count. weight == nullptr: all count.
template <class T>
Largest largest(Rows<const T> x, const T* weight) {
  Largest found;
  for (std::int64_t n = 0; n < x.N; ++n) {
    if (weight && weight[n] == 0) continue;
    double square = 0;
    for (const T x_d : x[n]) square += static_cast<double>(x_d) * static_cast<double>(x_d);
    if (const double norm = std::sqrt(square); norm > found.norm) found = {n, norm};
  }
  return found;
}

/// 1 / mu, or 0 for a head of zeros.
template <class T>
T factor(Rows<const T> x, const T* weight) {
  const double norm = largest(x, weight).norm;
  return norm > 0 ? static_cast<T>(1 / norm) : T{0};
}

/// Adds what flows through mu to the gradient of the token that has it.
template <class T>
void add_gradient(Rows<const T> x, const T* weight, Rows<T> dx) {
  const Largest a = largest(x, weight);
  if (a.at < 0) return;
  double dot = 0;
  for (std::int64_t n = 0; n < x.N; ++n) {
    for (std::int64_t d = 0; d < x.D; ++d)
      dot += static_cast<double>(x[n][d]) * static_cast<double>(dx[n][d]);
  }
  const double along = dot / (a.norm * a.norm);
  for (std::int64_t d = 0; d < x.D; ++d)
    dx[a.at][d] -= static_cast<T>(along * static_cast<double>(x[a.at][d]));
}

}  // namespace fastmax::max_norm
