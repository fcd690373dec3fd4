// The whole public API of Fastmax attention (arXiv 2402.07901). No Highway, CUDA or torch header here.
//
//   o_n = sum_m w_m f(s_nm) v_m / sum_m w_m f(s_nm),   s_nm = scale * q^_n . k^_m,
//   f(s) = 1 + s + ... + s^p / p!,                     x^ = (x - mean x) / sqrt(var x + 1e-6)
//
// over all keys m, or over m <= n + M - N when causal. Every token attends to every other, and the
// cost is linear in their number: f is an inner product of F = C(D + p, p) features. docs/math.md
// derives all of it.
//
// Shapes: q [B, H, N, D], k [B, Hkv, M, D], v [B, Hkv, M, E], o [B, H, N, E], g [B, H, N] and
// key_weight [B, M], where H is a multiple of Hkv (head h reads key head h / (H / Hkv)). N = 0, M = 0
// and B = 0 are legal; a row without keys, or with only zero weights, is zero and has zero gradients.
//
// T is float, double, BFloat16 or Float16 in forward, backward and their plans, of packed sequences,
// too; float or double in attention_weights, step and State.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>

#include "fastmax/error.h"
#include "fastmax/execution.h"
#include "fastmax/export.h"
#include "fastmax/number.h"
#include "fastmax/view.h"

namespace fastmax {

/// The two ways to compute the same numbers.
enum class Form : std::uint8_t {
  kAuto,        ///< whichever the planner expects to be faster
  kDirect,      ///< tiles of f(Q K^T) V: time O(N M (D + E)), memory O((N + M) (D + E))
  kFactorised,  ///< one state of F (E + 1) numbers: time O((N + M) F E), memory O(F E) a thread
};

/// x^ of a token's D channels.
enum class Normalize : std::uint8_t {
  kStandardize,  ///< (x - mean x) / sqrt(var x + 1e-6): the paper's; |s| <= scale D
  kL2,           ///< x / sqrt(|x|^2 + 1e-24): |s| <= scale
  kNone,         ///< x: s is not bounded, so odd p needs an explicit scale
  kMaxNorm,  ///< x over the largest norm of its head's tokens: |s| <= scale. It looks at every token of the
             ///< sequence, so a causal call is refused
};

/// What is dropped, and scaled up, where softmax attention would drop weights (docs/math.md, Dropout).
enum class DropoutMode : std::uint8_t {
  kQuadratic,  ///< features of degree 2 and more, in the numerator
  kStandard,   ///< all features, in the numerator
  kToken,      ///< whole queries and keys, before f
};

/// Drawn by Philox from the seed, the batch entry, the head and the feature or token: the same in backward, in
/// either form and on any number of threads. kQuadratic and kStandard need features: the factorised form.
struct Dropout {
  double rate = 0;  ///< 0 <= rate < 1
  DropoutMode mode = DropoutMode::kQuadratic;
  std::uint64_t seed = 0;
};

/// What a denominator at or below its floor does; only odd p has denominators that small (docs/math.md).
enum class Floor : std::uint8_t {
  kClamp,  ///< it stands at the floor and passes no gradient
  kError,  ///< the call throws after the work, and what it wrote is not to be used
};

struct Options {
  int p = 2;                         ///< order of f, 1 to 4
  bool causal = false;               ///< row n attends to keys m <= n + M - N; needs N <= M
  std::optional<double> scale = {};  ///< none: default_scale(p, D, normalize)
  Form form = Form::kAuto;
  /// Tokens that join the state at a time (a multiple of 64, at most 1024 are used); 0: planned. Orders 2 to 4; p = 1 has
  /// blocks of its own.
  int chunk = 0;
  Normalize normalize = Normalize::kStandardize;
  std::optional<std::array<double, 5>> coefficients = {};  ///< c_0 .. c_p of f; none: 1 / l!
  Dropout dropout = {};
  /// none: kClamp up to the default scale, where no weight is negative; kError at a larger one, at any of odd p under
  /// kNone, and with coefficients of the caller's
  std::optional<Floor> floor = {};
};

/// 1 for even p, whose f is positive everywhere (the paper's choice); for odd p the largest scale for which no
/// weight can be negative: 1 / D for p = 1 and 1.5960716 / D for p = 3 under kStandardize, D times that under kL2 and
/// kMaxNorm (docs/math.md). Throws Error for odd p under kNone, which has none.
FASTMAX_API double default_scale(int p, std::int64_t D,
                                 Normalize normalize = Normalize::kStandardize);

template <class T>
struct ForwardArgs {
  BhndView<const T> q, k, v;
  /// w = 0 or 2^-60 <= w <= 2^40: 1 for a token, 0 for padding; empty: all 1. Unmasked, where an eighth of the keys or more
  /// weigh 0, and sixteen an entry, they are left out and take no time, and the workspace holds copies of the others.
  BnView<const Compute<T>> key_weight = {};
  BhndView<T> o;
  BhnView<Compute<T>> g = {};  ///< the denominators, which backward needs; empty: not written
  /// What every query sees before its keys: the final state of an earlier call. With a state in or out the call
  /// runs factorised; N = 0 only adds keys, M = 0 only reads.
  StateView<const Compute<T>> initial_state = {};
  StateView<Compute<T>> final_state = {};  ///< initial_state plus all keys; may be the same memory
};

template <class T>
struct BackwardArgs {
  BhndView<const T> q, k, v;
  BnView<const Compute<T>> key_weight = {};
  BhndView<const T> o;          ///< as forward wrote it
  BhnView<const Compute<T>> g;  ///< as forward wrote it
  BhndView<const T> d_o;
  BhndView<T> dq, dk, dv;  ///< gradients with respect to q, k and v; written, not added to
  StateView<const Compute<T>> initial_state = {};  ///< as forward had it
  StateView<const Compute<T>> d_final_state =
      {};  ///< the gradient that comes in through forward's final_state
  StateView<Compute<T>> d_initial_state =
      {};  ///< the gradient with respect to initial_state; may be d_final_state's memory
};

/// F = C(D + p, p): features, the rows of a state. Their order is that of docs/math.md.
FASTMAX_API std::int64_t state_features(int p, std::int64_t D);

/// What a call will do, and why.
struct Plan {
  Form form = Form::kDirect;  ///< never kAuto
  int chunk = 0;              ///< factorised: tokens that join the state at a time
  std::size_t workspace_bytes = 0;
  const char* why = "";
};

/// What forward met on the way.
struct Report {
  Form form = Form::kAuto;  ///< that ran; kAuto: there was nothing to do
  /// The smallest denominator over the sum of its row's key weights, as it was before the floor, where one can come near
  /// zero (odd p, the caller's coefficients); else NaN, as where no row sees any weight.
  double smallest_denominator = std::numeric_limits<double>::quiet_NaN();
};

/// Writes o, and g if asked. Inputs are read in place with their strides, which may be 0; outputs overlap no input.
/// Throws Error, before any work but under Floor::kError, and std::bad_alloc where a workspace cannot grow. Safe to
/// call from several threads at once: each with a workspace of its own.
template <class T>
FASTMAX_API Report forward(const ForwardArgs<T>& args, const Options& options = {},
                           const Execution& = {});

/// The exact gradient, through the normalisation. Saved for it: q, k, v, o and g, O(N D) numbers.
/// Costs about two and a half times forward. Same rules as forward; grouped heads sum into their key head.
template <class T>
FASTMAX_API void backward(const BackwardArgs<T>& args, const Options& options = {},
                          const Execution& = {});

/// The plan of these calls on this machine; validates as they do.
template <class T>
FASTMAX_API Plan plan(const ForwardArgs<T>& args, const Options& options = {}, int threads = 0);
template <class T>
FASTMAX_API Plan plan(const BackwardArgs<T>& args, const Options& options = {}, int threads = 0);

/// Sequences of different lengths packed along N and M, with B = 1: sequence i has queries cu_q[i] .. cu_q[i + 1] and
/// keys cu_k[i] .. cu_k[i + 1]. Both begin at 0, do not decrease and end at N and M. States are one a sequence, B of them
/// the number of sequences. The same as a call a sequence: bit for bit where the plan is the same.
struct Sequences {
  std::span<const std::int32_t> cu_q, cu_k;

  /// Both, always: `{}` stands for Options.
  Sequences(std::span<const std::int32_t> cu_q, std::span<const std::int32_t> cu_k)
      : cu_q(cu_q), cu_k(cu_k) {}
};
template <class T>
FASTMAX_API Report forward(const ForwardArgs<T>& args, const Sequences& sequences,
                           const Options& options = {}, const Execution& = {});
template <class T>
FASTMAX_API void backward(const BackwardArgs<T>& args, const Sequences& sequences,
                          const Options& options = {}, const Execution& = {});
/// Form, chunk and why are those of the longest sequence, the workspace is for all.
template <class T>
FASTMAX_API Plan plan(const ForwardArgs<T>& args, const Sequences& sequences,
                      const Options& options = {}, int threads = 0);
template <class T>
FASTMAX_API Plan plan(const BackwardArgs<T>& args, const Sequences& sequences,
                      const Options& options = {}, int threads = 0);

template <class T>
struct WeightsArgs {
  BhndView<const T> q, k;
  BnView<const T> key_weight = {};
  std::span<const std::int64_t> rows = {};  ///< queries to look at, in any order; empty: all
  BhndView<T> a;                            ///< [B, H, number of rows, M]
};

/// Rows of the attention matrix, a_nm = w_m f(s_nm) / g_n: what forward applies with these options, its dropout
/// included. Time O(M D) a row. Batch entry b draws as in forward; of packed sequences, which draw by their number, only
/// the dropout of the first can be shown. Under Floor::kError it throws as forward does, if the row is among those asked for.
template <class T>
FASTMAX_API void attention_weights(const WeightsArgs<T>& args, const Options& options = {},
                                   const Execution& = {});
/// The workspace of that call; form is kFactorised where features are dropped, and kDirect.
template <class T>
FASTMAX_API Plan plan(const WeightsArgs<T>& args, const Options& options = {}, int threads = 0);

/// The instruction set that kernels run on ("AVX3", "AVX2", "NEON", ...), and all that this build
/// and CPU offer, best first, separated by spaces.
FASTMAX_API const char* target_name();
FASTMAX_API const char* target_names();

}  // namespace fastmax

#include "fastmax/state.h"  // State and step, over the types above
