#include "app/recipe_check.h"

#include <algorithm>

#include "app/error.h"
#include "app/image_task.h"
#include "app/model_config.h"
#include "app/names.h"
#include "app/recall_task.h"
#include "app/task.h"
#include "app/variants.h"

namespace fastmax::app {

std::int64_t natural_length(const Recipe& recipe) {
  if (const std::int64_t side = image_side(recipe.task); side > 0) {
    return (side / recipe.data.patch) * (side / recipe.data.patch);
  }
  if (recipe.task == "text" || recipe.task == "retrieval") return 4000;  // the Arena's
  if (recipe.task == "listops") return recipe.data.variant == "short" ? 64 : 2000;
  return 128;
}

namespace {

std::optional<Contradiction> contradicting_data(const Recipe& recipe) {
  const Recipe::DataKeys& d = recipe.data;
  const std::int64_t side = image_side(recipe.task);
  if (is_recall(recipe.task)) {
    if (const auto found = recall::contradiction(recall_options(recipe))) {
      return {{"data." + found->first, found->second}};
    }
    if (d.length_from > 0) {
      recall::Options first = recall_options(recipe);
      first.length = d.length_from;
      if (const auto found = recall::contradiction(first)) {
        return {{"data.length_from", found->second}};
      }
    }
    if (!d.path.empty()) {
      return {
          {"data.path", text("expected none for ", recipe.task,
                             ", whose sequences are made while it trains, got \"", d.path, "\"")}};
    }
  }
  if (const std::int64_t most = is_recall(recipe.task) ? d.length : 0; d.length_from > most) {
    return {{"data.length_from",
             most > 0
                 ? text("expected at most data.length = ", most, ", got ", d.length_from)
                 : text("expected 0 for another task than mqar and needle, got ", d.length_from)}};
  }
  const bool reads_bytes = recipe.task == "text" || recipe.task == "retrieval";
  if (const std::int64_t most = reads_bytes ? d.length : 0; d.cut > most) {
    return {{"data.cut", reads_bytes
                             ? text("expected at most data.length = ", most, ", got ", d.cut)
                             : text("expected 0 for another task than text and retrieval, "
                                    "got ",
                                    d.cut)}};
  }
  const std::vector<std::string> variants = variants_of(recipe.task);
  if (std::find(variants.begin(), variants.end(), d.variant) == variants.end()) {
    return {
        {"data.variant", text("expected ", variants.size() > 1 ? "one of " : "", listed(variants),
                              " for ", recipe.task, ", got \"", d.variant, "\"")}};
  }
  for (const auto& [path, value] : {std::pair{"data.pairs", d.pairs}, {"data.keys", d.keys}}) {
    if (recipe.task != "mqar" && value != 0) {
      return {{path, text("expected 0 for another task than mqar, got ", value)}};
    }
  }
  if (side == 0) {
    if (d.patch > 1)
      return {{"data.patch", text("expected 1 for a task without images, got ", d.patch)}};
    if (d.mask_zero_pixels) {
      return {{"data.mask_zero_pixels", "expected false for a task without images, got true"}};
    }
    return std::nullopt;
  }
  if (side % d.patch != 0) {
    return {{"data.patch",
             text("expected a divisor of ", side, ", the pixels along an edge, got ", d.patch)}};
  }
  if (d.mask_zero_pixels && d.patch > 1) {
    return {{"data.mask_zero_pixels", text("expected false where a token is a patch (data.patch = ",
                                           d.patch, "), got true")}};
  }
  if (d.length != natural_length(recipe)) {
    return {
        {"data.length", text("expected ", natural_length(recipe), ", the tokens of an image of ",
                             side, " x ", side, " pixels, got ", d.length)}};
  }
  return std::nullopt;
}

}  // namespace

std::optional<Contradiction> contradiction(const Recipe& recipe) {
  if (const auto found = contradicting_data(recipe)) return found;
  const Recipe::ModelKeys& m = recipe.model;
  if (m.dim % m.heads != 0) {
    return {{"model.heads", text("expected a divisor of model.dim = ", m.dim, ", got ", m.heads)}};
  }
  if (m.positions == "rotary" && m.dim / m.heads % 2 != 0) {
    return {{"model.positions", text("expected an even head size model.dim / model.heads for "
                                     "\"rotary\", which turns pairs of channels, got ",
                                     m.dim, " / ", m.heads)}};
  }
  if (m.normalize == "max_norm" && task_shape(recipe).classes == 0) {
    return {{"model.normalize",
             "expected standardize, l2 or none for a language model, got \"max_norm\": the largest "
             "norm of a sequence tells of tokens to come"}};
  }
  if (recipe.train.until_accuracy > 0 && is_language(recipe.task)) {
    return {{"train.until_accuracy",
             text("expected 0 for a language model, whose best weights have the least loss, got ",
                  recipe.train.until_accuracy)}};
  }
  if (m.pool == "class" && task_shape(recipe).classes == 0) {
    return {{"model.pool",
             "expected tokens or padded for a language model, which classifies no sequence, got "
             "\"class\""}};
  }
  if (m.classifier == "gelu" && (m.pool == "class" || task_shape(recipe).classes == 0)) {
    return {{"model.classifier",
             "expected relu, or a classifier with another pool than class, which has the hidden "
             "layer that this is about, got \"gelu\""}};
  }
  if (m.attention == "informer" && task_shape(recipe).classes == 0) {
    return {{"model.attention",
             "expected another one for a language model, got \"informer\": which of its queries "
             "attend is decided by all of them, so it tells of tokens to come"}};
  }
  const int p = fastmax_order(m.attention);
  if (p == 0) return std::nullopt;  // the rest is Fastmax's
  if (m.normalize == "max_norm" && m.scale_learnable) {
    return {{"model.scale_learnable",
             "expected false with model.normalize = \"max_norm\", got true: only standardize, l2 "
             "and none leave the scale to the model"}};
  }
  if (m.normalize == "none" && p % 2 != 0 && m.scale == "default") {
    return {{"model.scale", text("expected a number, 1/sqrt(D) or 1/D with model.normalize = "
                                 "\"none\" and ",
                                 m.attention,
                                 ", got \"default\": scores are not bounded, so no scale keeps "
                                 "every weight positive")}};
  }
  return std::nullopt;
}

Recipe with_attention(Recipe recipe, const std::string& attention) {
  recipe.model.attention = attention;
  if (const auto found = contradiction(recipe)) {
    throw UsageError(text("--attention ", attention, ": ", found->path, ": ", found->what));
  }
  return recipe;
}

}  // namespace fastmax::app
