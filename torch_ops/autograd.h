// Differentiable Fastmax attention for C++ programs on libtorch, over the same operators as Python's.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fastmax/error.h"

namespace fastmax::torch_ops {

/// fastmax::Options in the words of the operators.
struct AttentionOptions {
  std::int64_t p = 2;  ///< order, 1 to 4
  std::optional<double> scale =
      {};                       ///< none: the largest that keeps weights positive, 1 for even p
  bool causal = false;          ///< row n attends to keys m <= n + M - N
  std::string method = "auto";  ///< "auto", "direct", "factorised"
  std::string normalize = "standardize";  ///< "standardize", "l2", "none", "max_norm"
  std::optional<std::vector<double>> coefficients = {};  ///< c_0 .. c_p of f; none: 1 / l!
  double dropout_p = 0;               ///< the caller leaves it 0 where nothing is trained
  std::string dropout = "quadratic";  ///< "quadratic", "standard", "token"
  std::int64_t seed = 0;              ///< of dropout: the same seed drops the same
  std::string floor = "auto";         ///< what small denominators do: "auto", "clamp", "error"
  std::int64_t chunk = 0;             ///< tokens that join the state at a time; 0: planned
};

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

/// One token, q [B, H, 1, D] -> [B, H, 1, E]: it joins the state, in place, and its query reads it. Has no gradient.
/// Of the options, those that make the function count: p, scale, normalize, coefficients.
at::Tensor step(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::Tensor& state,
                const AttentionOptions& options = {});

}  // namespace fastmax::torch_ops
