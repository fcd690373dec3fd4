// The product of matrices with few columns.
#pragma once
#include <ATen/ATen.h>

namespace fastmax::app {

/// a b [.., M, N] of a [.., M, K] and b [.., K, N], with the same leading sizes; differentiable once. A product with fewer than
/// 16 columns is taken transposed, here and in the gradients: MKL, which is torch's library on x86, takes several times as long
/// for few columns as for few rows on AMD's processors, and a head of 8 has few.
at::Tensor product(const at::Tensor& a, const at::Tensor& b);

}  // namespace fastmax::app
