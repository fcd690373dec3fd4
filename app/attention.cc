#include "app/attention.h"

#include <ATen/record_function.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "app/dropout.h"
#include "app/profile.h"

namespace fastmax::app {

Attention::Attention(const ModelConfig& config)
    : order_(fastmax_order(config.attention)),
      H_(config.heads),
      D_(config.head_size()),
      dropout_(config.attention_dropout) {
  const bool rotary = config.positions == "rotary";
  if (rotary) rotation_.emplace(config.places(), D_);
  options_.causal = config.causal();
  if (order_ == 0) {
    if (config.attention != "linear") score_scale_ = resolve_scale(config.scale, 0, D_);
    if (config.attention != "softmax")
      rival_ = make_rival(config.attention, D_, config.causal(), config.length);
    return;
  }

  const Normalize normalize = parse_normalize(config.normalize);
  options_.p = order_;
  options_.normalize = config.normalize;
  options_.scale = resolve_scale(config.scale, order_, D_, normalize);
  options_.dropout = config.attention_dropout_mode;
  const bool bounded = order_ % 2 == 0 || normalize != Normalize::kNone;
  const double safe = bounded ? default_scale(order_, D_, normalize) : 0;
  // The kernel normalises as it reads, at no cost. But r and the turn have their place between the
  // normalisation and the product; only turning what need not lose its mean can go before.
  if (config.scale_learnable || (rotary && normalize == Normalize::kStandardize)) {
    normalize_here_ = normalize;
    options_.normalize = "none";
    if (!options_.scale) options_.scale = default_scale(order_, D_, normalize);
  }
  // No weight is negative up to there, and a denominator that rounding brings to zero is no reason to stop.
  if (bounded && options_.scale.value_or(safe) <= safe) options_.floor = "clamp";
  if (config.scale_learnable && bounded && order_ % 2) {
    largest_factor_ = std::max(1.0, safe / *options_.scale);
  }
}

at::Tensor Attention::normalise(const at::Tensor& x) const {
  if (normalize_here_ == Normalize::kStandardize) return at::layer_norm(x, {D_}, {}, {}, 1e-6);
  if (normalize_here_ == Normalize::kL2) {
    return x * (x.square().sum(-1, /*keepdim=*/true) + 1e-24).rsqrt();
  }
  return x;
}

Heads Attention::prepare(const Heads& heads, std::int64_t first) const {
  at::Tensor q = normalise(heads.q), k = normalise(heads.k);
  if (rotation_) {
    q = (*rotation_)(q, first);
    k = (*rotation_)(k, first);
  }
  // A rival's own scale is 1 / sqrt(D).
  if (rival_ && score_scale_) q = q * (*score_scale_ * std::sqrt(static_cast<double>(D_)));
  if (heads.factor.defined()) {
    const at::Tensor factor =
        largest_factor_ ? heads.factor.clamp(-*largest_factor_, *largest_factor_) : heads.factor;
    q = q * factor.view({H_, 1});
  }
  return {q.transpose(1, 2), k.transpose(1, 2), heads.v.transpose(1, 2), {}};
}

at::Tensor Attention::operator()(const Heads& heads, const at::Tensor& key_weight,
                                 bool training) const {
  const auto [q, k, v, unused] = prepare(heads, 0);
  const std::int64_t B = q.size(0), N = q.size(2);
  const double dropout = training ? dropout_ : 0;
  at::Tensor o;
  if (rival_) {
    RECORD_FUNCTION(kAttentionMark, c10::ArrayRef<const c10::IValue>());
    o = rival_(q, k, v, key_weight, training ? static_cast<std::uint64_t>(draw_seed()) : 0);
  } else if (order_ == 0) {
    std::optional<at::Tensor> mask;
    if (key_weight.defined()) mask = (key_weight > 0).view({B, 1, 1, N});
    o = at::scaled_dot_product_attention(q, k, v, mask, dropout, options_.causal, score_scale_);
  } else {
    torch_ops::AttentionOptions options = options_;
    options.dropout_p = dropout;
    if (dropout > 0) options.seed = draw_seed();
    std::optional<at::Tensor> weight;
    if (key_weight.defined()) weight = key_weight;
    // The largest norm is over queries too, and those of padding are zero as well then.
    const bool by_largest = options.normalize == "max_norm" && key_weight.defined();
    o = torch_ops::attention(by_largest ? q * key_weight.view({B, 1, N, 1}) : q, k, v, weight,
                             options);
  }
  return o.transpose(1, 2).reshape({B, N, H_ * D_});
}

at::Tensor Attention::softmax_weights(const at::Tensor& q, const at::Tensor& k,
                                      const at::Tensor& key_weight) const {
  const std::int64_t B = q.size(0), N = q.size(2);
  at::Tensor seen = at::ones({N, N}, at::kBool);
  if (options_.causal) seen = seen.tril();
  if (key_weight.defined()) seen = seen & (key_weight > 0).view({B, 1, 1, N});
  const double scale = score_scale_.value_or(1 / std::sqrt(static_cast<double>(D_)));
  const at::Tensor s = at::matmul(q, k.transpose(-2, -1)) * scale;
  return at::softmax(s.masked_fill(~seen, -std::numeric_limits<double>::infinity()), -1);
}

at::Tensor Attention::weights(const Heads& heads, const at::Tensor& key_weight) const {
  const auto [q, k, v, unused] = prepare(heads, 0);
  if (order_ > 0) {
    return torch_ops::attention_weights(
        q, k, key_weight.defined() ? std::optional(key_weight) : std::nullopt, options_);
  }
  if (!rival_) return softmax_weights(q, k, key_weight);
  // All of them are linear in the values: those of the identity are the weights.
  const at::Tensor one = at::eye(v.size(2), v.options()).expand({v.size(0), H_, -1, -1});
  return rival_(q, k, one, key_weight, /*seed=*/0);
}

at::Tensor Attention::empty_state(std::int64_t B) const {
  return at::zeros({B, H_, state_features(order_, D_), D_ + 1});
}

at::Tensor Attention::extend(const Heads& heads, at::Tensor& state, std::int64_t first) const {
  const auto [q, k, v, unused] = prepare(heads, first);
  const std::int64_t B = q.size(0), N = q.size(2);
  at::Tensor o;
  if (N == 1) {
    o = torch_ops::step(q, k, v, state, std::nullopt, options_);
  } else {
    std::tie(o, state) = torch_ops::attention_with_state(q, k, v, std::nullopt, state, options_);
  }
  return o.transpose(1, 2).reshape({B, N, H_ * D_});
}

}  // namespace fastmax::app
