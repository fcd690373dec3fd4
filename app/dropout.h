// Dropout that stores nothing: which elements stay is a function of a seed and their place, drawn
// again for the gradient.
//
//   out = x + m z / (1 - rate),   dx = d_out,   dz = m d_out / (1 - rate)
#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <optional>

namespace fastmax::app {

/// From torch's default generator.
std::int64_t draw_seed();

/// x and z of one shape, float32; without x, z alone is dropped. The rate counts in 65536ths.
at::Tensor add_dropped(const std::optional<at::Tensor>& x, const at::Tensor& z, double rate,
                       std::int64_t seed);

}  // namespace fastmax::app
