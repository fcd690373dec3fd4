// The float64 truth of sampled rows: what a benchmark's answers are held against at lengths where
// the whole O(N M) reference is out of reach. Written from the definition in tensor operations,
// apart from every kernel:
//
//   o_n = F_n / g_n,  F_n = sum_m f(s_nm) v_m,  g_n = sum_m f(s_nm),  s_nm = scale q^_n . k^_m,  m
//   <= n if causal
//
// with Fastmax's f and normalisation for order p >= 1; softmax is order 0: f = exp, scale
// 1/sqrt(D), no normalisation. N = M here.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace fastmax::app {

/// q, k, v and the gradient d_o that comes in, all [B, H, N, D].
struct BenchInputs {
  at::Tensor q, k, v, d_o;
};

/// What a contender wrote. g [B, H, N]: the denominators, Fastmax only. Gradients: backward only.
struct BenchOutputs {
  at::Tensor o, g, dq, dk, dv;
};

/// The truth at `rows` of one head. Undefined tensors were not computed.
struct SampledHead {
  std::int64_t b = 0, h = 0;
  at::Tensor rows;                               // [S] indices
  at::Tensor o = {}, dq = {}, dk = {}, dv = {};  // [S, D]
};
using SampledTruth = std::vector<SampledHead>;

/// Up to here the truth of a gradient needs nothing from outside: o and g of every row are affordable.
inline constexpr std::int64_t kExactTokens = 1 << 10;

/// A dozen rows spread over the sequence, its ends included, at distances without a period.
at::Tensor sampled_rows(std::int64_t N);

/// At `rows`; without them at sampled_rows, of the first head and the last.
SampledTruth forward_truth(const BenchInputs& in, int order, bool causal,
                           const at::Tensor& rows = {});

/// Gradients at the same rows. dk and dv of one key need every row's o and g: up to kExactTokens they
/// are computed in float64 too; beyond, those of `forward` are taken as given, as the backward pass
/// itself does, and without its g (softmax) dk and dv are left out.
SampledTruth backward_truth(const BenchInputs& in, int order, bool causal,
                            const BenchOutputs& forward, const at::Tensor& rows = {});

/// Where weights(rows), [B, H, rows, N] in float64, are known: o = A v at sampled rows, and for backward dv = A^T d_o
/// there, if A has at most 2 kExactTokens^2 entries.
SampledTruth weighted_truth(const BenchInputs& in, bool backward,
                            const std::function<at::Tensor(const at::Tensor&)>& weights);

/// The largest difference, and the largest one relative to the size of its tensor's truth; NaN if any is.
struct SampledError {
  double error = 0, relative = 0;
};
SampledError compare(const SampledTruth& truth, const BenchOutputs& got);

}  // namespace fastmax::app
