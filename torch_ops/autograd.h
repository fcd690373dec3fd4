// Differentiable Fastmax attention for C++ programs on libtorch, over the same operators as Python's.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <utility>

#include "fastmax/error.h"
#include "torch_ops/attention_options.h"

namespace fastmax::torch_ops {

/// q [B, H, N, D], k [B, Hkv, M, D], v [B, Hkv, M, E], key_weight [B, M] -> [B, H, N, E], laid out
/// in memory as q is. float32, float64, bfloat16 or float16; key_weight float64 for float64, else float32.
/// Differentiable once, in q, k and v. Throws fastmax::Error as the core does.
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const std::optional<at::Tensor>& key_weight = std::nullopt,
                     const AttentionOptions& options = {});

/// The same after a past, as a prefill wants it: o, and the state [B, Hkv, F, E + 1] of initial_state (none: no past)
/// and all keys. States are float64 for float64, else float32. Differentiable in q, k, v and initial_state, through
/// both results.
std::pair<at::Tensor, at::Tensor> attention_with_state(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
    const std::optional<at::Tensor>& key_weight = std::nullopt,
    const std::optional<at::Tensor>& initial_state = std::nullopt,
    const AttentionOptions& options = {});

/// One token, q [B, H, 1, D] -> [B, H, 1, E], key_weight [B, 1]: it joins the state, in place, and its query reads it.
/// Has no gradient. Of the options, those that make the function count: p, scale, normalize, coefficients; and floor.
/// What throws leaves the state as it was.
at::Tensor step(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::Tensor& state,
                const std::optional<at::Tensor>& key_weight = std::nullopt,
                const AttentionOptions& options = {});

/// The matrix that `attention` multiplies v with, [B, H, N, M]. Has no gradient.
at::Tensor attention_weights(const at::Tensor& q, const at::Tensor& k,
                             const std::optional<at::Tensor>& key_weight = std::nullopt,
                             const AttentionOptions& options = {});

}  // namespace fastmax::torch_ops
