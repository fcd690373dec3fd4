// Dropout's inner loop, apart from torch.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fastmax::app {

/// Elements whose fate one run of counters decides.
inline constexpr std::size_t kDropoutGroup = 128;

struct DropoutMask {
  std::uint32_t threshold;  ///< of 65536: fewer than that drops
  float factor;             ///< of what stays, 65536 / (65536 - threshold)
  std::uint64_t seed;

  DropoutMask(double rate, std::uint64_t seed)
      : threshold(static_cast<std::uint32_t>(rate * 65536 + 0.5)),
        factor(static_cast<float>(65536.0 / (65536.0 - threshold))),
        seed(seed) {}
};

/// out_i = x_i + m_i z_i factor, i = first .. first + n - 1; x may be null (zeros) and out may be x or z. `first` is a
/// multiple of kDropoutGroup, and the pointers stand at element `first`.
void add_kept(const float* x, const float* z, float* out, std::size_t first, std::size_t n,
              const DropoutMask& mask);

}  // namespace fastmax::app
