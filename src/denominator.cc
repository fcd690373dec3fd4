#include "src/denominator.h"

#include <algorithm>
#include <cstdint>
#include <limits>

namespace fastmax {

bool floor_is_error(const Options& options, std::int64_t D) {
  if (!may_vanish(options)) return false;
  if (options.floor) return *options.floor == Floor::kError;
  if (options.coefficients) return true;
  if (!options.scale) return false;
  // Up to the default scale no weight is negative: g is that small only where all keys are opposite to the query.
  return options.normalize == Normalize::kNone ||
         *options.scale > default_scale(options.p, D, options.normalize);
}

template <class T>
double smallest_of(const T* ratio, std::int64_t n) {
  T smallest = std::numeric_limits<T>::infinity();
  for (std::int64_t i = 0; i < n; ++i) smallest = std::min(smallest, ratio[i]);  // passes NaN over
  return smallest < std::numeric_limits<T>::infinity() ? static_cast<double>(smallest)
                                                       : std::numeric_limits<double>::quiet_NaN();
}

template <class T>
void require_denominators(double smallest, const Options& options, std::int64_t D) {
  require(!floor_is_error(options, D) || !(smallest <= static_cast<double>(kDenominatorFloor<T>)),
          "denominators above ", kDenominatorFloor<T>,
          " of their weights (a smaller scale keeps f > 0, Floor::kClamp clamps), got ", smallest);
}

template double smallest_of(const float*, std::int64_t);
template double smallest_of(const double*, std::int64_t);
template void require_denominators<float>(double, const Options&, std::int64_t);
template void require_denominators<double>(double, const Options&, std::int64_t);

}  // namespace fastmax
