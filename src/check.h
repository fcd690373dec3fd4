// Arguments are checked here, once, before any work; kernels check nothing.
#pragma once
#include <cstdint>

#include "fastmax/fastmax.h"

namespace fastmax {

/// Throws Error where the arguments of a call break a rule of fastmax.h. Reads the key weights.
template <class T>
void check(const ForwardArgs<T>& args, const Options& options, int threads);
template <class T>
void check(const BackwardArgs<T>& args, const Options& options, int threads);

template <class T>
void check(const ForwardArgs<T>& args, const Sequences& sequences, const Options& options,
           int threads);
template <class T>
void check(const BackwardArgs<T>& args, const Sequences& sequences, const Options& options,
           int threads);
template <class T>
void check(const WeightsArgs<T>& args, const Options& options, int threads);

/// The part that needs options alone, for arithmetic in T, float or double.
template <class T>
void check_options(const Options& options);
/// What states [B, Hkv, F, E + 1] of these options add to it.
void check_state(const Options& options, std::int64_t B, std::int64_t Hkv, std::int64_t D,
                 std::int64_t E);

}  // namespace fastmax
