// Normalize::kMaxNorm: x over the largest norm among the tokens of its head.
//
//   x^ = x / mu,  mu = sqrt(|x_a|^2 + eps),  |x_a| = max_n |x_n|
//
// Kernels see it as a factor 1 / mu of the head, and give the gradient dx with mu held fixed. What flows through mu
// comes back to the token a alone: dx_a -= (x_a / mu) (sum_n x_n . dx_n) / mu. eps keeps 1 / mu within T for the tiniest
// tokens.
#pragma once
#include <cmath>
#include <cstdint>
#include <span>

#include "fastmax/view.h"

namespace fastmax::max_norm {

inline constexpr double kEps = 1e-24;

struct Largest {
  std::int64_t at = -1;  ///< -1: no token, or all are zero
  double norm = 0;
  double mu() const { return std::hypot(norm, std::sqrt(kEps)); }
};

/// |x|. Squares of huge doubles overflow, so those are summed the slow way.
template <class T>
double norm_of(std::span<const T> x) {
  double square = 0, norm = 0;
  for (const T x_d : x) square += static_cast<double>(x_d) * static_cast<double>(x_d);
  if (std::isfinite(square)) return std::sqrt(square);
  for (const T x_d : x) norm = std::hypot(norm, static_cast<double>(x_d));
  return norm;
}

/// The longest token of a head; tokens of weight zero (padding) do not count. weight == nullptr: all count.
template <class T>
Largest largest(Rows<const T> x, const T* weight) {
  Largest found;
  for (std::int64_t n = 0; n < x.N; ++n) {
    if (weight && weight[n] == 0) continue;
    if (const double norm = norm_of<T>(x[n]); norm > found.norm) found = {n, norm};
  }
  return found;
}

/// 1 / mu, or 0 for a head of zeros.
template <class T>
T factor(Rows<const T> x, const T* weight) {
  const Largest a = largest(x, weight);
  return a.at < 0 ? T{0} : static_cast<T>(1 / a.mu());
}

/// Adds what flows through mu to the gradient of the token that has it.
template <class T>
void add_gradient(Rows<const T> x, const T* weight, Rows<T> dx) {
  const Largest a = largest(x, weight);
  if (a.at < 0) return;
  const double mu = a.mu();
  double dot = 0;
  for (std::int64_t n = 0; n < x.N; ++n) {
    for (std::int64_t d = 0; d < x.D; ++d)
      dot += static_cast<double>(x[n][d]) * static_cast<double>(dx[n][d]);
  }
  for (std::int64_t d = 0; d < x.D; ++d)
    dx[a.at][d] -= static_cast<T>(static_cast<double>(x[a.at][d]) / mu * (dot / mu));
}

}  // namespace fastmax::max_norm
