// The operators on the CPU: take the arguments, check what only tensors can get wrong, make views, call the core. The
// core checks the rest, before any work; its one line is the text of the exception that the caller sees.
#include <cmath>
#include <limits>
#include <span>
#include <string>

#include "fastmax/fastmax.h"
#include "torch_ops/options.h"
#include "torch_ops/threads.h"
#include "torch_ops/views.h"

namespace fastmax::torch_ops {
namespace {

/// What attention reads, as the schema lists it.
struct Operands {
  Tensor q, k, v;
  OptionalTensor key_weight, initial_state, cu_q, cu_k, seed;

  explicit Operands(Arguments& in)
      : q(in.take<Tensor>()),
        k(in.take<Tensor>()),
        v(in.take<Tensor>()),
        key_weight(in.take<OptionalTensor>()),
        initial_state(in.take<OptionalTensor>()),
        cu_q(in.take<OptionalTensor>()),
        cu_k(in.take<OptionalTensor>()),
        seed(in.take<OptionalTensor>()) {}

  /// Rows adjacent, types as T asks.
  template <class T>
  void make_readable() {
    constexpr ScalarType type = kScalarType<T>, computed = kScalarType<Compute<T>>;
    q = readable(q, "q", "[B, H, N, D]", 4, type);
    k = readable(k, "k", "[B, Hkv, M, D]", 4, type);
    v = readable(v, "v", "[B, Hkv, M, E]", 4, type);
    key_weight = readable(key_weight, "key_weight", "[B, M]", 2, computed);
    initial_state = dense(initial_state, "initial_state", "[B, Hkv, F, E + 1]", 4, computed);
    cu_q = dense(cu_q, "cu_q", "[S + 1]", 1, ScalarType::Int);
    cu_k = dense(cu_k, "cu_k", "[S + 1]", 1, ScalarType::Int);
    require(cu_q || !cu_k, "cu_q with cu_k, got cu_k alone");
  }
  Sequences sequences() const {
    const auto span = [](const Tensor& cu) {
      return std::span(static_cast<const std::int32_t*>(cu.const_data_ptr()),
                       static_cast<std::size_t>(cu.numel()));
    };
    return {span(*cu_q), span(cu_k ? *cu_k : *cu_q)};
  }
  /// [B, Hkv, F, E + 1], or one state a sequence.
  Tensor new_state(std::int64_t p, ScalarType type) const {
    const std::int64_t B = cu_q ? std::max<std::int64_t>(cu_q->numel() - 1, 0) : k.size(0);
    return new_tensor<4>(
        {B, k.size(1), state_features(static_cast<int>(p), k.size(3)), v.size(3) + 1}, type);
  }
};

/// The number in `seed`; 0 without one, which only a call without dropout may be.
std::uint64_t seed_of(const OptionalTensor& seed, double dropout_p) {
  if (!seed) {
    require(!(dropout_p > 0), "a seed with dropout_p ", dropout_p, ", got none");
    return 0;
  }
  require(seed->scalar_type() == ScalarType::Long && seed->numel() == 1,
          "seed an int64 tensor of one element, got ", toString(seed->scalar_type()), " of ",
          seed->numel());
  return *static_cast<const std::uint64_t*>(seed->const_data_ptr());
}

/// New o [B, H, N, E], g [B, H, N] and, if asked, the final state, and the call that fills them.
template <class T>
struct Forward {
  static constexpr ScalarType kComputed = kScalarType<Compute<T>>;
  Tensor o, g, final_state;
  ForwardArgs<T> args;

  Forward(const Operands& in, const Options& options, bool return_state)
      : o(empty_in_layout_of(in.q, in.v.size(3))),
        g(new_tensor<3>({in.q.size(0), in.q.size(1), in.q.size(2)}, kComputed)),
        final_state(return_state ? in.new_state(options.p, kComputed) : Tensor()),
        args{.q = bhnd<const T>(in.q),
             .k = bhnd<const T>(in.k),
             .v = bhnd<const T>(in.v),
             .key_weight = bn<Compute<T>>(in.key_weight),
             .o = bhnd<T>(o),
             .g = bhn<Compute<T>>(g),
             .initial_state = states<const Compute<T>>(in.initial_state)} {
    if (return_state) args.final_state = states<Compute<T>>(final_state);
  }
};

/// New dq, dk, dv and, with an initial state, its gradient, and the call that fills them.
template <class T>
struct Backward {
  Tensor o, g, d_o;
  OptionalTensor d_final_state;
  Tensor dq, dk, dv, d_initial_state;
  BackwardArgs<T> args;

  Backward(const Operands& in, const Tensor& o_in, const Tensor& g_in, const Tensor& d_o_in,
           const OptionalTensor& d_final_state_in, const Options& options)
      : o(readable(o_in, "o", "[B, H, N, E]", 4, kScalarType<T>)),
        g(readable(g_in, "g", "[B, H, N]", 3, kScalarType<Compute<T>>)),
        d_o(readable(d_o_in, "d_o", "[B, H, N, E]", 4, kScalarType<T>)),
        d_final_state(dense(d_final_state_in, "d_final_state", "[B, Hkv, F, E + 1]", 4,
                            kScalarType<Compute<T>>)),
        dq(empty_in_layout_of(in.q, in.q.size(3))),
        dk(empty_in_layout_of(in.k, in.k.size(3))),
        dv(empty_in_layout_of(in.v, in.v.size(3))),
        d_initial_state(in.initial_state ? in.new_state(options.p, kScalarType<Compute<T>>)
                                         : Tensor()),
        args{.q = bhnd<const T>(in.q),
             .k = bhnd<const T>(in.k),
             .v = bhnd<const T>(in.v),
             .key_weight = bn<Compute<T>>(in.key_weight),
             .o = bhnd<const T>(o),
             .g = bhn<const Compute<T>>(g),
             .d_o = bhnd<const T>(d_o),
             .dq = bhnd<T>(dq),
             .dk = bhnd<T>(dk),
             .dv = bhnd<T>(dv),
             .initial_state = states<const Compute<T>>(in.initial_state),
             .d_final_state = states<const Compute<T>>(d_final_state)} {
    if (in.initial_state) args.d_initial_state = states<Compute<T>>(d_initial_state);
  }
};

void forward(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments arguments(stack);
  Operands in(arguments);
  TakenOptions taken;
  taken.take_function(arguments);
  taken.take_call(arguments);
  const bool return_state = arguments.take<bool>();

  const Options options = taken.checked(seed_of(in.seed, taken.dropout_p));
  with_dtype_of(in.q, [&]<class T>() {
    in.make_readable<T>();
    const Forward<T> call(in, options, return_state);
    const Report report =
        in.cu_q ? fastmax::forward(call.args, in.sequences(), options, torch_execution())
                : fastmax::forward(call.args, options, torch_execution());
    Tensor smallest;
    if (options.p % 2 == 1 || options.coefficients) {
      smallest = new_tensor<0>({}, ScalarType::Double);
      // Infinity where there was none, as a minimum is; NaN would not compare equal where a call is checked against another.
      *static_cast<double*>(smallest.mutable_data_ptr()) =
          std::fmin(report.smallest_denominator, std::numeric_limits<double>::infinity());
    }
    put(stack, call.o, call.g, call.final_state, smallest);
  });
}

void backward(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments arguments(stack);
  const auto d_o = arguments.take<Tensor>();
  const auto d_final_state = arguments.take<OptionalTensor>();
  const auto o = arguments.take<Tensor>(), g = arguments.take<Tensor>();
  Operands in(arguments);
  TakenOptions taken;
  taken.take_function(arguments);
  taken.take_call(arguments);

  const Options options = taken.checked(seed_of(in.seed, taken.dropout_p));
  with_dtype_of(in.q, [&]<class T>() {
    in.make_readable<T>();
    const Backward<T> call(in, o, g, d_o, d_final_state, options);
    in.cu_q ? fastmax::backward(call.args, in.sequences(), options, torch_execution())
            : fastmax::backward(call.args, options, torch_execution());
    put(stack, call.dq, call.dk, call.dv, call.d_initial_state);
  });
}

/// 16-bit tokens go in as float: one token is little beside a state.
Tensor at_least_float(const Tensor& t) {
  const ScalarType type = t.scalar_type();
  const bool half = type == ScalarType::BFloat16 || type == ScalarType::Half;
  return half ? torch::stable::to(t, ScalarType::Float) : t;
}
Tensor as_type_of(const Tensor& t, const Tensor& like) {
  return t.scalar_type() == like.scalar_type() ? t : torch::stable::to(t, like.scalar_type());
}

void step(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments arguments(stack);
  const auto q_in = arguments.take<Tensor>(), k_in = arguments.take<Tensor>(),
             v_in = arguments.take<Tensor>(), state = arguments.take<Tensor>();
  const auto key_weight_in = arguments.take<OptionalTensor>();
  TakenOptions taken;
  taken.take_function(arguments);
  taken.floor = arguments.take_word();

  const Options options = taken.checked(0);
  with_dtype_of(q_in, [&]<class S>() {
    using T = Compute<S>;
    constexpr ScalarType type = kScalarType<T>;
    const Tensor q = readable(at_least_float(q_in), "q", "[B, H, 1, D]", 4, type),
                 k = readable(at_least_float(k_in), "k", "[B, Hkv, 1, D]", 4, type),
                 v = readable(at_least_float(v_in), "v", "[B, Hkv, 1, E]", 4, type);
    const OptionalTensor key_weight = readable(key_weight_in, "key_weight", "[B, 1]", 2, type);
    readable(state, "state", "[B, Hkv, F, E + 1]", 4, type);
    require(state.is_contiguous(), "a contiguous state, got one with gaps");
    const Tensor o = empty_in_layout_of(q, v.size(3));
    fastmax::step<T>({.q = bhnd<const T>(q),
                      .k = bhnd<const T>(k),
                      .v = bhnd<const T>(v),
                      .key_weight = bn<T>(key_weight),
                      .state = states<T>(state),
                      .o = bhnd<T>(o)},
                     options, torch_execution());
    put(stack, as_type_of(o, q_in));
  });
}

void attention_weights(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments arguments(stack);
  const auto q_in = arguments.take<Tensor>(), k_in = arguments.take<Tensor>();
  const auto key_weight_in = arguments.take<OptionalTensor>(),
             rows_in = arguments.take<OptionalTensor>(), seed = arguments.take<OptionalTensor>();
  TakenOptions taken;
  taken.take_function(arguments);
  taken.take_call(arguments);

  const Options options = taken.checked(seed_of(seed, taken.dropout_p));
  with_dtype_of(q_in, [&]<class S>() {
    using T = Compute<S>;
    constexpr ScalarType type = kScalarType<T>;
    const Tensor q = readable(at_least_float(q_in), "q", "[B, H, N, D]", 4, type),
                 k = readable(at_least_float(k_in), "k", "[B, Hkv, M, D]", 4, type);
    const OptionalTensor key_weight = readable(key_weight_in, "key_weight", "[B, M]", 2, type),
                         rows = dense(rows_in, "rows", "[R]", 1, ScalarType::Long);
    const std::int64_t count = rows ? rows->numel() : q.size(2);
    const Tensor a = new_tensor<4>({q.size(0), q.size(1), count, k.size(2)}, type);
    if (count > 0) {
      const auto* first = rows ? static_cast<const std::int64_t*>(rows->const_data_ptr()) : nullptr;
      fastmax::attention_weights<T>({.q = bhnd<const T>(q),
                                     .k = bhnd<const T>(k),
                                     .key_weight = bn<T>(key_weight),
                                     .rows = {first, static_cast<std::size_t>(rows ? count : 0)},
                                     .a = bhnd<T>(a)},
                                    options, torch_execution());
    }
    put(stack, as_type_of(a, q_in));
  });
}

/// The outputs that the plan is made for are never written, so they cost address space only.
void plan(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments arguments(stack);
  Operands in(arguments);
  TakenOptions taken;
  taken.take_function(arguments);
  taken.take_call(arguments);
  const bool return_state = arguments.take<bool>(), backward = arguments.take<bool>();

  const Options options = taken.checked(0);
  with_dtype_of(in.q, [&]<class T>() {
    in.make_readable<T>();
    require(!in.cu_q, "a plan of one sequence, got cu_q");
    const int threads = static_cast<int>(torch::stable::get_num_threads());
    const Forward<T> call(in, options, return_state);
    const Plan plan =
        backward ? fastmax::plan(
                       Backward<T>(in, call.o, call.g, call.o,
                                   return_state ? OptionalTensor(call.final_state) : std::nullopt,
                                   options)
                           .args,
                       options, threads)
                 : fastmax::plan(call.args, options, threads);
    put(stack, std::string(plan.form == Form::kDirect ? "direct: " : "factorised: ") + plan.why);
  });
}

void targets(StableIValue* stack, std::uint64_t, std::uint64_t) {
  put(stack, std::string(target_names()));
}

void build(StableIValue* stack, std::uint64_t, std::uint64_t) {
#if defined(__clang__)
  put(stack, std::string(FASTMAX_VERSION), std::string("clang " __clang_version__));
#else
  put(stack, std::string(FASTMAX_VERSION), std::string("g++ " __VERSION__));
#endif
}

}  // namespace
}  // namespace fastmax::torch_ops

STABLE_TORCH_LIBRARY_IMPL(fastmax, CPU, m) {
  m.impl("forward", &fastmax::torch_ops::forward);
  m.impl("backward", &fastmax::torch_ops::backward);
  m.impl("step", &fastmax::torch_ops::step);
  m.impl("attention_weights", &fastmax::torch_ops::attention_weights);
  m.impl("plan", &fastmax::torch_ops::plan);
}

STABLE_TORCH_LIBRARY_IMPL(fastmax, CompositeExplicitAutograd, m) {
  m.impl("targets", &fastmax::torch_ops::targets);
  m.impl("build", &fastmax::torch_ops::build);
}
