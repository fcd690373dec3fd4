#include "app/evaluate.h"

#include <c10/core/GradMode.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "app/names.h"
#include "app/signals.h"

namespace fastmax::app {

Tensors to_tensors(const Batch& batch) {
  const auto tensor = [](const std::vector<std::int64_t>& values, at::IntArrayRef shape) {
    return at::from_blob(const_cast<std::int64_t*>(values.data()), shape, at::kLong).clone();
  };
  Tensors t;
  if (batch.values.empty()) {
    t.tokens = tensor(batch.tokens, {batch.B, batch.N});
  } else {
    t.tokens = at::from_blob(const_cast<float*>(batch.values.data()),
                             {batch.B, batch.N,
                              static_cast<std::int64_t>(batch.values.size()) / (batch.B * batch.N)},
                             at::kFloat)
                   .clone();
  }
  t.targets = tensor(batch.targets, {static_cast<std::int64_t>(batch.targets.size())});
  const at::Tensor lengths = tensor(batch.lengths, {batch.B, 1});
  at::Tensor real = at::arange(batch.N) < lengths;
  if (batch.mask_zero) {  // a sequence of nothing but zeros keeps them all
    const at::Tensor lit = t.tokens != 0;
    real = real & (lit | ~lit.any(1, /*keepdim=*/true));
  }
  if (!real.all().item<bool>()) t.key_weight = real.to(at::kFloat);
  return t;
}

at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& targets) {
  return at::cross_entropy_loss(logits.flatten(0, -2), targets);
}

std::optional<Score> evaluate(
    const Model& model, const Task& task, Split split, std::int64_t limit,
    const std::function<void(const Tensors&, const at::Tensor& logits)>& see) {
  const c10::AutoGradMode no_gradient(false);
  Score score;
  double loss = 0, right = 0, answers = 0;
  for (const Batch& batch : task.evaluation(split, limit)) {
    if (StopRequest::pending()) return std::nullopt;
    const Tensors t = to_tensors(batch);
    const at::Tensor logits = model.forward(t.tokens, t.key_weight, /*training=*/false);
    if (see) see(t, logits);
    const double count = (t.targets != kNotAsked).sum().item<double>();
    loss += cross_entropy(logits, t.targets).item<double>() * count;
    right += (logits.argmax(-1).flatten() == t.targets).sum().item<double>();
    answers += count;
    score.examples += model.config().classes > 0 ? t.targets.numel() : batch.B;
  }
  score.loss = loss / answers;
  score.accuracy = right / answers;
  return score;
}

nlohmann::ordered_json to_json(const Score& score, const std::string& task,
                               const std::string& split) {
  nlohmann::ordered_json json = {{"task", task},
                                 {"split", split},
                                 {"examples", score.examples},
                                 {"loss", score.loss},
                                 {"accuracy", score.accuracy}};
  if (is_language(task)) {
    json["perplexity"] = std::exp(score.loss);
    json["bits_per_byte"] = score.loss / std::numbers::ln2;
  }
  return json;
}

}  // namespace fastmax::app
