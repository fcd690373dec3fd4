// The kernels: one entry a form and direction, called with checked arguments. A kernel allocates
// nothing; its scratch comes from the workspace, whose size the function beside it gives.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "fastmax/fastmax.h"
#include "fastmax/state.h"
#include "src/cpu/team.h"
#include "src/denominator.h"
#include "src/dropout.h"
#include "src/score.h"

namespace fastmax::cpu {

/// What forward and backward share, with every default resolved.
template <class T>
struct Settings {
  int p = 2;
  T scale = 1;
  bool causal = false;
  std::size_t chunk = 0;  ///< tokens that join the state at a time; a multiple of kPanel
  bool tiles = false;     ///< products of the factorised forward by bf16 tiles (amx.h)
  Normalize normalize = Normalize::kStandardize;
  const T* query_factor = nullptr;  ///< kMaxNorm: 1 / largest norm, [B][H]
  const T* key_factor = nullptr;    ///< [B][Hkv]
  Dropout dropout{};
  std::size_t first_batch = 0;  ///< what dropout calls batch entry 0
  StateView<const T> initial_state{};
  Coefficients coefficients{};
  T unit = 1;  ///< keys' kappa is multiplied by this: see forward_unit in fastmax.cc
  ShiftedPolynomial score;
  bool floors = false;  ///< whether a denominator may come near zero
  T* ratio =
      nullptr;  ///< if it may, [B][H][rows]: denominators over their weights, before the floor
  const T* weight_prefix = nullptr;  ///< [B][M + 1] sums of key weights, for odd p with weights

  /// c / c_p: kernels compute in units of score.leading, which cancels in o.
  Coefficients unit_coefficients() const {
    Coefficients c = coefficients;
    for (double& c_l : c) c_l /= coefficients[p];
    return c;
  }

  /// Sum of the weights of the first `visible` of M keys of one head, and of its initial state, whose first feature
  /// is the constant 1.
  T visible_weight(std::int64_t b, std::int64_t key_head, std::int64_t M,
                   std::int64_t visible) const {
    const T* past = initial_state.head(b, key_head);
    return (past ? past[initial_state.E] : T{0}) +
           (weight_prefix ? weight_prefix[b * (M + 1) + visible] : static_cast<T>(visible));
  }
  /// g' of a row that sees this weight; `row` counts through [B][H][rows].
  T floored(T g, T weight, std::size_t row) const {
    if (!floors) return std::max(g, T{0});
    ratio[row] = g / weight;
    return std::max(g, kDenominatorFloor<T> * weight);
  }
};

/// The settings that options give for heads of D dimensions; chunk, factors, unit and score are the call's.
template <class T>
void resolve(const Options& options, std::int64_t D, Settings<T>& s) {
  s.p = options.p;
  s.scale = static_cast<T>(options.scale ? *options.scale
                                         : default_scale(options.p, D, options.normalize));
  s.causal = options.causal;
  s.normalize = options.normalize;
  s.dropout = options.dropout;
  s.floors = may_vanish(options);
  s.coefficients = options.coefficients.value_or(taylor_coefficients(options.p));
}

/// Kappa alone is the features, all of them kept.
template <class T>
bool is_linear(const Settings<T>& s) {
  return s.p == 1 && !drops_features(s.dropout);
}

template <class T>
struct ForwardCall : Settings<T> {
  ForwardArgs<T> args;
};
template <class T>
struct BackwardCall : Settings<T> {
  BackwardArgs<T> args;
};

template <class T>
struct StepCall : Settings<T> {
  StepArgs<T> args;
};

template <class T>
struct WeightsCall : Settings<T> {
  WeightsArgs<T> args;
};

// X(name, argument type): every kernel. Expanded here into declarations, which a kernel's own file meets with
// FASTMAX_INSTANTIATE, FASTMAX_DISPATCH and FASTMAX_WORKSPACE, or the library does not link; in tests/kernels_test.cc into
// a test each; in bench/kernel_bench.cc into a benchmark each.
#define FASTMAX_CPU_KERNELS(X)         \
  X(direct_forward, ForwardCall)       \
  X(factorised_forward, ForwardCall)   \
  X(linear_forward, ForwardCall)       \
  X(direct_backward, BackwardCall)     \
  X(factorised_backward, BackwardCall) \
  X(linear_backward, BackwardCall)     \
  X(step, StepCall)                    \
  X(attention_weights, WeightsCall)

#define FASTMAX_DECLARE(name, Call)                                            \
  void name(const Call<float>& call, const Team& team, std::byte* workspace);  \
  void name(const Call<double>& call, const Team& team, std::byte* workspace); \
  std::size_t name##_workspace(const Call<float>& call, std::size_t threads);  \
  std::size_t name##_workspace(const Call<double>& call, std::size_t threads);
FASTMAX_CPU_KERNELS(FASTMAX_DECLARE)
#undef FASTMAX_DECLARE

}  // namespace fastmax::cpu

// In a kernel's file, after HWY_AFTER_NAMESPACE and inside HWY_ONCE: exports name_f32 and name_f64
// and calls the best of them.
#define FASTMAX_DISPATCH(name, Call)                                            \
  HWY_EXPORT(name##_f32);                                                       \
  HWY_EXPORT(name##_f64);                                                       \
  void name(const Call<float>& call, const Team& team, std::byte* workspace) {  \
    HWY_DYNAMIC_DISPATCH(name##_f32)(call, team, workspace);                    \
  }                                                                             \
  void name(const Call<double>& call, const Team& team, std::byte* workspace) { \
    HWY_DYNAMIC_DISPATCH(name##_f64)(call, team, workspace);                    \
  }

/// In a kernel's file, per target: name_f32 and name_f64 over Kernel<T>(call, team,
/// workspace).run(team).
#define FASTMAX_INSTANTIATE(name, Call, Kernel)                                       \
  void name##_f32(const Call<float>& call, const Team& team, std::byte* workspace) {  \
    Kernel<float>(call, team, workspace).run(team);                                   \
  }                                                                                   \
  void name##_f64(const Call<double>& call, const Team& team, std::byte* workspace) { \
    Kernel<double>(call, team, workspace).run(team);                                  \
  }

/// In a kernel's file, inside HWY_ONCE: name_workspace over the template name_bytes<T>.
#define FASTMAX_WORKSPACE(name, Call)                                           \
  std::size_t name##_workspace(const Call<float>& call, std::size_t threads) {  \
    return name##_bytes(call, threads);                                         \
  }                                                                             \
  std::size_t name##_workspace(const Call<double>& call, std::size_t threads) { \
    return name##_bytes(call, threads);                                         \
  }
