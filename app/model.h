// The transformer: the same for every attention, so that a comparison compares attention and
// nothing else.
//
//   x = dropout(token[t_n] + position[n])
//   per layer:  x += dropout(W_o attention(W_qkv norm(x)));   x += dropout(W_2 dropout(gelu(W_1
//   norm(x)))) classifier: W_c relu(W_h mean over real tokens of norm(x))         language model:
//   W_c norm(x_n)
//
// Padding costs nothing but time: a key's weight is 1 for a token and 0 for padding (softmax gets a
// mask), and the mean runs over tokens only, so a padded batch gives each sequence the numbers it
// has alone.
#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "app/names.h"

namespace fastmax::app {

struct ModelConfig {
  std::string attention = "fastmax2";
  std::int64_t layers = 2, heads = 2, dim = 64, mlp = 128;
  double dropout = 0;
  std::string scale =
      "default";  ///< Fastmax's: "default", "1/sqrt(D)", "1/D" or a number; softmax keeps 1/sqrt(D)
  std::int64_t vocabulary = 256;  ///< token ids 0 .. vocabulary - 1
  std::int64_t length = 1024;     ///< the longest sequence: size of the position table
  std::int64_t classes = 0;       ///< 0: a causal language model over the vocabulary
  bool pool_padded = false;  ///< the mean divides by `length`, as if padded (the paper's harness)
};

/// What `scale` means for Fastmax of order p at head size D; none: the kernel's own default.
std::optional<double> resolve_scale(const std::string& scale, int p, std::int64_t D);

class Model {
 public:
  /// Weights depend on `config` and `seed` alone.
  Model(const ModelConfig& config, std::uint64_t seed);

  /// tokens [B, N] int64; key_weight [B, N] float (1 token, 0 padding), undefined when nothing is
  /// padded. Gives [B, classes], or [B, N, vocabulary] for a language model. Dropout only while
  /// training.
  at::Tensor forward(const at::Tensor& tokens, const at::Tensor& key_weight, bool training) const;

  const ModelConfig& config() const { return config_; }
  /// Every weight by name, in a fixed order; they require gradients.
  const std::vector<std::pair<std::string, at::Tensor>>& parameters() const { return parameters_; }
  std::int64_t parameter_count() const;

 private:
  struct Layer {
    at::Tensor norm1_weight, norm1_bias, qkv_weight, qkv_bias, out_weight, out_bias;
    at::Tensor norm2_weight, norm2_bias, mlp1_weight, mlp1_bias, mlp2_weight, mlp2_bias;
  };
  at::Tensor attend(const Layer& layer, const at::Tensor& x, const at::Tensor& key_weight) const;
  at::Tensor pool(const at::Tensor& x, const at::Tensor& key_weight) const;

  ModelConfig config_;
  int order_ = 0;  ///< p of Fastmax; 0: softmax
  std::optional<double> scale_;
  at::Tensor token_, position_, norm_weight_, norm_bias_;
  at::Tensor hidden_weight_, hidden_bias_, head_weight_, head_bias_;
  std::vector<Layer> layers_;
  std::vector<std::pair<std::string, at::Tensor>> parameters_;
};

}  // namespace fastmax::app
