// How good a model is on a part of the data.
#pragma once
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "app/model.h"
#include "app/task.h"

namespace fastmax::app {

/// Mean cross entropy in nats and share of right answers, over sequences or, of a causal model, over the places asked for.
struct Score {
  std::int64_t examples = 0;  ///< sequences
  double loss = 0, accuracy = 0;
};

/// A batch as the model takes it.
struct Tensors {
  at::Tensor tokens;      ///< [B, N]
  at::Tensor key_weight;  ///< [B, N]; undefined where nothing is padded
  at::Tensor targets;     ///< [B], or [B * N] for a language model
};
Tensors to_tensors(const Batch& batch);

/// Mean cross entropy of logits [B, C] or [B, N, C] against targets, without those that are kNotAsked.
at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& targets);

/// Without gradients and dropout; `limit` > 0 takes that many examples. `see` is shown each batch and its logits, [B, classes],
/// or [B, N, vocabulary] of a language model. None when asked to stop.
std::optional<Score> evaluate(
    const Model& model, const Task& task, Split split, std::int64_t limit = 0,
    const std::function<void(const Tensors&, const at::Tensor& logits)>& see = {});

/// {"task", "split", "examples", "loss", "accuracy"} and for text "perplexity", "bits_per_byte".
nlohmann::ordered_json to_json(const Score& score, const std::string& task,
                               const std::string& split);

}  // namespace fastmax::app
