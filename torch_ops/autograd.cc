#include "torch_ops/autograd.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>

#include <string>
#include <tuple>

namespace fastmax::torch_ops {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

template <class Signature>
c10::TypedOperatorHandle<Signature> find_operator(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

using Forward = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&,
                                           const OptionalTensor&, std::int64_t,
                                           std::optional<double>, bool, std::string_view);
using Backward = std::tuple<Tensor, Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&,
                                                    const Tensor&, const OptionalTensor&,
                                                    const Tensor&, const Tensor&, std::int64_t,
                                                    std::optional<double>, bool, std::string_view);

struct Attention : torch::autograd::Function<Attention> {
  static Tensor forward(AutogradContext* context, const Tensor& q, const Tensor& k, const Tensor& v,
                        const OptionalTensor& key_weight, std::int64_t p,
                        std::optional<double> scale, bool causal, std::string method) {
    static const auto op = find_operator<Forward>("fastmax::forward");
    at::AutoDispatchBelowADInplaceOrView below;
    auto [o, g] = op.call(q, k, v, key_weight, p, scale, causal, method);
    context->save_for_backward({q, k, v, key_weight.value_or(Tensor()), o, g});
    context->saved_data = {
        {"p", p}, {"scale", scale}, {"causal", causal}, {"method", std::move(method)}};
    return o;
  }

  static variable_list backward(AutogradContext* context, const variable_list& d_outputs) {
    static const auto op = find_operator<Backward>("fastmax::backward");
    TORCH_CHECK_NOT_IMPLEMENTED(
        !at::GradMode::is_enabled(),
        "fastmax: need create_graph = false, got true: attention is differentiable once");
    const variable_list saved = context->get_saved_variables();
    const auto& options = context->saved_data;
    const OptionalTensor key_weight = saved[3].defined() ? OptionalTensor(saved[3]) : std::nullopt;
    at::AutoDispatchBelowADInplaceOrView below;
    auto [dq, dk, dv] =
        op.call(d_outputs[0], saved[0], saved[1], saved[2], key_weight, saved[4], saved[5],
                options.at("p").toInt(), options.at("scale").toOptional<double>(),
                options.at("causal").toBool(), options.at("method").toStringView());
    const Tensor none;  // key_weight and the four options have no gradient
    return {dq, dk, dv, none, none, none, none, none};
  }
};

}  // namespace

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const std::optional<at::Tensor>& key_weight, std::int64_t p,
                     std::optional<double> scale, bool causal, std::string_view method) {
  return Attention::apply(q, k, v, key_weight, p, scale, causal, std::string(method));
}

}  // namespace fastmax::torch_ops
