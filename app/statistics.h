// Of a few numbers, at least one.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

namespace fastmax::app {

inline double mean(const std::vector<double>& x) {
  double sum = 0;
  for (const double value : x) sum += value;
  return sum / static_cast<double>(x.size());
}

/// The sample's, 0 for one number.
inline double deviation(const std::vector<double>& x) {
  if (x.size() < 2) return 0;
  const double m = mean(x);
  double squares = 0;
  for (const double value : x) squares += (value - m) * (value - m);
  return std::sqrt(squares / static_cast<double>(x.size() - 1));
}

inline double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return (x[(x.size() - 1) / 2] + x[x.size() / 2]) / 2;
}

}  // namespace fastmax::app
