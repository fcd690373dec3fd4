// Element types. Arithmetic is float for 16-bit elements, and their own type for float and double. One exception: where
// the CPU multiplies bf16 matrix tiles (AMX), the factorised forward of bfloat16 inputs rounds the factors of its products
// to bf16; sums, denominators and states stay float (docs/math.md, section 11, bounds what that costs).
#pragma once
#include <cstdint>
#include <type_traits>

namespace fastmax {

/// bfloat16 and IEEE half precision as bits, so that any library's type of the same layout can be viewed as them.
struct BFloat16 {
  std::uint16_t bits;
};
struct Float16 {
  std::uint16_t bits;
};

template <class T>
inline constexpr bool kIs16Bit = std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>;

/// What sums, denominators, key weights and states of elements T are made of.
template <class T>
using Compute = std::conditional_t<kIs16Bit<T>, float, T>;

}  // namespace fastmax
