// What a model is, before it has weights: the `model` keys of a recipe, and what its task says.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "fastmax/fastmax.h"

namespace fastmax::app {

struct ModelConfig {
  std::string attention = "fastmax2";
  std::int64_t layers = 2, heads = 2, dim = 64, mlp = 128;
  double dropout = 0;           ///< of what joins the residual stream
  double embedding_std = 0.02;  ///< of tokens' and positions' embeddings in the beginning
  /// Of the score, of every attention but linear: "default", "1/sqrt(D)", "1/D" or a number.
  std::string scale = "default";
  std::string normalize =
      "standardize";             ///< Fastmax's q^ and k^; softmax takes q and k as they are
  double attention_dropout = 0;  ///< Fastmax's as the mode says; softmax drops its weights
  std::string attention_dropout_mode = "quadratic";
  bool scale_learnable = false;       ///< a factor per head on the scale, 1 in the beginning
  std::int64_t convolution = 0;       ///< tokens that mix before q, k and v are formed; 0: none do
  std::string positions = "learned";  ///< "learned", "sinusoidal", "rotary" or "none"
  std::int64_t vocabulary = 256;      ///< token ids 0 .. vocabulary - 1
  std::int64_t values = 0;            ///< > 0: a token is so many numbers, not an id
  std::int64_t length = 1024;         ///< the longest sequence: size of the position table
  std::int64_t classes = 0;           ///< 0: a causal language model over the vocabulary
  bool pairs = false;                 ///< an answer is about two sequences that follow each other
  bool pool_padded = false;  ///< the mean divides by `length`, as if padded (the paper's harness)
  bool class_token = false;  ///< a learnt token in front is classified, in place of a mean
  bool gelu_classifier = false;  ///< its hidden units are gelu's, which cannot die, not relu's
  bool authors_block = false;    ///< the block of the paper's authors (model.h)

  /// Tokens that attention sees of the longest sequence.
  std::int64_t places() const { return length + (class_token ? 1 : 0); }
  std::int64_t head_size() const { return dim / heads; }
  bool causal() const { return classes == 0; }
};

/// p of "fastmax1" .. "fastmax4", 0 for softmax and for the rivals. Throws UsageError for another name.
int fastmax_order(const std::string& attention);

/// The core's value of a name.
Normalize parse_normalize(const std::string& name);

/// What `scale` means for Fastmax of order p at head size D; none: the core's default, of softmax (p = 0) 1/sqrt(D). A word
/// never asks for more than the scale up to which no weight can be negative, a number may.
std::optional<double> resolve_scale(const std::string& scale, int p, std::int64_t D,
                                    Normalize normalize = Normalize::kStandardize);

}  // namespace fastmax::app
