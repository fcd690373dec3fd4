#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

#include "app/product.h"
#include "app/rivals.h"

namespace fastmax::app {
namespace {

// exp(w . x - |x|^2 / 2 - c): of two vectors, the products' mean over normal w is exp(x . y). Both c
// cancel in attention; the query's is one a row, the key's one a head.
at::Tensor positive_features(const at::Tensor& x, const at::Tensor& w, at::IntArrayRef together) {
  const at::Tensor each = w.t().expand({x.size(0), x.size(1), w.size(1), w.size(0)});
  const at::Tensor exponent = product(x, each) - x.square().sum(-1, /*keepdim=*/true) / 2;
  return (exponent - exponent.detach().amax(together, /*keepdim=*/true)).exp_();
}

}  // namespace

at::Tensor orthogonal_features(std::int64_t features, std::int64_t D, std::uint64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  std::vector<at::Tensor> blocks;
  for (std::int64_t left = features; left > 0; left -= D) {
    // QR fixes the signs of its columns in a way of its own: without diag(R)'s they are not uniform, and
    // the features' mean is off.
    const auto [Q, R] = at::linalg_qr(at::randn({D, D}, generator));
    const at::Tensor directions = Q * R.diagonal().sign();
    const at::Tensor lengths = at::randn({D, D}, generator).norm(2, {1}, /*keepdim=*/true);
    blocks.push_back((directions.t() * lengths).narrow(0, 0, std::min(left, D)));
  }
  return at::cat(blocks);
}

at::Tensor performer_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const at::Tensor& key_weight, const at::Tensor& features,
                               bool causal) {
  const double scale = std::pow(static_cast<double>(q.size(3)), -0.25);  // of each: q . k / sqrt(D)
  return kernel_attention(positive_features(q * scale, features, {-1}),
                          positive_features(k * scale, features, {-2, -1}), v, key_weight, causal);
}

}  // namespace fastmax::app
