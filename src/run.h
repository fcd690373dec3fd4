// forward, backward and plan behind their checks, for callers that have checked already: fastmax.cc for float and
// double, low_precision.cc for 16-bit elements.
#pragma once
#include <cstddef>

#include "fastmax/fastmax.h"

namespace fastmax {

/// What a caller inside the library adds to a call.
struct Place {
  std::size_t first_batch =
      0;  ///< dropout draws for batch entries from here: a packed sequence is one of its own
  std::size_t taken = 0;  ///< bytes of the workspace, from its start, that the caller uses itself
  bool bf16 = false;  ///< inputs had only bf16's digits, so that products may be rounded to them
};

/// The caller's execution, or a copy of it that has a workspace for this call where the caller gave none.
class WithWorkspace {
 public:
  explicit WithWorkspace(const Execution& callers) : callers_(callers) {
    if (callers.workspace) return;
    copy_ = callers;
    copy_.workspace = &own_;
  }
  WithWorkspace(const WithWorkspace&) = delete;
  WithWorkspace& operator=(const WithWorkspace&) = delete;
  const Execution& execution() const { return callers_.workspace ? callers_ : copy_; }
  std::byte* reserve(std::size_t bytes) const {
    return execution().workspace->reserve(bytes).data();
  }

 private:
  const Execution& callers_;
  Execution copy_;
  Workspace own_;
};

template <class T>
requires(!kIs16Bit<T>) Report run_forward(const ForwardArgs<T>& args, const Options& options,
                                          const Execution& execution, const Place& place);
template <class T>
requires(!kIs16Bit<T>) void run_backward(const BackwardArgs<T>& args, const Options& options,
                                         const Execution& execution, const Place& place);
template <class T>
requires(!kIs16Bit<T>) Plan
    run_plan(const ForwardArgs<T>& args, const Options& options, int threads, bool bf16 = false);
template <class T>
requires(!kIs16Bit<T>) Plan
    run_plan(const BackwardArgs<T>& args, const Options& options, int threads, bool bf16 = false);

template <class S>
requires kIs16Bit<S> Report run_forward(const ForwardArgs<S>& args, const Options& options,
                                        const Execution& execution, const Place& place);
template <class S>
requires kIs16Bit<S>
void run_backward(const BackwardArgs<S>& args, const Options& options, const Execution& execution,
                  const Place& place);
template <class S>
requires kIs16Bit<S> Plan run_plan(const ForwardArgs<S>& args, const Options& options, int threads);
template <class S>
requires kIs16Bit<S> Plan run_plan(const BackwardArgs<S>& args, const Options& options,
                                   int threads);

}  // namespace fastmax
