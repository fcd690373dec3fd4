// 16-bit elements to float and back, a vector at a time, rounded to the nearest, ties to even.
//
//   bfloat16   s eeeeeeee mmmmmmm       the upper half of a float: x is a shift by 16, and back
//                                       (bits + 0x7FFF + last kept bit) >> 16
//   half       s eeeee mmmmmmmmmm       (-1)^s 2^(e - 15) (1 + m / 1024); a float's exponent is e + 112, its mantissa m
//                                       shifted by 13; e = 0: subnormal, m 2^-24; e = 31: infinity (m = 0) or NaN
//
// Infinities stay; a NaN stays one, quiet; numbers of 65520 and more become infinite halves.
#include "src/cpu/convert.h"

#include <cstddef>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/cpu/convert.cc"
#include "hwy/foreach_target.h"  // re-includes this file once per instruction set
#include "hwy/highway.h"
#include "src/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

using F32 = Tag<float>;
using U16 = hn::Rebind<std::uint16_t, F32>;
using U32 = hn::RebindToUnsigned<F32>;
using I32 = hn::RebindToSigned<F32>;

/// kLanes elements at p.
HWY_INLINE Vec<float> load(const Float16* p) {
  // Half precision is done in integers: without instructions of its own, Highway 1.0.3 truncates, and has no infinity
  // and no NaN. The exponent moves from bias 15 to 127; subnormals become normal by a subtraction.
  const I32 d;
  const auto bits = hn::BitCast(
      d, hn::PromoteTo(U32(), hn::LoadU(U16(), reinterpret_cast<const std::uint16_t*>(p))));
  const auto sign = hn::ShiftLeft<16>(hn::And(bits, hn::Set(d, 0x8000)));
  const auto magnitude = hn::ShiftLeft<13>(hn::And(bits, hn::Set(d, 0x7FFF)));
  const auto normal = hn::Add(magnitude, hn::Set(d, 112 << 23));
  const auto shifted = hn::BitCast(F32(), hn::Add(magnitude, hn::Set(d, 113 << 23)));
  const auto subnormal = hn::BitCast(d, hn::Sub(shifted, hn::Set(F32(), 0x1p-14f)));
  const auto special = hn::Add(normal, hn::Set(d, 112 << 23));
  const auto finite = hn::IfThenElse(hn::Lt(magnitude, hn::Set(d, 1 << 23)), subnormal, normal);
  const auto value = hn::IfThenElse(hn::Lt(magnitude, hn::Set(d, 31 << 23)), finite, special);
  return hn::BitCast(F32(), hn::Or(value, sign));
}
HWY_INLINE Vec<float> load(const BFloat16* p) {
  const auto bits = hn::LoadU(U16(), reinterpret_cast<const std::uint16_t*>(p));
  return hn::BitCast(F32(), hn::ShiftLeft<16>(hn::PromoteTo(U32(), bits)));
}
HWY_INLINE Vec<float> load(const float* p) { return hn::LoadU(F32(), p); }

HWY_INLINE void store(Vec<float> v, float* p) { hn::StoreU(v, F32(), p); }
HWY_INLINE void store(Vec<float> v, Float16* p) {
  // To the nearest, ties to even. Below 2^-14 halves are multiples of 2^-24, the last bit of a float in [1/2, 1).
  const I32 d;
  const auto bits = hn::BitCast(d, v);
  const auto magnitude = hn::And(bits, hn::Set(d, 0x7FFFFFFF));
  const auto sign = hn::And(hn::ShiftRight<16>(bits), hn::Set(d, 0x8000));
  const auto half = hn::Set(F32(), 0.5f);
  const auto subnormal =
      hn::Sub(hn::BitCast(d, hn::Add(hn::BitCast(F32(), magnitude), half)), hn::BitCast(d, half));
  const auto odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(d, 1));
  const auto normal = hn::ShiftRight<13>(
      hn::Add(magnitude, hn::Sub(hn::Add(odd, hn::Set(d, 0xFFF)), hn::Set(d, 112 << 23))));
  const auto finite = hn::IfThenElse(hn::Lt(magnitude, hn::Set(d, 113 << 23)), subnormal, normal);
  const auto special = hn::IfThenElse(hn::Gt(magnitude, hn::Set(d, 0x7F800000)), hn::Set(d, 0x7E00),
                                      hn::Set(d, 0x7C00));
  const auto overflows = hn::Gt(magnitude, hn::Set(d, 0x477FEFFF));  // 65520 and more
  const auto value = hn::Or(sign, hn::IfThenElse(overflows, special, finite));
  hn::StoreU(hn::DemoteTo(U16(), value), U16(), reinterpret_cast<std::uint16_t*>(p));
}
HWY_INLINE void store(Vec<float> v, BFloat16* p) {
  // Half a unit of the last kept bit, less one where that bit is even; a NaN stays one.
  const U32 d;
  const auto bits = hn::BitCast(d, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d, 1));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(d, 0x7FFF)));
  const auto quiet = hn::Or(bits, hn::Set(d, 0x400000));
  const auto kept = hn::IfThenElse(hn::RebindMask(d, hn::IsNaN(v)), quiet, rounded);
  hn::StoreU(hn::DemoteTo(U16(), hn::BitCast(I32(), hn::ShiftRight<16>(kept))), U16(),
             reinterpret_cast<std::uint16_t*>(p));
}

template <class From, class To>
HWY_INLINE void convert_rows(Rows<const From> from, Rows<To> to) {
  constexpr std::size_t L = kLanes<float>;
  const auto D = static_cast<std::size_t>(from.D);
  for (std::int64_t n = 0; n < from.N; ++n) {
    const From* x = from[n].data();
    To* y = to[n].data();
    std::size_t d = 0;
    for (; d + L <= D; d += L) store(load(x + d), y + d);
    if (d < D) {
      From tail[L] = {};
      To converted[L];
      std::memcpy(tail, x + d, (D - d) * sizeof(From));
      store(load(tail), converted);
      std::memcpy(y + d, converted, (D - d) * sizeof(To));
    }
  }
}

void from_bf16(Rows<const BFloat16> from, Rows<float> to) { convert_rows(from, to); }
void from_f16(Rows<const Float16> from, Rows<float> to) { convert_rows(from, to); }
void to_bf16(Rows<const float> from, Rows<BFloat16> to) { convert_rows(from, to); }
void to_f16(Rows<const float> from, Rows<Float16> to) { convert_rows(from, to); }

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fastmax::cpu {
HWY_EXPORT(from_bf16);
HWY_EXPORT(from_f16);
HWY_EXPORT(to_bf16);
HWY_EXPORT(to_f16);
void convert(Rows<const BFloat16> from, Rows<float> to) {
  HWY_DYNAMIC_DISPATCH(from_bf16)(from, to);
}
void convert(Rows<const Float16> from, Rows<float> to) { HWY_DYNAMIC_DISPATCH(from_f16)(from, to); }
void convert(Rows<const float> from, Rows<BFloat16> to) { HWY_DYNAMIC_DISPATCH(to_bf16)(from, to); }
void convert(Rows<const float> from, Rows<Float16> to) { HWY_DYNAMIC_DISPATCH(to_f16)(from, to); }
}  // namespace fastmax::cpu
#endif
