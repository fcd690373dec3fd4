// A short convolution, channel by channel, beside the tokens themselves:
//
//   y_n = h_n + sum_j c_j h_{n - before + j},   j = 0 .. width - 1
//
// It lets a token know its neighbours before q, k and v are formed, which linear attention alone
// learns late. Outside the sequence, and where there is padding, h counts as zero.
#pragma once
#include <ATen/ATen.h>

#include <cstdint>

namespace fastmax::app {

/// h [B, N, C], c [C, 1, width], key_weight [B, N] or undefined: y [B, N, C].
at::Tensor convolve(const at::Tensor& h, const at::Tensor& c, std::int64_t before,
                    const at::Tensor& key_weight);

/// The same for tokens that follow others, looking back only (before = width - 1). `recent`
/// [B, width - 1, C] holds the last h before these tokens, then the last of all.
at::Tensor convolve_on(const at::Tensor& h, const at::Tensor& c, at::Tensor& recent);

}  // namespace fastmax::app
