// From checked arguments to a kernel's call: every default resolved, and the scratch that the resolution needs.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "fastmax/fastmax.h"
#include "src/cpu/kernels.h"
#include "src/cpu/layout.h"
#include "src/max_norm.h"
#include "src/plan.h"
#include "src/score.h"

namespace fastmax {

template <class Args>
constexpr bool kIsBackward = requires(Args a) {
  a.d_o;
};

template <class T>
bool has_state(const ForwardArgs<T>& a) {
  return a.initial_state.data || a.final_state.data;
}
template <class T>
bool has_state(const BackwardArgs<T>& a) {
  return a.initial_state.data || a.d_final_state.data || a.d_initial_state.data;
}

/// Rows whose denominators a call meets; backward reads forward's.
template <class T>
std::int64_t rows(const ForwardArgs<T>& a) {
  return a.q.N;
}
template <class T>
std::int64_t rows(const WeightsArgs<T>& a) {
  return a.a.N;
}
template <class T>
std::int64_t rows(const BackwardArgs<T>&) {
  return 0;
}

/// What a call needs beside its kernel's workspace.
template <class T>
struct CallScratch {
  T* weight_prefix;  ///< [B][M + 1] sums of key weights, where a denominator may vanish
  T* query_factor;   ///< [B][H], kMaxNorm
  T* key_factor;     ///< [B][Hkv]
  T* ratio;          ///< [B][H][rows], likewise: Settings::ratio

  template <class Args>
  CallScratch(cpu::Arena& arena, const Args& a, const Options& options) {
    const auto take = [&](bool wanted, std::int64_t n) {
      return arena.take<T>(wanted ? static_cast<std::size_t>(n) : 0);
    };
    const bool max_norm = options.normalize == Normalize::kMaxNorm;
    weight_prefix = take(may_vanish(options) && a.key_weight.data, a.k.B * (a.k.N + 1));
    query_factor = take(max_norm, a.q.B * a.q.H);
    key_factor = take(max_norm, a.k.B * a.k.H);
    ratio = take(may_vanish(options) && rows(a) > 0, a.q.B * a.q.H * rows(a));
  }
};

template <class T, class Args>
std::size_t call_scratch_bytes(const Args& args, const Options& options) {
  cpu::Arena counting;
  CallScratch<T>(counting, args, options);
  return counting.used();
}

/// A power of two that keeps every sum of forward within |v|: sums run over w_m f(s_nm) unit^p v_m, and
/// unit^p sum_m w_m |f(s_nm)| <= 1 because |s| <= scale |q^| |k^|. So finite input gives finite output, and as powers of
/// two change no rounding, at no cost. kNone bounds nothing and gets 1.
template <class T, class Args>
T forward_unit(const Args& a, const cpu::Settings<T>& s) {
  if (s.normalize == Normalize::kNone) return 1;
  double heaviest = a.key_weight.data ? 0 : 1, f = 0;
  for (std::int64_t b = 0; a.key_weight.data && b < a.k.B; ++b) {
    for (std::int64_t m = 0; m < a.k.N; ++m) {
      heaviest = std::max(heaviest, static_cast<double>(a.key_weight.row(b)[m]));
    }
  }
  double total = heaviest * static_cast<double>(a.k.N);
  if (const auto& past = s.initial_state; past.data) {
    double most = 0;  // the largest sum of weights already in a state
    for (std::int64_t b = 0; b < past.B; ++b) {
      for (std::int64_t h = 0; h < past.H; ++h)
        most = std::max(most, static_cast<double>(past.head(b, h)[past.E]));
    }
    total += most;
  }
  if (!(total > 0)) return 1;
  const double norms = s.normalize == Normalize::kStandardize ? static_cast<double>(a.q.D) : 1;
  const double largest = static_cast<double>(s.scale) * norms;
  for (int l = s.p; l >= 0; --l)
    f = f * largest + std::abs(s.coefficients[l] / s.coefficients[s.p]);
  const double sum = 2 * total * f;
  constexpr double kMost = std::numeric_limits<T>::max();
  require(sum * std::abs(s.coefficients[s.p]) <= kMost,
          "scale, coefficients and key weights whose denominators stay below ", kMost,
          ", got scale ", s.scale, " and denominators up to ", sum * std::abs(s.coefficients[s.p]));
  return static_cast<T>(std::exp2(-std::ceil(std::log2(sum) / s.p)));
}

/// The kernels' call for checked arguments: every default resolved.
template <class T, template <class> class Call, class Args>
Call<T> make_call(const Args& args, const Options& options, const Choice& choice,
                  std::size_t first_batch) {
  Call<T> call;
  call.args = args;
  cpu::resolve(options, args.q.D, call);
  call.chunk = static_cast<std::size_t>(choice.chunk);
  call.tiles = choice.tiles;
  call.first_batch = first_batch;
  if constexpr (requires { args.initial_state; }) call.initial_state = args.initial_state;
  if (!kIsBackward<Args>) call.unit = forward_unit<T>(args, call);
  call.score = shifted_polynomial(options.p, call.coefficients, static_cast<double>(call.unit));
  return call;
}

/// Fills the scratch and points the call at it.
template <class T, template <class> class Call>
void prepare(const CallScratch<T>& scratch, const Options& options, Call<T>& call) {
  const auto& a = call.args;
  call.ratio = scratch.ratio;
  if (call.floors && a.key_weight.data) {
    T* prefix = scratch.weight_prefix;
    call.weight_prefix = prefix;
    for (std::int64_t b = 0; b < a.k.B; ++b, prefix += a.k.N + 1) {
      double sum = 0;
      prefix[0] = 0;
      for (std::int64_t m = 0; m < a.k.N; ++m)
        prefix[m + 1] = static_cast<T>(sum += a.key_weight.row(b)[m]);
    }
  }
  if (options.normalize == Normalize::kMaxNorm) {
    call.query_factor = scratch.query_factor;
    call.key_factor = scratch.key_factor;
    for (std::int64_t b = 0; b < a.q.B; ++b) {
      for (std::int64_t h = 0; h < a.q.H; ++h) {
        scratch.query_factor[b * a.q.H + h] = max_norm::factor<T>(a.q.head(b, h), nullptr);
      }
      for (std::int64_t h = 0; h < a.k.H; ++h) {
        scratch.key_factor[b * a.k.H + h] =
            max_norm::factor<T>(a.k.head(b, h), a.key_weight.row(b));
      }
    }
  }
}

}  // namespace fastmax
