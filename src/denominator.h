// The smallest denominator a row may divide by.
#pragma once

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

}  // namespace fastmax
