// The text that a language model has before it, and what comes next.
//
// A model knows data.length places. When they are full, the newest half of the text stays and moves
// to the front: places were learnt from the front on, and so the cost of a byte stays constant, for
// half a context is read once in half a context.
//
// With a state (Fastmax) each byte is read once, at a cost that does not depend on how many came
// before. Without (softmax, or for comparison) all of the text is read again for each byte. Both
// give the same, to rounding.
#pragma once
#include <ATen/ATen.h>

#include <optional>
#include <string>
#include <string_view>

#include "app/model.h"

namespace fastmax::app {

/// Whether the model's attention can keep its past in a state.
bool can_keep_state(const Model& model);

class Context {
 public:
  Context(const Model& model, bool with_state);
  void append(std::string_view bytes) { text_ += bytes; }
  /// The logits [256] of the byte after all that was appended, at least one.
  at::Tensor next();

 private:
  const Model& model_;
  std::string text_;          // what fits
  std::optional<Past> past_;  // of the beginning of text_; none: without a state
};

}  // namespace fastmax::app
