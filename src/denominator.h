// The smallest denominator a row may divide by, and what happens to a smaller one.
#pragma once
#include <cstdint>

#include "fastmax/fastmax.h"

namespace fastmax {

/// For odd p, f has a root, and at the default scale the root is where a key is exactly opposite to
/// the query. A row that sees only such keys has g = 0 up to rounding, so it divides by
///   g' = max(g, kDenominatorFloor * sum of the visible weights w),
/// and no gradient flows through g' where the floor acts. Eight units of rounding: below them the
/// sign of g is noise. For even p, f >= 1/2 (p = 2) or 0.27 (p = 4), so nothing is floored.
template <class T>
inline constexpr T kDenominatorFloor = T{};
template <>
inline constexpr float kDenominatorFloor<float> = 0x1p-20f;
template <>
inline constexpr double kDenominatorFloor<double> = 0x1p-49;

/// Whether a denominator can come near zero: f of odd order has a root, and so may any f of the caller's.
inline bool may_vanish(const Options& options) {
  return options.p % 2 == 1 || options.coefficients;
}

/// Whether a call with heads of D dimensions throws where a denominator is at its floor.
bool floor_is_error(const Options& options, std::int64_t D);

/// The smallest of n rows' denominators over their weights, before the floor; NaN if no row sees any weight.
template <class T>
double smallest_of(const T* ratio, std::int64_t n);

/// Throws if floor_is_error and the smallest denominator over its row's weights is at the floor. NaN: there is none.
template <class T>
void require_denominators(double smallest, const Options& options, std::int64_t D);

}  // namespace fastmax
