// The one list of a recipe's keys and what each accepts: reading, writing, checking and suggesting all walk
// it.
#pragma once
#include <string>
#include <vector>

#include "app/names.h"
#include "app/recipe.h"

namespace fastmax::app {

struct Range {
  double least = 0, most = 1e9;
};
struct OneOf {
  std::vector<std::string> names;
};
struct Flag {};     // true or false
struct Shorthand {  // read, then said by other keys: never written
  Range range;
};
struct Text {};    // any string
struct NumberOr {  // a positive number, or one of these words
  std::vector<std::string> words;
};

/// visit(path, value, rule) for every key of the recipe, in the order of its file.
template <class R, class Visit>
void for_each_key(R& r, Visit&& key) {
  const Range count{1, 1e9}, size{1, 65536}, counter{0, 1e9}, fraction{0, 1};
  key("task", r.task, OneOf{task_names()});
  key("seed", r.seed, Range{0, double(kLargestSeed)});
  key("model.attention", r.model.attention, OneOf{attention_names_in_recipes()});
  key("model.p", r.model.p, Shorthand{{1, 4}});
  key("model.layers", r.model.layers, Range{1, 1000});
  key("model.heads", r.model.heads, size);
  key("model.dim", r.model.dim, size);
  key("model.mlp", r.model.mlp, size);
  key("model.dropout", r.model.dropout, Range{0, 0.99});
  key("model.embedding_std", r.model.embedding_std, Range{0, 100});
  key("model.scale", r.model.scale, NumberOr{{"default", "1/sqrt(D)", "1/D"}});
  key("model.scale_learnable", r.model.scale_learnable, Flag{});
  key("model.normalize", r.model.normalize, OneOf{normalize_names()});
  key("model.attention_dropout", r.model.attention_dropout, Range{0, 0.99});
  key("model.attention_dropout_mode", r.model.attention_dropout_mode,
      OneOf{{"quadratic", "standard", "token"}});
  key("model.convolution", r.model.convolution, Range{0, 1024});
  key("model.positions", r.model.positions, OneOf{{"learned", "sinusoidal", "rotary", "none"}});
  key("model.block", r.model.block, OneOf{{"usual", "authors"}});
  key("model.pool", r.model.pool, OneOf{{"tokens", "padded", "class"}});
  key("model.classifier", r.model.classifier, OneOf{{"relu", "gelu"}});
  key("train.steps", r.train.steps, count);
  key("train.batch", r.train.batch, Range{1, 1e6});
  key("train.learning_rate", r.train.learning_rate, Range{0, 1e3});
  key("train.warmup", r.train.warmup, counter);
  key("train.warmup_from", r.train.warmup_from, fraction);
  key("train.decay_to", r.train.decay_to, fraction);
  key("train.beta1", r.train.beta1, Range{0, 0.999999});
  key("train.beta1_peak", r.train.beta1_peak, Range{0, 0.999999});
  key("train.beta2", r.train.beta2, Range{0, 0.999999});
  key("train.epsilon", r.train.epsilon, Range{1e-30, 1});
  key("train.weight_decay", r.train.weight_decay, Range{0, 1e3});
  key("train.clip", r.train.clip, Range{0, 1e9});
  key("train.clip_value", r.train.clip_value, Range{0, 1e9});
  key("train.group_by_length", r.train.group_by_length, Flag{});
  key("train.best_from", r.train.best_from, fraction);
  key("train.until_accuracy", r.train.until_accuracy, fraction);
  key("train.evaluate_every", r.train.evaluate_every, counter);
  key("train.evaluate_examples", r.train.evaluate_examples, counter);
  key("train.log_every", r.train.log_every, count);
  key("train.checkpoint_seconds", r.train.checkpoint_seconds, Range{0, 30});
  key("train.threads", r.train.threads, Range{0, 4096});
  key("data.path", r.data.path, Text{});
  key("data.variant", r.data.variant, OneOf{{"lra", "short", "hard", "inter", "easy"}});
  key("data.length", r.data.length, Range{0, 1 << 24});
  key("data.length_from", r.data.length_from, Range{0, 1 << 24});
  key("data.cut", r.data.cut, Range{0, 1 << 24});
  key("data.pairs", r.data.pairs, Range{0, 1 << 20});
  key("data.keys", r.data.keys, Range{0, 1 << 20});
  key("data.patch", r.data.patch, Range{1, 1024});
  key("data.mask_zero_pixels", r.data.mask_zero_pixels, Flag{});
}

}  // namespace fastmax::app
