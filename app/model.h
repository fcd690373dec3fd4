// The transformer: the same for every attention, so that a comparison compares attention and nothing else.
//
//   x = dropout(token[t_n] + position[n]); where a token is numbers, W_t t_n + b_t in place of token[t_n]
//   per layer:  h = norm(x);  h = h + convolution(h)
//               x += dropout(W_o attention(W_qkv h));
//               x += dropout(W_2 dropout(gelu(W_1 norm(x))))
//   classifier:      W_c relu(W_h mean over real tokens of norm(x)),
//                    of pairs with means a and b: W_c relu(W_h [a, b, a b, a - b]);
//                    with gelu in place of relu where the recipe says so
//   language model:  W_c norm(x_n)
//
// With a class token, x has a learnt row in front of the tokens, and the classifier is W_c norm(x_0), of pairs
// W_c [a, b, a b, a - b].
//
// The block of the paper's authors (their transformer/model.py) has no biases in W_qkv, and its MLP adds to x as it was before
// the attention:
//
//   y = x + dropout(W_o attention(W_qkv h));  x += dropout(W_2 gelu(W_1 norm(y)))
//
// Their model drops nothing else, and begins with every matrix drawn uniformly within sqrt(6 / (inputs + outputs)).
//
// Padding costs nothing but time: a key's weight is 1 for a token and 0 for padding (softmax gets a
// mask), the convolution sees zeros there, and the mean runs over tokens only, so a padded batch
// gives each sequence the numbers it has alone; with Reformer and Informer, other ones (rivals.h).
#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "app/attention.h"
#include "app/model_config.h"

namespace fastmax::app {

/// What a language model keeps of the tokens it has read: as much for one as for a million.
struct Past {
  struct Layer {
    at::Tensor state;   ///< of its attention
    at::Tensor recent;  ///< what its convolution still needs: [B, convolution - 1, dim]
  };
  std::int64_t tokens = 0;
  std::vector<Layer> layers;
};

/// What the attention of one layer was given and gave.
struct Watched {
  std::int64_t layer = 0;  ///< which is asked for, 0 .. layers - 1
  Heads heads = {};
  at::Tensor key_weight = {};  ///< [B, N], of a class token too; undefined where nothing is padded
  at::Tensor o = {};           ///< [B, N, H D]
};

class Model {
 public:
  /// Weights depend on `config` and `seed` alone.
  Model(const ModelConfig& config, std::uint64_t seed);

  /// tokens [B, N] int64, or [B, N, values] float; key_weight [B, N] float (1 token, 0 padding), undefined when nothing is
  /// padded. Gives [B, classes] ([B / 2, classes] of pairs), or [B, N, vocabulary] for a language model. Dropout only while
  /// training, from torch's default generator.
  at::Tensor forward(const at::Tensor& tokens, const at::Tensor& key_weight, bool training) const;

  /// Reads as forward does, without dropout, and keeps what its layer did.
  void watch(const at::Tensor& tokens, const at::Tensor& key_weight, Watched& watched) const;

  /// For a language model of Fastmax: the past of B sequences that have not begun.
  Past empty_past(std::int64_t B) const;
  /// tokens [B, N] that come after the past, which they join: logits [B, vocabulary] of what follows
  /// them. Past and tokens must fit into `length`. Gives what forward gives, at a cost that does not
  /// depend on the past.
  at::Tensor next(const at::Tensor& tokens, Past& past) const;

  const ModelConfig& config() const { return config_; }
  const Attention& attention() const { return attention_; }
  /// Every weight by name, in a fixed order; they require gradients.
  const std::vector<std::pair<std::string, at::Tensor>>& parameters() const { return parameters_; }
  std::int64_t parameter_count() const;
  /// Weights that learn at a multiple of the learning rate, and without decay: the scales of heads.
  const std::map<std::string, double>& rates() const { return rates_; }

 private:
  struct Layer {
    at::Tensor norm1_weight, norm1_bias, qkv_weight, qkv_bias, out_weight, out_bias;
    at::Tensor norm2_weight, norm2_bias, mlp1_weight, mlp1_bias, mlp2_weight, mlp2_bias;
    at::Tensor convolution, scale_factor;  // undefined where the model has none
  };
  at::Tensor embed(const at::Tensor& tokens, std::int64_t first) const;
  at::Tensor mix(const Layer& layer, const at::Tensor& h, const at::Tensor& key_weight,
                 Past::Layer* past) const;
  Heads project(const Layer& layer, const at::Tensor& h) const;
  at::Tensor norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) const;
  at::Tensor with_class_token(const at::Tensor& key_weight) const;
  at::Tensor read(const at::Tensor& tokens, const at::Tensor& token_weight, bool training,
                  Past* past, Watched* watched = nullptr) const;
  at::Tensor pool(const at::Tensor& x, const at::Tensor& key_weight) const;

  ModelConfig config_;
  Attention attention_;
  at::Tensor token_, token_bias_, class_token_, position_, norm_weight_, norm_bias_;
  at::Tensor hidden_weight_, hidden_bias_, head_weight_, head_bias_;
  std::vector<Layer> layers_;
  std::vector<std::pair<std::string, at::Tensor>> parameters_;
  std::map<std::string, double> rates_;
};

}  // namespace fastmax::app
