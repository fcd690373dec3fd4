// What dropout keeps: one random number a token or feature, from a counter, so that nothing is stored.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "fastmax/fastmax.h"

namespace fastmax {

/// Philox4x32-10: ten rounds of multiply and swap on a 128-bit counter under a 64-bit key. Salmon et al., "Parallel
/// random numbers: as easy as 1, 2, 3" (2011), gives the constants and the test vectors of tests/dropout_test.cc.
constexpr std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter,
                                              std::uint64_t seed) {
  auto key_0 = static_cast<std::uint32_t>(seed), key_1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * counter[0],
                        b = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {
        static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key_0, static_cast<std::uint32_t>(b),
        static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key_1, static_cast<std::uint32_t>(a)};
    key_0 += 0x9E3779B9;
    key_1 += 0xBB67AE85;
  }
  return counter;
}

/// The streams of one seed.
enum class Drawn : std::uint32_t { kQuery, kKey, kFeature };

/// keep[i] = 1 where item first + i of this batch entry and head stays, with probability 1 - rate, else 0.
template <class T>
constexpr void draw_kept(const Dropout& dropout, Drawn what, std::size_t b, std::size_t head,
                         std::size_t first, std::size_t n, T* keep) {
  const auto threshold = static_cast<std::uint64_t>(dropout.rate * 0x1p32);
  std::array<std::uint32_t, 4> bits{};
  for (std::size_t i = first; i < first + n; ++i) {
    if (i == first || i % 4 == 0) {
      const std::size_t at = i / 4;
      bits = philox({static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(head),
                     static_cast<std::uint32_t>(b),
                     static_cast<std::uint32_t>(what) + 4 * static_cast<std::uint32_t>(at >> 32)},
                    dropout.seed);
    }
    keep[i - first] = bits[i % 4] >= threshold ? T{1} : T{0};
  }
}

/// Masks the features' weights in the numerator; the denominator keeps all of them.
constexpr bool drops_features(const Dropout& dropout) {
  return dropout.rate > 0 && dropout.mode != DropoutMode::kToken;
}
constexpr bool drops_tokens(const Dropout& dropout) {
  return dropout.rate > 0 && dropout.mode == DropoutMode::kToken;
}

}  // namespace fastmax
