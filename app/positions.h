// How a model tells where a token stands, when it is not learnt.
//
//   sinusoidal   position[n] = [sin a_n0, cos a_n0, sin a_n1, cos a_n1, ..]
//   rotary       (x_i, x_{i + D/2}) is turned by a_ni, so that q.k depends on the distance of two
//                tokens, not on where they stand
//
// with angles a_ni = n / 10000^(i / I) over I pairs of channels (Vaswani et al. 2017; Su et al. 2021).
#pragma once
#include <ATen/ATen.h>

#include <cstdint>

namespace fastmax::app {

/// [length, dim], each channel with the standard deviation `spread` over a period.
at::Tensor sinusoids(std::int64_t length, std::int64_t dim, double spread);

class Rotation {
 public:
  /// For heads of an even size D and up to `length` tokens.
  Rotation(std::int64_t length, std::int64_t D);
  /// x [B, N, H, D] of the tokens first, first + 1, ..
  at::Tensor operator()(const at::Tensor& x, std::int64_t first) const;

 private:
  at::Tensor cos_, sin_;  // [length, 1, D / 2]
};

}  // namespace fastmax::app
