#include "app/model.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>

#include "fastmax/fastmax.h"
#include "torch_ops/autograd.h"

namespace fastmax::app {
namespace {

constexpr double kEmbeddingSpread = 0.02;
constexpr std::int64_t kHidden = 128;  // of the classifier

int fastmax_order(const std::string& attention) {
  const auto& names = attention_names();
  require_name("attention", names, attention);
  return static_cast<int>(std::find(names.begin(), names.end(), attention) - names.begin());
}

}  // namespace

std::optional<double> resolve_scale(const std::string& scale, int p, std::int64_t D) {
  if (scale == "default") return std::nullopt;
  const double d = static_cast<double>(D);
  const bool root = scale == "1/sqrt(D)";
  if (!root && scale != "1/D") return std::stod(scale);
  const double asked = root ? 1 / std::sqrt(d) : 1 / d;
  return p % 2 ? std::min(asked, fastmax::default_scale(p, D)) : asked;
}

Model::Model(const ModelConfig& config, std::uint64_t seed)
    : config_(config), order_(fastmax_order(config.attention)) {
  if (order_) scale_ = resolve_scale(config.scale, order_, config.dim / config.heads);
  const at::Generator random = at::detail::createCPUGenerator(seed);

  const auto add = [&](const std::string& name, const at::Tensor& weight) {
    weight.requires_grad_();
    parameters_.emplace_back(name, weight);
    return weight;
  };
  const auto embedding = [&](const std::string& name, std::int64_t rows) {
    return add(name, at::empty({rows, config.dim}).normal_(0, kEmbeddingSpread, random));
  };
  const auto norm = [&](const std::string& name, at::Tensor& weight, at::Tensor& bias) {
    weight = add(name + ".weight", at::ones({config.dim}));
    bias = add(name + ".bias", at::zeros({config.dim}));
  };
  // As torch.nn.Linear: everything uniform within 1 / sqrt(inputs).
  const auto linear = [&](const std::string& name, std::int64_t inputs, std::int64_t outputs,
                          at::Tensor& weight, at::Tensor& bias) {
    const double bound = 1 / std::sqrt(static_cast<double>(inputs));
    weight = add(name + ".weight", at::empty({outputs, inputs}).uniform_(-bound, bound, random));
    bias = add(name + ".bias", at::empty({outputs}).uniform_(-bound, bound, random));
  };

  token_ = embedding("token.weight", config.vocabulary);
  position_ = embedding("position.weight", config.length);
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const std::string name = "layers." + std::to_string(i) + ".";
    Layer& layer = layers_.emplace_back();
    norm(name + "norm1", layer.norm1_weight, layer.norm1_bias);
    linear(name + "qkv", config.dim, 3 * config.dim, layer.qkv_weight, layer.qkv_bias);
    linear(name + "out", config.dim, config.dim, layer.out_weight, layer.out_bias);
    norm(name + "norm2", layer.norm2_weight, layer.norm2_bias);
    linear(name + "mlp1", config.dim, config.mlp, layer.mlp1_weight, layer.mlp1_bias);
    linear(name + "mlp2", config.mlp, config.dim, layer.mlp2_weight, layer.mlp2_bias);
  }
  norm("norm", norm_weight_, norm_bias_);
  if (config.classes > 0) {
    linear("hidden", config.dim, kHidden, hidden_weight_, hidden_bias_);
    linear("head", kHidden, config.classes, head_weight_, head_bias_);
  } else {
    linear("head", config.dim, config.vocabulary, head_weight_, head_bias_);
  }
}

std::int64_t Model::parameter_count() const {
  std::int64_t count = 0;
  for (const auto& [name, weight] : parameters_) count += weight.numel();
  return count;
}

at::Tensor Model::attend(const Layer& layer, const at::Tensor& x,
                         const at::Tensor& key_weight) const {
  const std::int64_t B = x.size(0), N = x.size(1), H = config_.heads, D = config_.dim / H;
  const bool causal = config_.classes == 0;
  // q, k and v stay where the projection wrote them: [B, N, 3, H, D] seen as three [B, H, N, D].
  const auto qkv = at::linear(x, layer.qkv_weight, layer.qkv_bias).view({B, N, 3, H, D}).unbind(2);
  const at::Tensor q = qkv[0].transpose(1, 2), k = qkv[1].transpose(1, 2),
                   v = qkv[2].transpose(1, 2);
  at::Tensor o;
  if (order_ == 0) {
    std::optional<at::Tensor> mask;
    if (key_weight.defined()) mask = (key_weight > 0).view({B, 1, 1, N});
    o = at::scaled_dot_product_attention(q, k, v, mask, /*dropout_p=*/0, causal);
  } else {
    std::optional<at::Tensor> weight;
    if (key_weight.defined()) weight = key_weight;
    o = torch_ops::attention(q, k, v, weight, {.p = order_, .scale = scale_, .causal = causal});
  }
  return at::linear(o.transpose(1, 2).reshape({B, N, config_.dim}), layer.out_weight,
                    layer.out_bias);
}

at::Tensor Model::pool(const at::Tensor& x, const at::Tensor& key_weight) const {
  const std::int64_t B = x.size(0), N = x.size(1);
  const at::Tensor sum =
      key_weight.defined() ? at::bmm(key_weight.view({B, 1, N}), x).squeeze(1) : x.sum(1);
  if (config_.pool_padded) return sum / config_.length;
  return key_weight.defined() ? sum / key_weight.sum(1, /*keepdim=*/true) : sum / N;
}

at::Tensor Model::forward(const at::Tensor& tokens, const at::Tensor& key_weight,
                          bool training) const {
  const std::int64_t N = tokens.size(1);
  const auto drop = [&](const at::Tensor& x) {
    return config_.dropout > 0 ? at::dropout(x, config_.dropout, training) : x;
  };
  const auto norm = [&](const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
    return at::layer_norm(x, {config_.dim}, weight, bias);
  };

  at::Tensor x = drop(at::embedding(token_, tokens) + position_.narrow(0, 0, N));
  for (const Layer& layer : layers_) {
    x = x + drop(attend(layer, norm(x, layer.norm1_weight, layer.norm1_bias), key_weight));
    const at::Tensor inner = at::gelu(at::linear(norm(x, layer.norm2_weight, layer.norm2_bias),
                                                 layer.mlp1_weight, layer.mlp1_bias));
    x = x + drop(at::linear(drop(inner), layer.mlp2_weight, layer.mlp2_bias));
  }
  x = norm(x, norm_weight_, norm_bias_);
  if (config_.classes > 0) {
    x = at::relu(at::linear(pool(x, key_weight), hidden_weight_, hidden_bias_));
  }
  return at::linear(x, head_weight_, head_bias_);
}

}  // namespace fastmax::app
