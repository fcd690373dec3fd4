#include <algorithm>
#include <limits>

#include "app/product.h"
#include "app/rivals.h"

namespace fastmax::app {

at::Tensor kernel_attention(const at::Tensor& a, const at::Tensor& b, const at::Tensor& v,
                            const at::Tensor& key_weight, bool causal, std::int64_t chunk) {
  const std::int64_t B = v.size(0), H = v.size(1), N = v.size(2), E = v.size(3), F = a.size(3);
  // With a column of ones among the values, the denominator is one more output.
  at::Tensor v1 = at::cat({v, at::ones({B, H, N, 1}, v.options())}, 3);
  if (key_weight.defined()) v1 = v1 * key_weight.view({B, 1, N, 1});
  at::Tensor sums;
  if (!causal) {
    sums = product(a, product(b.transpose(2, 3), v1));
  } else {
    const std::int64_t C = std::min(chunk, N), chunks = (N + C - 1) / C;
    const auto split = [&](const at::Tensor& x, std::int64_t width) {
      return at::constant_pad_nd(x, {0, 0, 0, chunks * C - N}).view({B, H, chunks, C, width});
    };
    const at::Tensor ac = split(a, F), bc = split(b, F), vc = split(v1, E + 1);
    const at::Tensor own = product(bc.transpose(3, 4), vc);
    const at::Tensor before = at::cumsum(own, 2) - own;  // of the chunks in front
    sums = (product(ac, before) + product(product(ac, bc.transpose(3, 4)).tril(), vc))
               .reshape({B, H, chunks * C, E + 1})
               .narrow(2, 0, N);
  }
  const at::Tensor denominator = sums.narrow(3, E, 1);
  return sums.narrow(3, 0, E) / denominator.clamp_min(std::numeric_limits<float>::min());
}

at::Tensor linear_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const at::Tensor& key_weight, bool causal) {
  return kernel_attention(at::elu(q) + 1, at::elu(k) + 1, v, key_weight, causal);
}

}  // namespace fastmax::app
