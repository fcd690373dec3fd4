#include "app/model.h"

#include <ATen/CPUGeneratorImpl.h>

#include <cmath>

#include "app/convolution.h"
#include "app/dropout.h"
#include "app/positions.h"

namespace fastmax::app {
namespace {

constexpr std::int64_t kHidden = 128;  // of the classifier
// A scale moves by powers of two where a weight moves by hundredths.
constexpr double kScaleRate = 10;

}  // namespace

Model::Model(const ModelConfig& config, std::uint64_t seed) : config_(config), attention_(config) {
  const at::Generator random = at::detail::createCPUGenerator(seed);

  const auto add = [&](const std::string& name, const at::Tensor& weight) {
    weight.requires_grad_();
    parameters_.emplace_back(name, weight);
    return weight;
  };
  const auto uniform = [&](const std::string& name, at::IntArrayRef shape, double bound) {
    return add(name, at::empty(shape).uniform_(-bound, bound, random));
  };
  // torch.nn.Linear's and Conv1d's: within 1 / sqrt(inputs).
  const auto bound_of = [](std::int64_t inputs) {
    return 1 / std::sqrt(static_cast<double>(inputs));
  };
  const auto xavier = [](std::int64_t inputs, std::int64_t outputs) {
    return std::sqrt(6 / static_cast<double>(inputs + outputs));
  };
  const auto embedding = [&](const std::string& name, std::int64_t rows) {
    if (config.authors_block) return uniform(name, {rows, config.dim}, xavier(rows, config.dim));
    return add(name, at::empty({rows, config.dim}).normal_(0, config.embedding_std, random));
  };
  const auto norm = [&](const std::string& name, at::Tensor& weight, at::Tensor& bias) {
    weight = add(name + ".weight", at::ones({config.dim}));
    bias = add(name + ".bias", at::zeros({config.dim}));
  };
  // `parts` matrices, one below the other.
  const auto matrix = [&](const std::string& name, std::int64_t inputs, std::int64_t outputs,
                          std::int64_t parts = 1) {
    return uniform(name + ".weight", {parts * outputs, inputs},
                   config.authors_block ? xavier(inputs, outputs) : bound_of(inputs));
  };
  const auto linear = [&](const std::string& name, std::int64_t inputs, std::int64_t outputs,
                          at::Tensor& weight, at::Tensor& bias) {
    weight = matrix(name, inputs, outputs);
    bias = uniform(name + ".bias", {outputs}, bound_of(inputs));
  };

  if (config.values > 0) {
    // The authors' is a convolution, of whose outputs xavier counts every place.
    token_ = uniform("token.weight", {config.dim, config.values},
                     config.authors_block ? xavier(config.values, config.dim * config.values)
                                          : bound_of(config.values));
    token_bias_ = uniform("token.bias", {config.dim}, bound_of(config.values));
  } else {
    token_ = embedding("token.weight", config.vocabulary);
  }
  if (config.class_token) {
    class_token_ = add("class_token", at::empty({config.dim}).normal_(0, 1, random));
  }
  if (config.positions == "learned") position_ = embedding("position.weight", config.places());
  if (config.positions == "sinusoidal") {  // as large as learned ones are in the beginning
    position_ = sinusoids(config.places(), config.dim, config.embedding_std);
  }
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const std::string name = "layers." + std::to_string(i) + ".";
    Layer& layer = layers_.emplace_back();
    norm(name + "norm1", layer.norm1_weight, layer.norm1_bias);
    if (const std::int64_t width = config.convolution; width > 0) {
      layer.convolution =
          uniform(name + "convolution.weight", {config.dim, 1, width}, bound_of(width));
    }
    layer.qkv_weight = matrix(name + "qkv", config.dim, config.dim, 3);
    if (!config.authors_block) {
      layer.qkv_bias = uniform(name + "qkv.bias", {3 * config.dim}, bound_of(config.dim));
    }
    if (config.scale_learnable) {
      layer.scale_factor = add(name + "scale_factor", at::ones({config.heads}));
      rates_[name + "scale_factor"] = kScaleRate;
    }
    linear(name + "out", config.dim, config.dim, layer.out_weight, layer.out_bias);
    norm(name + "norm2", layer.norm2_weight, layer.norm2_bias);
    linear(name + "mlp1", config.dim, config.mlp, layer.mlp1_weight, layer.mlp1_bias);
    linear(name + "mlp2", config.mlp, config.dim, layer.mlp2_weight, layer.mlp2_bias);
  }
  norm("norm", norm_weight_, norm_bias_);
  if (config.classes > 0) {
    std::int64_t width = (config.pairs ? 4 : 1) * config.dim;
    if (!config.class_token) {
      linear("hidden", width, kHidden, hidden_weight_, hidden_bias_);
      width = kHidden;
    }
    linear("head", width, config.classes, head_weight_, head_bias_);
  } else {
    linear("head", config.dim, config.vocabulary, head_weight_, head_bias_);
  }
}

std::int64_t Model::parameter_count() const {
  std::int64_t count = 0;
  for (const auto& [name, weight] : parameters_) count += weight.numel();
  return count;
}

at::Tensor Model::embed(const at::Tensor& tokens, std::int64_t first) const {
  at::Tensor x =
      config_.values > 0 ? at::linear(tokens, token_, token_bias_) : at::embedding(token_, tokens);
  if (class_token_.defined()) x = at::cat({class_token_.expand({x.size(0), 1, -1}), x}, 1);
  return position_.defined() ? x + position_.narrow(0, first, x.size(1)) : x;
}

at::Tensor Model::mix(const Layer& layer, const at::Tensor& h, const at::Tensor& key_weight,
                      Past::Layer* past) const {
  const std::int64_t width = config_.convolution;
  if (width == 0) return h;
  if (past) return convolve_on(h, layer.convolution, past->recent);
  const std::int64_t before = config_.causal() ? width - 1 : width / 2;
  return convolve(h, layer.convolution, before, key_weight);
}

Heads Model::project(const Layer& layer, const at::Tensor& h) const {
  // q, k and v stay where the projection wrote them: [B, N, 3, H, D] seen as three [B, N, H, D].
  const auto qkv = at::linear(h, layer.qkv_weight, layer.qkv_bias)
                       .view({h.size(0), h.size(1), 3, config_.heads, config_.head_size()})
                       .unbind(2);
  return {qkv[0], qkv[1], qkv[2], layer.scale_factor};
}

// A class token is never padding.
at::Tensor Model::with_class_token(const at::Tensor& key_weight) const {
  if (!class_token_.defined() || !key_weight.defined()) return key_weight;
  return at::cat({at::ones({key_weight.size(0), 1}), key_weight}, 1);
}

at::Tensor Model::pool(const at::Tensor& x, const at::Tensor& key_weight) const {
  if (class_token_.defined()) return x.select(1, 0);
  const std::int64_t B = x.size(0), N = x.size(1);
  const at::Tensor sum =
      key_weight.defined() ? at::bmm(key_weight.view({B, 1, N}), x).squeeze(1) : x.sum(1);
  if (config_.pool_padded) return sum / config_.length;
  return key_weight.defined() ? sum / key_weight.sum(1, /*keepdim=*/true) : sum / N;
}

at::Tensor Model::norm(const at::Tensor& x, const at::Tensor& weight,
                       const at::Tensor& bias) const {
  return at::layer_norm(x, {config_.dim}, weight, bias);
}

// The tokens after the last layer, [B, N, dim].
at::Tensor Model::read(const at::Tensor& tokens, const at::Tensor& token_weight, bool training,
                       Past* past, Watched* watched) const {
  const at::Tensor key_weight = with_class_token(token_weight);
  const std::int64_t first = past ? past->tokens : 0;
  const bool drops = training && config_.dropout > 0;
  const bool theirs = config_.authors_block;
  const auto add = [&](const at::Tensor& x, const at::Tensor& z) {  // x + dropout(z)
    return drops ? add_dropped(x, z, config_.dropout, draw_seed()) : x + z;
  };
  const auto drop = [&](const at::Tensor& z) {
    return drops && !theirs ? add_dropped({}, z, config_.dropout, draw_seed()) : z;
  };
  at::Tensor x = drop(embed(tokens, first));
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    Past::Layer* kept = past ? &past->layers[i] : nullptr;
    const at::Tensor h =
        mix(layer, norm(x, layer.norm1_weight, layer.norm1_bias), key_weight, kept);
    const Heads heads = project(layer, h);
    const at::Tensor o = kept ? attention_.extend(heads, kept->state, first)
                              : attention_(heads, key_weight, training);
    if (watched && static_cast<std::int64_t>(i) == watched->layer)
      *watched = {watched->layer, heads, key_weight, o};
    const at::Tensor y = add(x, at::linear(o, layer.out_weight, layer.out_bias));
    const at::Tensor inner = at::gelu(at::linear(norm(y, layer.norm2_weight, layer.norm2_bias),
                                                 layer.mlp1_weight, layer.mlp1_bias));
    x = add(theirs ? x : y, at::linear(drop(inner), layer.mlp2_weight, layer.mlp2_bias));
  }
  if (past) past->tokens += tokens.size(1);
  return x;
}

at::Tensor Model::forward(const at::Tensor& tokens, const at::Tensor& key_weight,
                          bool training) const {
  at::Tensor x = norm(read(tokens, key_weight, training, nullptr), norm_weight_, norm_bias_);
  if (config_.classes > 0) {
    x = pool(x, key_weight);
    if (config_.pairs) {
      const auto ab = x.view({-1, 2, config_.dim}).unbind(1);
      x = at::cat({ab[0], ab[1], ab[0] * ab[1], ab[0] - ab[1]}, -1);
    }
    if (hidden_weight_.defined()) {
      x = at::linear(x, hidden_weight_, hidden_bias_);
      x = config_.gelu_classifier ? at::gelu(x) : at::relu(x);
    }
  }
  return at::linear(x, head_weight_, head_bias_);
}

void Model::watch(const at::Tensor& tokens, const at::Tensor& key_weight, Watched& watched) const {
  read(tokens, key_weight, /*training=*/false, nullptr, &watched);
}

Past Model::empty_past(std::int64_t B) const {
  Past past;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    Past::Layer& layer = past.layers.emplace_back();
    layer.state = attention_.empty_state(B);
    if (config_.convolution > 0)
      layer.recent = at::zeros({B, config_.convolution - 1, config_.dim});
  }
  return past;
}

at::Tensor Model::next(const at::Tensor& tokens, Past& past) const {
  const at::Tensor last = read(tokens, {}, /*training=*/false, &past).select(1, -1);
  return at::linear(norm(last, norm_weight_, norm_bias_), head_weight_, head_bias_);
}

}  // namespace fastmax::app
