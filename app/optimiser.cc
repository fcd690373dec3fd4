#include "app/optimiser.h"

#include <c10/core/GradMode.h>

#include <algorithm>

namespace fastmax::app {

namespace {

std::vector<at::Tensor> pick(const std::vector<at::Tensor>& from,
                             const std::vector<std::size_t>& members) {
  std::vector<at::Tensor> picked;
  for (const std::size_t i : members) picked.push_back(from[i]);
  return picked;
}

}  // namespace

AdamW::AdamW(const Named& parameters, const AdamWConfig& config,
             const std::map<std::string, double>& rates)
    : config_(config) {
  for (const auto& [name, weight] : parameters) {
    const auto rate = rates.find(name);
    const Group alike =
        rate == rates.end() ? Group{1, config.weight_decay, {}} : Group{rate->second, 0, {}};
    auto group = std::find_if(groups_.begin(), groups_.end(), [&](const Group& g) {
      return g.rate == alike.rate && g.weight_decay == alike.weight_decay;
    });
    if (group == groups_.end()) group = groups_.insert(group, alike);
    group->members.push_back(names_.size());
    names_.push_back(name);
    weights_.push_back(weight);
    first_.push_back(at::zeros_like(weight));
    second_.push_back(at::zeros_like(weight));
    steps_.push_back(at::zeros({}));  // float32: exact to 16 million steps
  }
}

double AdamW::step(double learning_rate, std::optional<double> beta1) {
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
  for (const Group& group : groups_) {
    const auto of = [&](const std::vector<at::Tensor>& all) { return pick(all, group.members); };
    at::_fused_adamw_(of(weights_), of(gradients), of(first_), of(second_), {}, of(steps_),
                      group.rate * learning_rate, beta1.value_or(config_.beta1), config_.beta2,
                      group.weight_decay, config_.epsilon, /*amsgrad=*/false, /*maximize=*/false);
  }
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
