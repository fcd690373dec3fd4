// The operators on the CPU: check what only tensors can get wrong, make views, call the core. The
// core checks the rest, before any work; its one line is the text of the exception that the caller
// sees.
#include <torch/csrc/stable/library.h>

#include <string>
#include <string_view>
#include <tuple>

#include "fastmax/fastmax.h"
#include "torch_ops/threads.h"
#include "torch_ops/views.h"

namespace fastmax::torch_ops {
namespace {

Form parse_form(std::string_view method) {
  if (method == "auto") return Form::kAuto;
  if (method == "direct") return Form::kDirect;
  require(method == "factorised", "method 'auto', 'direct' or 'factorised', got '", method, "'");
  return Form::kFactorised;
}

Options make_options(std::int64_t p, std::optional<double> scale, bool causal,
                     std::string_view method) {
  require(1 <= p && p <= 4, "p in 1..4, got ", p);
  return {.p = static_cast<int>(p), .causal = causal, .scale = scale, .form = parse_form(method)};
}

/// q, k, v and key_weight with adjacent rows, all of one dtype.
struct Inputs {
  Tensor q, k, v;
  std::optional<Tensor> key_weight;

  Inputs(const Tensor& q_in, const Tensor& k_in, const Tensor& v_in,
         const std::optional<Tensor>& weight_in)
      : q(readable(q_in, "q", "[B, H, N, D]", 4, q_in.scalar_type())),
        k(readable(k_in, "k", "[B, Hkv, M, D]", 4, q_in.scalar_type())),
        v(readable(v_in, "v", "[B, Hkv, M, E]", 4, q_in.scalar_type())) {
    if (weight_in) {
      key_weight = readable(*weight_in, "key_weight", "[B, M]", 2, q_in.scalar_type());
    }
  }
};

/// New o [B, H, N, E] and g [B, H, N], and the call that fills them.
template <class T>
struct Forward {
  Tensor o, g;
  ForwardArgs<T> args;

  explicit Forward(const Inputs& in)
      : o(empty_in_layout_of(in.q, in.v.size(3))),
        g(torch::stable::new_empty(in.q, {in.q.size(0), in.q.size(1), in.q.size(2)})),
        args{.q = bhnd<T>(in.q),
             .k = bhnd<T>(in.k),
             .v = bhnd<T>(in.v),
             .key_weight = bn<T>(in.key_weight),
             .o = bhnd_mutable<T>(o),
             .g = bhn_mutable<T>(g)} {}
};

/// New dq, dk and dv, and the call that fills them.
template <class T>
struct Backward {
  Tensor dq, dk, dv;
  BackwardArgs<T> args;

  Backward(const Inputs& in, const Tensor& o, const Tensor& g, const Tensor& d_o)
      : dq(empty_in_layout_of(in.q, in.q.size(3))),
        dk(empty_in_layout_of(in.k, in.k.size(3))),
        dv(empty_in_layout_of(in.v, in.v.size(3))),
        args{.q = bhnd<T>(in.q),
             .k = bhnd<T>(in.k),
             .v = bhnd<T>(in.v),
             .key_weight = bn<T>(in.key_weight),
             .o = bhnd<T>(o),
             .g = bhn<T>(g),
             .d_o = bhnd<T>(d_o),
             .dq = bhnd_mutable<T>(dq),
             .dk = bhnd_mutable<T>(dk),
             .dv = bhnd_mutable<T>(dv)} {}
};

std::tuple<Tensor, Tensor> forward(const Tensor& q, const Tensor& k, const Tensor& v,
                                   const std::optional<Tensor>& key_weight, std::int64_t p,
                                   std::optional<double> scale, bool causal,
                                   std::string_view method) {
  const Options options = make_options(p, scale, causal, method);
  return with_dtype_of(q, [&]<class T>() {
    const Inputs in(q, k, v, key_weight);
    const Forward<T> call(in);
    fastmax::forward(call.args, options, torch_execution());
    return std::tuple(call.o, call.g);
  });
}

std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& d_o, const Tensor& q, const Tensor& k,
                                            const Tensor& v,
                                            const std::optional<Tensor>& key_weight,
                                            const Tensor& o, const Tensor& g, std::int64_t p,
                                            std::optional<double> scale, bool causal,
                                            std::string_view method) {
  const Options options = make_options(p, scale, causal, method);
  return with_dtype_of(q, [&]<class T>() {
    const Inputs in(q, k, v, key_weight);
    const Tensor o_in = readable(o, "o", "[B, H, N, E]", 4, q.scalar_type());
    const Tensor g_in = readable(g, "g", "[B, H, N]", 3, q.scalar_type());
    const Tensor d_o_in = readable(d_o, "d_o", "[B, H, N, E]", 4, q.scalar_type());
    const Backward<T> call(in, o_in, g_in, d_o_in);
    fastmax::backward(call.args, options, torch_execution());
    return std::tuple(call.dq, call.dk, call.dv);
  });
}

/// "direct: ..." or "factorised: ...": the form that such a call takes on this machine, and why.
/// The outputs that the plan is made for are never written, so they cost address space only.
std::string plan(const Tensor& q, const Tensor& k, const Tensor& v, std::int64_t p, bool causal,
                 std::string_view method, bool backward) {
  const Options options = make_options(p, std::nullopt, causal, method);
  return with_dtype_of(q, [&]<class T>() {
    const Inputs in(q, k, v, std::nullopt);
    const int threads = static_cast<int>(torch::stable::get_num_threads());
    const Forward<T> call(in);
    const Plan plan =
        backward ? fastmax::plan(Backward<T>(in, call.o, call.g, call.o).args, options, threads)
                 : fastmax::plan(call.args, options, threads);
    return std::string(plan.form == Form::kDirect ? "direct: " : "factorised: ") + plan.why;
  });
}

std::string targets() { return target_names(); }

}  // namespace
}  // namespace fastmax::torch_ops

STABLE_TORCH_LIBRARY_IMPL(fastmax, CPU, m) {
  m.impl("forward", TORCH_BOX(&fastmax::torch_ops::forward));
  m.impl("backward", TORCH_BOX(&fastmax::torch_ops::backward));
  m.impl("plan", TORCH_BOX(&fastmax::torch_ops::plan));
}

STABLE_TORCH_LIBRARY_IMPL(fastmax, CompositeExplicitAutograd, m) {
  m.impl("targets", TORCH_BOX(&fastmax::torch_ops::targets));
}
