// Arguments are checked here, once, before any work; kernels check nothing.
#pragma once
#include "fastmax/fastmax.h"

namespace fastmax {

/// Throws Error where the arguments of forward or backward break a rule of fastmax.h. Reads the key weights.
template <class T>
void check(const ForwardArgs<T>& args, const Options& options);
template <class T>
void check(const BackwardArgs<T>& args, const Options& options);

template <class T>
void check(const ForwardArgs<T>& args, const Sequences& sequences, const Options& options);
template <class T>
void check(const BackwardArgs<T>& args, const Sequences& sequences, const Options& options);
template <class T>
void check(const WeightsArgs<T>& args, const Options& options);

}  // namespace fastmax
