// Differentiable Fastmax attention for C++ programs on libtorch, over the same operators as
// Python's.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string_view>

#include "fastmax/error.h"

namespace fastmax::torch_ops {

/// q [B, H, N, D], k [B, Hkv, M, D], v [B, Hkv, M, E], key_weight [B, M] -> [B, H, N, E], laid out
/// in memory as q is. Differentiable once, in q, k and v. Throws fastmax::Error as the core does.
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const std::optional<at::Tensor>& key_weight = std::nullopt, std::int64_t p = 2,
                     std::optional<double> scale = std::nullopt, bool causal = false,
                     std::string_view method = "auto");

}  // namespace fastmax::torch_ops
