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
  require(1 <= p && p <= 4, "1 <= p <= 4, got ", p);
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

std::tuple<Tensor, Tensor> forward(const Tensor& q, const Tensor& k, const Tensor& v,
                                   const std::optional<Tensor>& key_weight, std::int64_t p,
                                   std::optional<double> scale, bool causal,
                                   std::string_view method) {
  const Options options = make_options(p, scale, causal, method);
  return with_dtype_of(q, [&]<class T>() {
    const Inputs in(q, k, v, key_weight);
    const Tensor o = empty_in_layout_of(in.q, in.v.size(3));
    const Tensor g = torch::stable::new_empty(in.q, {in.q.size(0), in.q.size(1), in.q.size(2)});
    fastmax::forward<T>({.q = bhnd<T>(in.q),
                         .k = bhnd<T>(in.k),
                         .v = bhnd<T>(in.v),
                         .key_weight = bn<T>(in.key_weight),
                         .o = bhnd_mutable<T>(o),
                         .g = bhn_mutable<T>(g)},
                        options, torch_execution());
    return std::tuple(o, g);
  });
}

std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& d_o_in, const Tensor& q, const Tensor& k,
                                            const Tensor& v,
                                            const std::optional<Tensor>& key_weight,
                                            const Tensor& o_in, const Tensor& g_in, std::int64_t p,
                                            std::optional<double> scale, bool causal,
                                            std::string_view method) {
  const Options options = make_options(p, scale, causal, method);
  return with_dtype_of(q, [&]<class T>() {
    const Inputs in(q, k, v, key_weight);
    const Tensor d_o = readable(d_o_in, "d_o", "[B, H, N, E]", 4, q.scalar_type());
    const Tensor o = readable(o_in, "o", "[B, H, N, E]", 4, q.scalar_type());
    const Tensor g = readable(g_in, "g", "[B, H, N]", 3, q.scalar_type());
    const Tensor dq = empty_in_layout_of(in.q, in.q.size(3));
    const Tensor dk = empty_in_layout_of(in.k, in.k.size(3));
    const Tensor dv = empty_in_layout_of(in.v, in.v.size(3));
    fastmax::backward<T>({.q = bhnd<T>(in.q),
                          .k = bhnd<T>(in.k),
                          .v = bhnd<T>(in.v),
                          .key_weight = bn<T>(in.key_weight),
                          .o = bhnd<T>(o),
                          .g = bhn<T>(g),
                          .d_o = bhnd<T>(d_o),
                          .dq = bhnd_mutable<T>(dq),
                          .dk = bhnd_mutable<T>(dk),
                          .dv = bhnd_mutable<T>(dv)},
                         options, torch_execution());
    return std::tuple(dq, dk, dv);
  });
}

/// "direct: ..." or "factorised: ...": the form that such a call takes on this machine, and why.
std::string plan(const Tensor& q, const Tensor& k, const Tensor& v, std::int64_t p, bool causal,
                 std::string_view method, bool backward) {
  const Options options = make_options(p, std::nullopt, causal, method);
  return with_dtype_of(q, [&]<class T>() {
    const Inputs in(q, k, v, std::nullopt);
    const BhndView<const T> q_view = bhnd<T>(in.q), k_view = bhnd<T>(in.k), v_view = bhnd<T>(in.v);
    const int threads = static_cast<int>(torch::stable::get_num_threads());
    const BhndView<T> o = contiguous<T>(nullptr, q_view.B, q_view.H, q_view.N, v_view.D);
    Plan chosen;
    if (backward) {
      const auto like = [](const BhndView<const T>& x) {
        return contiguous<T>(nullptr, x.B, x.H, x.N, x.D);
      };
      chosen = fastmax::plan<T>(
          BackwardArgs<T>{.q = q_view,
                          .k = k_view,
                          .v = v_view,
                          .o = o,
                          .g = contiguous<const T>(nullptr, q_view.B, q_view.H, q_view.N),
                          .d_o = o,
                          .dq = like(q_view),
                          .dk = like(k_view),
                          .dv = like(v_view)},
          options, threads);
    } else {
      chosen = fastmax::plan<T>(ForwardArgs<T>{.q = q_view, .k = k_view, .v = v_view, .o = o},
                                options, threads);
    }
    return std::string(chosen.form == Form::kDirect ? "direct: " : "factorised: ") + chosen.why;
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
