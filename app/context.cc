#include "app/context.h"

#include <algorithm>

namespace fastmax::app {

bool can_keep_state(const Model& model) { return fastmax_order(model.config().attention) > 0; }

Context::Context(const Model& model, bool with_state) : model_(model) {
  if (with_state) past_ = model.empty_past(1);
}

at::Tensor Context::next() {
  const std::size_t places = static_cast<std::size_t>(model_.config().length);
  if (text_.size() > places) {
    text_.erase(0, text_.size() - std::max<std::size_t>(1, places / 2));
    if (past_) past_ = model_.empty_past(1);
  }
  const std::int64_t read = past_ ? past_->tokens : 0;
  const std::int64_t count = static_cast<std::int64_t>(text_.size()) - read;
  const at::Tensor tokens = at::from_blob(text_.data() + read, {1, count}, at::kByte).to(at::kLong);
  return past_ ? model_.next(tokens, *past_)[0]
               : model_.forward(tokens, {}, /*training=*/false)[0][-1];
}

}  // namespace fastmax::app
