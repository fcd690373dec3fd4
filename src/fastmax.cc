// Validate, plan, run: start reading here.
#include "fastmax/fastmax.h"

#include <algorithm>
#include <cmath>

#include "src/check.h"
#include "src/cpu/kernels.h"
#include "src/cpu/layout.h"
#include "src/machine.h"
#include "src/plan.h"
#include "src/pool.h"
#include "src/score.h"

namespace fastmax {
namespace {

template <class Args>
constexpr bool kIsBackward = requires(Args a) {
  a.d_o;
};

/// A power of two that keeps every sum of forward within |v|: sums run over w_m f(s_nm) unit^p v_m,
/// and unit^p sum_m w_m f(s_nm) <= 1 because |s| <= scale D. So finite input gives finite output,
/// and as powers of two change no rounding, at no cost.
template <class T, class Args>
T forward_unit(const Args& a, const cpu::Settings<T>& s) {
  double heaviest = a.key_weight.data ? 0 : 1, f = 0;
  for (std::int64_t b = 0; a.key_weight.data && b < a.k.B; ++b) {
    for (std::int64_t m = 0; m < a.k.N; ++m) {
      heaviest = std::max(heaviest, static_cast<double>(a.key_weight.row(b)[m]));
    }
  }
  if (heaviest == 0) return 1;
  const double largest = static_cast<double>(s.scale) * static_cast<double>(a.q.D);
  for (int l = s.p; l >= 0; --l) f = f * largest + s.coefficients[l] / s.coefficients[s.p];
  const double sum = 2 * heaviest * f * static_cast<double>(a.k.N);
  return static_cast<T>(std::exp2(-std::ceil(std::log2(sum) / s.p)));
}

/// The kernels' call for checked arguments: every default resolved.
template <class T, template <class> class Call, class Args>
Call<T> make_call(const Args& args, const Options& options, const Choice& choice) {
  Call<T> call;
  call.args = args;
  call.p = options.p;
  call.scale = static_cast<T>(options.scale.value_or(default_scale(options.p, args.q.D)));
  call.causal = options.causal;
  call.chunk = static_cast<std::size_t>(choice.chunk);
  call.coefficients = taylor_coefficients(options.p);
  if (!kIsBackward<Args>) call.unit = forward_unit<T>(args, call);
  call.score = shifted_polynomial(options.p, call.coefficients, static_cast<double>(call.unit));
  return call;
}

template <class Args>
Choice choose(const Args& a, const Options& options, int threads) {
  const Problem problem{
      a.q.B, a.q.H, a.q.N, a.k.N, a.q.D, a.v.D, options.p, options.causal, kIsBackward<Args>};
  return make_choice(problem, this_machine(threads > 0 ? threads : available_threads()), options);
}

/// Elements of the running sums of key weights, which the floor of odd orders needs.
template <class Args>
std::size_t prefix_size(const Args& a, const Options& options) {
  return options.p % 2 == 1 && a.key_weight.data ? static_cast<std::size_t>(a.k.B * (a.k.N + 1))
                                                 : 0;
}

template <class T, class Args>
void sum_weights(const Args& a, T* prefix) {
  for (std::int64_t b = 0; b < a.k.B; ++b, prefix += a.k.N + 1) {
    double sum = 0;
    prefix[0] = 0;
    for (std::int64_t m = 0; m < a.k.N; ++m)
      prefix[m + 1] = static_cast<T>(sum += a.key_weight.row(b)[m]);
  }
}

template <class T>
void fill_zero(const BhndView<T>& x) {
  for (std::int64_t b = 0; b < x.B; ++b) {
    for (std::int64_t h = 0; h < x.H; ++h) {
      for (std::int64_t n = 0; n < x.N; ++n) std::ranges::fill(x.head(b, h)[n], T{0});
    }
  }
}

template <class T>
std::size_t kernel_workspace(const cpu::ForwardCall<T>& call, Form form, std::size_t threads) {
  return form == Form::kDirect ? cpu::direct_forward_workspace(call, threads)
                               : cpu::factorised_forward_workspace(call, threads);
}
template <class T>
std::size_t kernel_workspace(const cpu::BackwardCall<T>& call, Form form, std::size_t threads) {
  return form == Form::kDirect ? cpu::direct_backward_workspace(call, threads)
                               : cpu::factorised_backward_workspace(call, threads);
}
template <class T>
void run_kernel(const cpu::ForwardCall<T>& call, Form form, const cpu::Team& team,
                std::byte* workspace) {
  form == Form::kDirect ? cpu::direct_forward(call, team, workspace)
                        : cpu::factorised_forward(call, team, workspace);
}
template <class T>
void run_kernel(const cpu::BackwardCall<T>& call, Form form, const cpu::Team& team,
                std::byte* workspace) {
  form == Form::kDirect ? cpu::direct_backward(call, team, workspace)
                        : cpu::factorised_backward(call, team, workspace);
}

template <class T, template <class> class Call, class Args>
Plan make_plan(const Args& args, const Options& options, int threads) {
  const Choice choice = choose(args, options, threads);
  const auto call = make_call<T, Call>(args, options, choice);
  return {.form = choice.form,
          .chunk = choice.chunk,
          .workspace_bytes =
              cpu::round_up(prefix_size(args, options) * sizeof(T), 64) +
              kernel_workspace(call, choice.form, static_cast<std::size_t>(choice.threads)),
          .why = choice.why};
}

template <class T, template <class> class Call, class Args>
void run(const Args& args, const Options& options, const Execution& execution) {
  const Choice choice = choose(args, options, execution.threads);
  auto call = make_call<T, Call>(args, options, choice);
  const std::size_t prefix = cpu::round_up(prefix_size(args, options) * sizeof(T), 64);
  const std::size_t kernel =
      kernel_workspace(call, choice.form, static_cast<std::size_t>(choice.threads));
  Workspace own;
  std::byte* memory =
      (execution.workspace ? *execution.workspace : own).reserve(prefix + kernel).data();
  if (prefix > 0) {
    sum_weights(args, reinterpret_cast<T*>(memory));
    call.weight_prefix = reinterpret_cast<T*>(memory);
  }
  static const ParallelRun pool = pool_run;
  const cpu::Team team(choice.threads, execution.run ? &execution.run : &pool);
  run_kernel(call, choice.form, team, memory + prefix);
}

}  // namespace

double default_scale(int p, std::int64_t D) {
  // The root of f_3 nearest to zero is -1.5960716...; |q^ . k^| <= D.
  if (p == 1) return 1.0 / static_cast<double>(D);
  if (p == 3) return 1.5960716379833216 / static_cast<double>(D);
  return 1;
}

template <class T>
void forward(const ForwardArgs<T>& args, const Options& options, const Execution& execution) {
  check(args, options);
  if (args.q.B == 0 || args.q.H == 0 || args.q.N == 0) return;
  if (args.k.N == 0) {
    fill_zero(args.o);
    for (std::int64_t b = 0; args.g.data && b < args.g.B; ++b) {
      for (std::int64_t h = 0; h < args.g.H; ++h) std::fill_n(args.g.head(b, h), args.g.N, T{0});
    }
    return;
  }
  run<T, cpu::ForwardCall>(args, options, execution);
}

template <class T>
void backward(const BackwardArgs<T>& args, const Options& options, const Execution& execution) {
  check(args, options);
  if (args.q.B == 0 || args.q.H == 0) return;
  if (args.q.N == 0 || args.k.N == 0) {
    fill_zero(args.dq);
    fill_zero(args.dk);
    fill_zero(args.dv);
    return;
  }
  run<T, cpu::BackwardCall>(args, options, execution);
}

template <class T>
Plan plan(const ForwardArgs<T>& args, const Options& options, int threads) {
  check(args, options);
  return make_plan<T, cpu::ForwardCall>(args, options, threads);
}
template <class T>
Plan plan(const BackwardArgs<T>& args, const Options& options, int threads) {
  check(args, options);
  return make_plan<T, cpu::BackwardCall>(args, options, threads);
}

template void forward(const ForwardArgs<float>&, const Options&, const Execution&);
template void forward(const ForwardArgs<double>&, const Options&, const Execution&);
template void backward(const BackwardArgs<float>&, const Options&, const Execution&);
template void backward(const BackwardArgs<double>&, const Options&, const Execution&);
template Plan plan(const ForwardArgs<float>&, const Options&, int);
template Plan plan(const ForwardArgs<double>&, const Options&, int);
template Plan plan(const BackwardArgs<float>&, const Options&, int);
template Plan plan(const BackwardArgs<double>&, const Options&, int);

}  // namespace fastmax
