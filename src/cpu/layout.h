// Sizes and scratch that every instruction set shares, so that workspace is known before dispatch.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fastmax::cpu {

/// Tokens lie across vector lanes in panels of 64: [dims][kPanel]. 64 is four AVX-512 vectors of
/// floats, the width of the fastest register tile, and a multiple of every other vector length.
inline constexpr std::size_t kPanel = 64;

/// Every array that products read by rows is padded to a multiple of this, which register tiles of four to eight rows
/// cover without a rest.
inline constexpr std::size_t kRows = 8;

/// Features formed at a time: 48 x 64 floats are 12 KB and leave room in a 32 KB L1 for what they multiply.
inline constexpr std::size_t kFeatureBlock = 48;

/// Panels of a chunk at most.
inline constexpr std::size_t kMaxChunk = 16;

constexpr std::size_t round_up(std::size_t n, std::size_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}
constexpr std::size_t divide_up(std::size_t n, std::size_t by) { return (n + by - 1) / by; }

/// Rows of `n` elements that vectors of any target may read to the end: 64 bytes, and kRows elements.
template <class T>
constexpr std::size_t padded(std::size_t n) {
  return round_up(n, 64 / sizeof(T));
}

/// Hands out aligned pieces of a block of memory. Without memory it only counts, so that the code
/// that lays scratch out is also the code that measures it.
class Arena {
 public:
  Arena() = default;
  explicit Arena(std::byte* base) : base_(base) {}

  template <class T>
  T* take(std::size_t n) {
    std::byte* at = base_ ? base_ + used_ : nullptr;
    used_ += round_up(n * sizeof(T), 64);
    return reinterpret_cast<T*>(at);
  }
  std::size_t used() const { return used_; }

 private:
  std::byte* base_ = nullptr;
  std::size_t used_ = 0;
};

}  // namespace fastmax::cpu
