#include "app/optimiser.h"

#include <c10/core/GradMode.h>

namespace fastmax::app {

AdamW::AdamW(const Named& parameters, const AdamWConfig& config) : config_(config) {
  for (const auto& [name, weight] : parameters) {
    names_.push_back(name);
    weights_.push_back(weight);
    first_.push_back(at::zeros_like(weight));
    second_.push_back(at::zeros_like(weight));
    steps_.push_back(at::zeros({}));  // float32: exact to 16 million steps
  }
}

double AdamW::step(double learning_rate) {
  const c10::AutoGradMode no_gradient(false);
  std::vector<at::Tensor> gradients;
  for (at::Tensor& weight : weights_) {
    gradients.push_back(weight.grad().defined() ? weight.grad() : at::zeros_like(weight));
  }
  if (config_.clip_value > 0) {
    at::_foreach_clamp_min_(gradients, -config_.clip_value);
    at::_foreach_clamp_max_(gradients, config_.clip_value);
  }
  const double norm = at::stack(at::_foreach_norm(gradients)).norm().item<double>();
  if (config_.clip > 0 && norm > config_.clip) at::_foreach_mul_(gradients, config_.clip / norm);

  at::_foreach_add_(steps_, 1);
  at::_fused_adamw_(weights_, gradients, first_, second_, {}, steps_, learning_rate, config_.beta1,
                    config_.beta2, config_.weight_decay, config_.epsilon, /*amsgrad=*/false,
                    /*maximize=*/false);
  for (at::Tensor& weight : weights_) weight.mutable_grad().reset();
  return norm;
}

AdamW::Named AdamW::state() const {
  Named named;
  for (std::size_t i = 0; i < names_.size(); ++i)
    named.emplace_back("first." + names_[i], first_[i]);
  for (std::size_t i = 0; i < names_.size(); ++i)
    named.emplace_back("second." + names_[i], second_[i]);
  return named;
}

std::int64_t AdamW::steps() const { return steps_.empty() ? 0 : steps_[0].item<std::int64_t>(); }

void AdamW::set_steps(std::int64_t steps) {
  for (at::Tensor& count : steps_) count.fill_(static_cast<double>(steps));
}

}  // namespace fastmax::app
