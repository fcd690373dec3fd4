// m_i: sixteen bits of Philox4x32-10 for each element.
//
// A group of 128 elements takes the counters 16 g .. 16 g + 15; element (8-th e, lane l) of it is half e / 4 of word
// e % 4 at counter 16 g + l. So a vector of counters gives whole vectors of elements, and the same elements stay on
// every instruction set. Ten rounds are sixty multiplications for eight vectors: cheaper than to read a stored mask.
#include "app/dropout_kernel.h"

#include <algorithm>
#include <array>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "app/dropout_kernel.cc"
#include "hwy/foreach_target.h"  // re-includes this file once per instruction set
#include "hwy/highway.h"
HWY_BEFORE_NAMESPACE();
namespace fastmax::app::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr std::size_t kCounters = 16;  // of a group
using Bits = hn::CappedTag<std::uint32_t, kCounters>;
using Words = std::array<hn::Vec<Bits>, 4>;

// The halves of a * b.
struct Product {
  hn::Vec<Bits> high, low;
};
HWY_INLINE Product multiply(hn::Vec<Bits> a, std::uint32_t b) {
  const Bits d;
#if HWY_TARGET == HWY_SCALAR
  const std::uint64_t product = std::uint64_t{hn::GetLane(a)} * b;
  return {hn::Set(d, static_cast<std::uint32_t>(product >> 32)),
          hn::Set(d, static_cast<std::uint32_t>(product))};
#else
  const hn::RepartitionToWide<Bits> wide;
  const auto factor = hn::Set(d, b);
  const auto even = hn::MulEven(a, factor);
  const auto odd = hn::MulEven(hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(wide, a))), factor);
  return {hn::OddEven(hn::BitCast(d, odd), hn::BitCast(d, hn::ShiftRight<32>(even))),
          hn::OddEven(hn::BitCast(d, hn::ShiftLeft<32>(odd)), hn::BitCast(d, even))};
#endif
}

// Counters first, first + 1, .. under the seed.
HWY_INLINE Words philox(std::uint64_t first, std::uint64_t seed) {
  const Bits d;
  auto key_0 = static_cast<std::uint32_t>(seed), key_1 = static_cast<std::uint32_t>(seed >> 32);
  // Groups of sixteen never carry into the high word.
  Words c = {hn::Iota(d, static_cast<std::uint32_t>(first)),
             hn::Set(d, static_cast<std::uint32_t>(first >> 32)), hn::Zero(d), hn::Zero(d)};
  for (int round = 0; round < 10; ++round) {
    const Product a = multiply(c[0], 0xD2511F53), b = multiply(c[2], 0xCD9E8D57);
    c = {hn::Xor(hn::Xor(b.high, c[1]), hn::Set(d, key_0)), b.low,
         hn::Xor(hn::Xor(a.high, c[3]), hn::Set(d, key_1)), a.low};
    key_0 += 0x9E3779B9;
    key_1 += 0xBB67AE85;
  }
  return c;
}

// One whole group.
HWY_INLINE void add_group(const float* x, const float* z, float* out, std::uint64_t group,
                          const DropoutMask& mask) {
  const Bits d;
  const hn::Rebind<float, Bits> df;
  const hn::Rebind<std::int32_t, Bits> di;
  const auto least = hn::Set(di, static_cast<std::int32_t>(mask.threshold) - 1);
  const auto factor = hn::Set(df, mask.factor);
  for (std::size_t l = 0; l < kCounters; l += hn::Lanes(d)) {
    const Words words = philox(group * kCounters + l, mask.seed);
    for (std::size_t e = 0; e < 8; ++e) {
      const auto word = words[e % 4];
      const auto bits = e < 4 ? hn::And(word, hn::Set(d, 0xFFFF)) : hn::ShiftRight<16>(word);
      const auto stays = hn::RebindMask(df, hn::Gt(hn::BitCast(di, bits), least));
      const std::size_t i = e * kCounters + l;
      const auto kept = hn::IfThenElseZero(stays, hn::Mul(hn::LoadU(df, z + i), factor));
      hn::StoreU(x ? hn::Add(hn::LoadU(df, x + i), kept) : kept, df, out + i);
    }
  }
}

void add_kept(const float* x, const float* z, float* out, std::size_t first, std::size_t n,
              const DropoutMask& mask) {
  std::size_t i = 0;
  for (; i + kDropoutGroup <= n; i += kDropoutGroup) {
    add_group(x ? x + i : nullptr, z + i, out + i, (first + i) / kDropoutGroup, mask);
  }
  if (i == n) return;
  float x_end[kDropoutGroup] = {}, z_end[kDropoutGroup] = {};
  if (x) std::copy(x + i, x + n, x_end);
  std::copy(z + i, z + n, z_end);
  add_group(x_end, z_end, z_end, (first + i) / kDropoutGroup, mask);
  std::copy(z_end, z_end + (n - i), out + i);
}

}  // namespace fastmax::app::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fastmax::app {
HWY_EXPORT(add_kept);
void add_kept(const float* x, const float* z, float* out, std::size_t first, std::size_t n,
              const DropoutMask& mask) {
  HWY_DYNAMIC_DISPATCH(add_kept)(x, z, out, first, n, mask);
}
}  // namespace fastmax::app
#endif
