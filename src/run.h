// forward and backward behind their checks, for callers that have checked already.
#pragma once
#include <cstddef>

#include "fastmax/fastmax.h"

namespace fastmax {

/// Dropout draws for batch entries first_batch, first_batch + 1, ..: a packed sequence is an entry of its own.
template <class T>
Report run_forward(const ForwardArgs<T>& args, const Options& options, const Execution& execution,
                   std::size_t first_batch);
template <class T>
void run_backward(const BackwardArgs<T>& args, const Options& options, const Execution& execution,
                  std::size_t first_batch);

/// Throws under Floor::kError if the smallest denominator that a forward met is at the floor. NaN: none can be.
template <class T>
void require_denominators(double smallest, const Options& options);

}  // namespace fastmax
