#include "app/bench_contender.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "app/bench_extra.h"
#include "torch_ops/threads.h"

namespace fastmax::app {
namespace {

double numel(const BenchShape& s) { return double(s.B) * double(s.H) * double(s.N) * double(s.D); }
double matrix(const BenchShape& s) { return double(s.B) * double(s.H) * double(s.N) * double(s.N); }
double size_of(const BenchShape& s) { return double(at::elementSize(s.dtype)); }

/// Tensor memory that a piece of work allocates on this thread: the most at once, and what is left after it.
class MemoryMeter : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override {
    now_ += size;
    peak_ = std::max(peak_, now_);
  }
  bool memoryProfilingEnabled() const override { return true; }

  struct Reading {
    double peak = 0, kept = 0;
  };
  static Reading read(const std::function<void()>& work) {
    const auto meter = std::make_shared<MemoryMeter>();
    const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, meter);
    work();
    return {double(meter->peak_), double(meter->now_)};
  }

 private:
  int64_t now_ = 0, peak_ = 0;
};

template <class T>
constexpr at::ScalarType kTypeOf = std::is_same_v<T, double> ? at::kDouble : at::kFloat;

template <class T>
BhndView<T> view(const at::Tensor& x) {
  return {static_cast<T*>(x.data_ptr()),
          x.size(0),
          x.size(1),
          x.size(2),
          x.size(3),
          x.stride(0),
          x.stride(1),
          x.stride(2)};
}
template <class T>
BhnView<T> denominators(const at::Tensor& g) {
  return {static_cast<T*>(g.data_ptr()), g.size(0), g.size(1), g.size(2), g.stride(0), g.stride(1)};
}

Options options_of(const std::string& method, int order, const BenchShape& shape) {
  Options options;
  options.p = order;
  options.causal = shape.causal;
  options.dropout = shape.dropout;
  if (method == "direct") options.form = Form::kDirect;
  if (method == "factorised") options.form = Form::kFactorised;
  return options;
}

template <class T>
void prepare_fastmax(Contender& c, const BenchInputs& in, const Options& options) {
  const BenchShape& s = c.shape;
  BenchOutputs& out = *c.outputs;
  const auto make = [](at::Tensor& x, const at::Tensor& like) {
    if (!x.defined()) x = at::full_like(like, NAN);  // an unwritten output is a wrong answer
  };
  const auto read = [&](const at::Tensor& x) { return view<const T>(given(s, x)); };
  const auto write = [&](const at::Tensor& x) { return view<T>(given(s, x)); };
  const auto extras = std::make_shared<const Extras>(s, c.order, kTypeOf<Compute<T>>);
  const bool first = !out.o.defined();
  make(out.o, in.q);
  if (first) out.g = laid_out(s, at::full({s.B, s.H, s.N}, NAN, kTypeOf<Compute<T>>));
  const at::Tensor k = own_heads(s, in.k), v = own_heads(s, in.v);
  ForwardArgs<T> forward_args{.q = read(in.q),
                              .k = read(k),
                              .v = read(v),
                              .o = write(out.o),
                              .g = denominators<Compute<T>>(given(s, out.g))};
  extras->add_to(forward_args);
  Plan plan;
  if (!s.backward) {
    plan = extras->plan(forward_args, options);
    c.call = [=] { extras->run(forward_args, options); };
  } else {
    make(out.dq, in.q);
    make(out.dk, k);
    make(out.dv, v);
    BackwardArgs<T> args{.q = forward_args.q,
                         .k = forward_args.k,
                         .v = forward_args.v,
                         .o = forward_args.o,
                         .g = forward_args.g,
                         .d_o = read(in.d_o),
                         .dq = write(out.dq),
                         .dk = write(out.dk),
                         .dv = write(out.dv)};
    extras->add_to(args);
    plan = extras->plan(args, options);
    if (first) extras->run(forward_args, options);
    c.call = [=] { extras->run(args, options); };
    c.saved_bytes =
        double(in.q.nbytes() + in.k.nbytes() + in.v.nbytes() + out.o.nbytes() + out.g.nbytes());
  }
  c.path = plan.form == Form::kFactorised ? "factorised" : "direct";
  c.why = plan.why;
  c.workspace_bytes = double(plan.workspace_bytes);
}

/// softmax(q k^T / sqrt(D)) v, every matrix written out, as one writes it by hand.
at::Tensor materialised(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const at::Tensor& hidden) {
  at::Tensor s = (q / std::sqrt(double(q.size(3)))).matmul(k.transpose(-2, -1));
  if (hidden.defined()) s.masked_fill_(hidden, -INFINITY);
  return s.softmax(-1).matmul(v);
}

}  // namespace

std::string dtype_name(at::ScalarType dtype) {
  return dtype == at::kFloat    ? "f32"
         : dtype == at::kDouble ? "f64"
         : dtype == at::kHalf   ? "f16"
                                : "bf16";
}

const std::vector<std::string>& bench_methods() {
  static const std::vector<std::string> names = {"fastmax", "direct", "factorised", "sdpa",
                                                 "softmax"};
  return names;
}

BenchInputs bench_inputs(const BenchShape& s) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(42);
  const auto normal = [&](std::int64_t heads) {
    const at::Tensor x = at::randn({s.B, heads, s.N, s.D}, generator, at::kFloat).to(s.dtype);
    return s.tokens_first ? x.transpose(1, 2).contiguous().transpose(1, 2) : laid_out(s, x);
  };
  const auto keys = [&] {
    return normal(s.extra == Extra::kGrouped ? 1 : s.H).expand({s.B, s.H, s.N, s.D});
  };
  BenchInputs in{.q = normal(s.H), .k = keys(), .v = keys(), .d_o = {}};
  if (s.backward) in.d_o = normal(s.H);
  return in;
}

double input_bytes(const BenchShape& s) {
  const double tensors = s.backward ? 4 : 3;
  return numel(s) *
         (tensors * size_of(s) + sizeof(float));  // one more, in float32, while it is drawn
}

double useful_flops(const BenchShape& s, int order, bool factorised) {
  double F = 1;  // C(D + p, p)
  for (int i = 1; i <= order; ++i) F = F * double(s.D + i) / i;
  const double N = double(s.N), D = double(s.D), heads = double(s.B * s.H);
  const double flops = factorised ? 4 * N * F * (D + 1) : 2 * N * N * (D + D) / (s.causal ? 2 : 1);
  return heads * flops * (s.backward ? 2.5 : 1);
}

double expected_bytes(const std::string& method, const BenchShape& s) {
  const double outputs = (s.backward ? 5 : 1) * numel(s) * size_of(s);
  if (method != "softmax") return outputs;
  // Scores and weights; backward adds the gradients of both.
  return outputs + matrix(s) * size_of(s) * (s.backward ? 4 : 2) +
         (s.causal ? double(s.N) * double(s.N) : 0);
}

Contender fastmax_contender(const std::string& method, int order, const BenchShape& shape,
                            const BenchInputs& in, const std::shared_ptr<BenchOutputs>& outputs) {
  Contender c{.method = method, .order = order, .shape = shape, .inputs = in, .outputs = outputs};
  const Options options = options_of(method, order, shape);
  if (shape.dtype == at::kFloat) prepare_fastmax<float>(c, in, options);
  if (shape.dtype == at::kDouble) prepare_fastmax<double>(c, in, options);
  if (shape.dtype == at::kBFloat16) prepare_fastmax<BFloat16>(c, in, options);
  if (shape.dtype == at::kHalf) prepare_fastmax<Float16>(c, in, options);
  c.useful_flops = useful_flops(shape, order, c.path == "factorised");
  return c;
}

SampledTruth fastmax_truth(const Contender& c) {
  const BenchShape& shape = c.shape;
  const BenchInputs& in = c.inputs;
  if (shape.dropout.rate == 0) {
    if (!shape.backward) return forward_truth(in, c.order, shape.causal);
    SampledTruth truth = backward_truth(in, c.order, shape.causal, *c.outputs);
    if (shape.extra == Extra::kGrouped)  // dk and dv are sums over the group
      for (SampledHead& head : truth) head.dk = head.dv = at::Tensor();
    return truth;
  }
  const at::Tensor q = in.q.to(at::kDouble), k = in.k.to(at::kDouble);
  const Options options = options_of(c.method, c.order, shape);
  return weighted_truth(in, shape.backward, [&](const at::Tensor& rows) {
    const at::Tensor a = at::empty({shape.B, shape.H, rows.size(0), shape.N}, at::kDouble);
    attention_weights<double>(
        {.q = view<const double>(q),
         .k = view<const double>(k),
         .rows = {rows.const_data_ptr<std::int64_t>(), static_cast<std::size_t>(rows.size(0))},
         .a = view<double>(a)},
        options, torch_ops::torch_execution());
    return a;
  });
}

Contender softmax_contender(const std::string& method, const BenchShape& shape,
                            const BenchInputs& in) {
  Contender c{.method = method, .order = 0, .shape = shape, .path = "direct", .inputs = in};
  c.why =
      method == "sdpa" ? "torch's scaled_dot_product_attention" : "the N x M matrix written out";
  c.useful_flops = useful_flops(shape, 0, false);
  c.outputs = std::make_shared<BenchOutputs>();
  const auto causal_mask = [&] {
    return at::ones({shape.N, shape.N}, at::kBool).triu(1);  // true: after the row
  };
  const at::Tensor hidden = method == "softmax" && shape.causal ? causal_mask() : at::Tensor();
  const auto attend = [=](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    return method == "sdpa" ? at::scaled_dot_product_attention(q, k, v, {}, 0.0, shape.causal)
                            : materialised(q, k, v, hidden);
  };
  const auto outputs = c.outputs;
  if (!shape.backward) {
    c.call = [=] {
      const at::NoGradGuard no_grad;
      outputs->o = attend(in.q, in.k, in.v);
    };
  } else {
    const at::AutoGradMode with_grad(true);
    const auto leaf = [](const at::Tensor& x) { return x.detach().requires_grad_(); };
    const at::Tensor q = leaf(in.q), k = leaf(in.k), v = leaf(in.v);
    const auto saved = MemoryMeter::read([&] { outputs->o = attend(q, k, v); });
    c.saved_bytes = double(q.nbytes() + k.nbytes() + v.nbytes()) + saved.kept;
    const at::Tensor o = outputs->o, d_o = in.d_o;
    c.call = [=] {
      const auto d = torch::autograd::grad({o}, {q, k, v}, {d_o}, /*retain_graph=*/true);
      outputs->dq = d[0];
      outputs->dk = d[1];
      outputs->dv = d[2];
    };
  }
  const auto memory = MemoryMeter::read(c.call);
  c.workspace_bytes = memory.peak - memory.kept;
  return c;
}

}  // namespace fastmax::app
