// The attention of one layer, between its projections: the same steps for softmax and for Fastmax.
//
//   softmax   weights exp(r lambda q.k), lambda = 1 / sqrt(D) unless said otherwise
//   fastmaxP  weights f_P(r lambda q^.k^), x^ the normalised x
//   linear, performer, reformer, informer: rivals.h; all but linear, which has no score, with softmax's lambda
//
// r is 1, or learnt for each head; q and k are turned first where positions are rotary. Padding has
// key weight 0.
#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <optional>

#include "app/model_config.h"
#include "app/positions.h"
#include "app/rivals.h"
#include "torch_ops/autograd.h"

namespace fastmax::app {

/// What the projection made of N tokens.
struct Heads {
  at::Tensor q, k, v;  ///< [B, N, H, D]
  at::Tensor factor;   ///< r [H]; undefined: 1
};

class Attention {
 public:
  /// Options that a recipe may have (recipe_check.h). Throws UsageError for an unknown name.
  explicit Attention(const ModelConfig& config);

  /// [B, N, H D]. key_weight [B, N] is undefined when nothing is padded. Dropout, in training, draws
  /// its seed from torch's default generator.
  at::Tensor operator()(const Heads& heads, const at::Tensor& key_weight, bool training) const;

  /// The matrix [B, H, N, N] by which operator(), without dropout, mixes the values of each head.
  at::Tensor weights(const Heads& heads, const at::Tensor& key_weight) const;

  /// The state before the first token of B sequences. Fastmax only, as extend.
  at::Tensor empty_state(std::int64_t B) const;
  /// The same for tokens first, first + 1, .. of a causal model; those before are in `state`, and these join
  /// them. Its cost does not depend on `first`.
  at::Tensor extend(const Heads& heads, at::Tensor& state, std::int64_t first) const;

 private:
  Heads prepare(const Heads& heads, std::int64_t first) const;
  at::Tensor softmax_weights(const at::Tensor& q, const at::Tensor& k,
                             const at::Tensor& key_weight) const;
  at::Tensor normalise(const at::Tensor& x) const;

  int order_;  // p of Fastmax; 0: softmax or a rival
  std::int64_t H_, D_;
  double dropout_;
  torch_ops::AttentionOptions options_;
  std::optional<Normalize> normalize_here_;  // what the kernel leaves to normalise()
  std::optional<double> largest_factor_;     // beyond it a weight of odd order could be negative
  std::optional<double> score_scale_;        // lambda of softmax and of rivals; none: 1 / sqrt(D)
  std::optional<Rotation> rotation_;
  Rival rival_;  // empty: softmax or Fastmax
};

}  // namespace fastmax::app
