#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <tuple>

#include "app/rivals.h"

namespace fastmax::app {
namespace {

// The u queries of each head with the largest max_j s_ij - mean_j s_ij over u sampled keys: [B, H, u].
at::Tensor standing_out(const at::Tensor& q, const at::Tensor& k, const at::Tensor& key_weight,
                        std::int64_t u, std::uint64_t seed) {
  const c10::NoGradGuard no_grad;
  const std::int64_t B = q.size(0), N = q.size(2);
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const at::Tensor sample = at::randperm(N, generator).narrow(0, 0, u);
  const at::Tensor s = at::matmul(q, k.index_select(2, sample).transpose(2, 3));
  if (!key_weight.defined()) return std::get<1>((s.amax({-1}) - s.mean({-1})).topk(u));
  const double none = -std::numeric_limits<float>::max();
  const at::Tensor real = key_weight > 0;  // [B, N]
  const at::Tensor drawn = real.index_select(1, sample).view({B, 1, 1, u});
  const at::Tensor mean = (s * drawn).sum({-1}) / drawn.sum({-1}).clamp_min(1);
  const at::Tensor stands = s.masked_fill(~drawn, none).amax({-1}) - mean;
  return std::get<1>(stands.masked_fill(~real.view({B, 1, N}), none).topk(u));
}

}  // namespace

at::Tensor informer_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                              const at::Tensor& key_weight, std::uint64_t seed, double factor,
                              std::int64_t least) {
  const std::int64_t B = q.size(0), H = q.size(1), N = q.size(2), D = q.size(3), E = v.size(3);
  const auto asked = static_cast<std::int64_t>(std::ceil(factor * std::log(double(N))));
  const std::int64_t u = std::min(std::max(asked, least), N);
  const at::Tensor rows = standing_out(q, k, key_weight, u, seed).unsqueeze(-1);
  std::optional<at::Tensor> mask;
  at::Tensor mean = v.mean({2}, /*keepdim=*/true);
  if (key_weight.defined()) {
    mask = (key_weight > 0).view({B, 1, 1, N});
    const at::Tensor w = key_weight.view({B, 1, N, 1});
    mean = (v * w).sum({2}, /*keepdim=*/true) / w.sum({2}, /*keepdim=*/true);
  }
  const at::Tensor attended = at::scaled_dot_product_attention(
      q.gather(2, rows.expand({B, H, u, D})), k, v, mask, /*dropout_p=*/0.0, /*is_causal=*/false);
  return mean.expand({B, H, N, E}).scatter(2, rows.expand({B, H, u, E}), attended);
}

}  // namespace fastmax::app
