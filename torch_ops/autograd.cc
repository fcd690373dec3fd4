#include "torch_ops/autograd.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include <string_view>
#include <tuple>

namespace fastmax::torch_ops {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;
using OptionalList = std::optional<at::ArrayRef<double>>;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

template <class Signature>
c10::TypedOperatorHandle<Signature> find_operator(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

// As torch_ops/schema.cc declares them.
using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor>(
    const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& key_weight,
    const OptionalTensor& initial_state, const OptionalTensor& cu_q, const OptionalTensor& cu_k,
    const OptionalTensor& seed, std::int64_t p, std::optional<double> scale,
    std::string_view normalize, OptionalList coefficients, bool causal, std::string_view method,
    double dropout_p, std::string_view dropout, std::string_view floor, std::int64_t chunk,
    bool return_state);
using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor>(
    const Tensor& d_o, const OptionalTensor& d_final_state, const Tensor& o, const Tensor& g,
    const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& key_weight,
    const OptionalTensor& initial_state, const OptionalTensor& cu_q, const OptionalTensor& cu_k,
    const OptionalTensor& seed, std::int64_t p, std::optional<double> scale,
    std::string_view normalize, OptionalList coefficients, bool causal, std::string_view method,
    double dropout_p, std::string_view dropout, std::string_view floor, std::int64_t chunk);
using Step = Tensor(const Tensor& q, const Tensor& k, const Tensor& v, Tensor& state,
                    const OptionalTensor& key_weight, std::int64_t p, std::optional<double> scale,
                    std::string_view normalize, OptionalList coefficients, std::string_view floor);
using Weights = Tensor(const Tensor& q, const Tensor& k, const OptionalTensor& key_weight,
                       const OptionalTensor& rows, const OptionalTensor& seed, std::int64_t p,
                       std::optional<double> scale, std::string_view normalize,
                       OptionalList coefficients, bool causal, std::string_view method,
                       double dropout_p, std::string_view dropout, std::string_view floor,
                       std::int64_t chunk);

OptionalList list_of(const AttentionOptions& options) {
  return options.coefficients ? OptionalList(*options.coefficients) : std::nullopt;
}
OptionalTensor seed_of(const AttentionOptions& options) {
  return options.dropout_p > 0 ? OptionalTensor(at::scalar_tensor(options.seed, at::kLong))
                               : std::nullopt;
}
OptionalTensor if_defined(const Tensor& t) {
  return t.defined() ? OptionalTensor(t) : std::nullopt;
}

struct SavedOptions : torch::CustomClassHolder {
  AttentionOptions options;
  explicit SavedOptions(const AttentionOptions& options) : options(options) {}
};

/// Gives {o}, or {o, final_state} if that is wanted.
struct Attention : torch::autograd::Function<Attention> {
  static variable_list forward(AutogradContext* context, const Tensor& q, const Tensor& k,
                               const Tensor& v, const OptionalTensor& key_weight,
                               const OptionalTensor& initial_state, const AttentionOptions& options,
                               bool return_state) {
    static const auto op = find_operator<Forward>("fastmax::forward");
    at::AutoDispatchBelowADInplaceOrView below;
    auto [o, g, final_state, smallest] = op.call(
        q, k, v, key_weight, initial_state, std::nullopt, std::nullopt, seed_of(options), options.p,
        options.scale, options.normalize, list_of(options), options.causal, options.method,
        options.dropout_p, options.dropout, options.floor, options.chunk, return_state);
    context->save_for_backward(
        {q, k, v, key_weight.value_or(Tensor()), initial_state.value_or(Tensor()), o, g});
    context->saved_data["options"] =
        c10::IValue::make_capsule(c10::make_intrusive<SavedOptions>(options));
    context->set_materialize_grads(false);
    return return_state ? variable_list{o, final_state} : variable_list{o};
  }

  static variable_list backward(AutogradContext* context, const variable_list& d_results) {
    static const auto op = find_operator<Backward>("fastmax::backward");
    TORCH_CHECK_NOT_IMPLEMENTED(
        !at::GradMode::is_enabled(),
        "fastmax: need create_graph = false, got true: attention is differentiable once");
    const variable_list saved = context->get_saved_variables();
    const auto capsule = context->saved_data.at("options").toCapsule();
    const AttentionOptions& options = static_cast<const SavedOptions&>(*capsule).options;
    const Tensor& o = saved[5];
    const Tensor d_o = d_results[0].defined() ? d_results[0] : at::zeros_like(o);
    const OptionalTensor d_final_state =
        d_results.size() > 1 ? if_defined(d_results[1]) : std::nullopt;
    at::AutoDispatchBelowADInplaceOrView below;
    auto [dq, dk, dv, d_initial_state] =
        op.call(d_o, d_final_state, o, saved[6], saved[0], saved[1], saved[2], if_defined(saved[3]),
                if_defined(saved[4]), std::nullopt, std::nullopt, seed_of(options), options.p,
                options.scale, options.normalize, list_of(options), options.causal, options.method,
                options.dropout_p, options.dropout, options.floor, options.chunk);
    const Tensor none;  // key_weight and the options have no gradient
    return {dq, dk, dv, none, d_initial_state, none, none};
  }
};

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v,
                 const OptionalTensor& key_weight, const AttentionOptions& options) {
  return Attention::apply(q, k, v, key_weight, std::nullopt, options, false)[0];
}

std::pair<Tensor, Tensor> attention_with_state(const Tensor& q, const Tensor& k, const Tensor& v,
                                               const OptionalTensor& key_weight,
                                               const OptionalTensor& initial_state,
                                               const AttentionOptions& options) {
  const variable_list results = Attention::apply(q, k, v, key_weight, initial_state, options, true);
  return {results[0], results[1]};
}

Tensor step(const Tensor& q, const Tensor& k, const Tensor& v, Tensor& state,
            const OptionalTensor& key_weight, const AttentionOptions& options) {
  static const auto op = find_operator<Step>("fastmax::step");
  Tensor o;
  {
    at::AutoDispatchBelowADInplaceOrView below;
    o = op.call(q, k, v, state, key_weight, options.p, options.scale, options.normalize,
                list_of(options), options.floor);
  }
  if (!state.is_inference()) state.unsafeGetTensorImpl()->bump_version();
  return o;
}

Tensor attention_weights(const Tensor& q, const Tensor& k, const OptionalTensor& key_weight,
                         const AttentionOptions& options) {
  static const auto op = find_operator<Weights>("fastmax::attention_weights");
  at::AutoDispatchBelowADInplaceOrView below;
  return op.call(q, k, key_weight, std::nullopt, seed_of(options), options.p, options.scale,
                 options.normalize, list_of(options), options.causal, options.method,
                 options.dropout_p, options.dropout, options.floor, options.chunk);
}

}  // namespace fastmax::torch_ops
