// Random numbers that are the same on every machine and in every order of asking: a stream is a
// pure function of its keys, so nothing but the keys needs to be saved.
#pragma once
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

namespace fastmax::app {

/// SplitMix64 (Steele, Lea, Flood 2014): one 64-bit counter through a mixing function.
class Random {
 public:
  /// Streams of different keys are independent, for example Random(seed, epoch).
  explicit Random(std::uint64_t key, std::uint64_t stream = 0)
      : state_(mix(key + kStep) ^ mix(mix(stream + 2 * kStep))) {}

  std::uint64_t next() { return mix(state_ += kStep); }

  /// Uniform in [0, 1).
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

  /// Uniform in 0 .. n - 1, without bias.
  std::uint64_t below(std::uint64_t n) {
    const std::uint64_t reject = -n % n;  // 2^64 mod n
    for (;;) {
      if (const std::uint64_t x = next(); x >= reject) return x % n;
    }
  }

  template <class T>
  void shuffle(std::vector<T>& items) {
    for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[below(i)]);
  }

 private:
  static constexpr std::uint64_t kStep = 0x9e3779b97f4a7c15;
  static std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  std::uint64_t state_;
};

}  // namespace fastmax::app
