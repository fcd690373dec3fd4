// Tensors for tests, and how to compare them.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "fastmax/fastmax.h"

namespace fastmax::testing_support {

struct Shape {
  std::int64_t B = 1, H = 1, N = 1, D = 1;
};

enum class Layout {
  kBhnd,  ///< [B][H][N][D + padding]
  kBnhd,  ///< [B][N][H][D + padding], as most models hold it: a head's rows lie H rows apart
};

/// An owning tensor whose rows are followed by NaN: a kernel that reads or writes past D shows.
template <class T>
struct Tensor {
  static constexpr std::int64_t kPad = 5;  // odd, so that rows start at every alignment
  Shape s;
  Layout layout = Layout::kBhnd;
  std::vector<T> data;

  static Tensor nan(Shape s, Layout layout = Layout::kBhnd) {
    const auto size = static_cast<std::size_t>(s.B * s.H * s.N * (s.D + kPad));
    return {s, layout, std::vector<T>(size, std::numeric_limits<T>::quiet_NaN())};
  }
  template <class Make>
  static Tensor filled(Shape s, Make make, Layout layout = Layout::kBhnd) {
    Tensor t = nan(s, layout);
    t.for_each([&](T& x) { x = static_cast<T>(make()); });
    return t;
  }
  template <class Rng>
  static Tensor normal(Shape s, double sigma, Rng& rng, Layout layout = Layout::kBhnd) {
    std::normal_distribution<double> dist(0, sigma);
    return filled(
        s, [&] { return dist(rng); }, layout);
  }

  template <class Visit>
  void for_each(Visit visit) {
    for (std::int64_t b = 0; b < s.B; ++b)
      for (std::int64_t h = 0; h < s.H; ++h)
        for (std::int64_t n = 0; n < s.N; ++n)
          for (T& x : view().head(b, h)[n]) visit(x);
  }

  BhndView<T> view() {
    const std::int64_t row = s.D + kPad;
    const bool heads_inside = layout == Layout::kBnhd;
    return {data.data(),
            s.B,
            s.H,
            s.N,
            s.D,
            s.H * s.N * row,
            heads_inside ? row : s.N * row,
            heads_inside ? s.H * row : row};
  }
  BhndView<const T> view() const { return const_cast<Tensor*>(this)->view(); }
  /// A tensor of shape {B, 1, H, N} seen as [B, H, N], rows padded: denominators.
  BhnView<T> bhn() { return {data.data(), s.B, s.N, s.D, s.N * (s.D + kPad), s.D + kPad}; }
  /// A tensor of shape {1, 1, B, N} seen as [B, N], rows padded: key weights.
  BnView<T> bn() { return {data.data(), s.N, s.D, s.D + kPad}; }

  bool padding_untouched() const {
    const auto row = static_cast<std::size_t>(s.D + kPad), D = static_cast<std::size_t>(s.D);
    for (std::size_t i = 0; i < data.size(); ++i)
      if (i % row >= D && !std::isnan(data[i])) return false;
    return true;
  }
  bool all_nan() const {
    return std::all_of(data.begin(), data.end(), [](T x) { return std::isnan(x); });
  }
  bool all_finite() {
    bool finite = true;
    for_each([&](T x) { finite = finite && std::isfinite(x); });
    return finite;
  }
};

/// The rows [from, to) of each head.
template <class View>
View part(View x, std::int64_t from, std::int64_t to) {
  if (x.data) x.data += from * x.stride_n;
  x.N = to - from;
  return x;
}
template <class T>
BhnView<T> part(BhnView<T> x, std::int64_t from, std::int64_t to) {
  if (x.data) x.data += from;
  x.N = to - from;
  return x;
}
template <class T>
BnView<T> part(BnView<T> x, std::int64_t from, std::int64_t to) {
  if (x.data) x.data += from;
  x.N = to - from;
  return x;
}

/// Calls visit(a, b) for each pair of elements of two views of one shape.
template <class A, class B, class Visit>
void for_each_pair(BhndView<A> a, BhndView<B> b, Visit visit) {
  for (std::int64_t i = 0; i < a.B; ++i)
    for (std::int64_t h = 0; h < a.H; ++h)
      for (std::int64_t n = 0; n < a.N; ++n)
        for (std::int64_t d = 0; d < a.D; ++d) visit(a.head(i, h)[n][d], b.head(i, h)[n][d]);
}

/// Returns NaN as soon as it meets one: std::max would drop it and hide an unwritten output.
template <class T>
double max_abs_diff(const Tensor<T>& a, const Tensor<T>& b) {
  double worst = 0;
  for_each_pair(a.view(), b.view(), [&](double x, double y) {
    const double diff = std::abs(x - y);
    if (std::isnan(worst)) return;
    if (std::isnan(diff) || diff > worst) worst = diff;
  });
  return worst;
}

/// The same for states.
template <class T>
double max_abs_diff(const std::vector<T>& a, const std::vector<T>& b) {
  double worst = a.size() == b.size() ? 0 : std::numeric_limits<double>::quiet_NaN();
  for (std::size_t i = 0; i < a.size() && !std::isnan(worst); ++i) {
    const double diff = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (std::isnan(diff) || diff > worst) worst = diff;
  }
  return worst;
}

/// |a - b| / |b| in the 2-norm; NaN if any element is.
template <class T>
double rel_rms(const Tensor<T>& a, const Tensor<T>& b) {
  double diff = 0, norm = 0;
  for_each_pair(a.view(), b.view(), [&](double x, double y) {
    diff += (x - y) * (x - y);
    norm += y * y;
  });
  return diff == 0 ? 0 : std::sqrt(diff / norm);
}

template <class T>
double max_abs(const Tensor<T>& a) {
  return max_abs_diff(a, Tensor<T>::filled(a.s, [] { return 0; }));
}

/// To the last bit, padding included.
template <class T>
bool same_bits(const Tensor<T>& a, const Tensor<T>& b) {
  return a.data.size() == b.data.size() &&
         (a.data.empty() ||
          std::memcmp(a.data.data(), b.data.data(), a.data.size() * sizeof(T)) == 0);
}

/// The same for states.
template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace fastmax::testing_support
