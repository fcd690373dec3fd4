// Keys of weight 0 are in no sum. Where a batch has many, each of its entries is computed over copies of the others, so
// that padding costs what it takes to skip it: copies are O(M (D + E)), which vanishes beside the kernels' work.
#pragma once
#include "fastmax/fastmax.h"

namespace fastmax {

/// Whether this call leaves keys out: an eighth of them or more weigh 0, sixteen an entry or more, and neither a mask nor a
/// draw of dropout knows a key by its place.
template <class Args>
bool leaves_out_padding(const Args& args, const Options& options);

/// The calls of fastmax.h, checked already, for which that is so.
template <class T>
Report forward_without_padding(const ForwardArgs<T>& args, const Options& options,
                               const Execution& execution);
template <class T>
void backward_without_padding(const BackwardArgs<T>& args, const Options& options,
                              const Execution& execution);
template <class T>
Plan plan_without_padding(const ForwardArgs<T>& args, const Options& options, int threads);
template <class T>
Plan plan_without_padding(const BackwardArgs<T>& args, const Options& options, int threads);

}  // namespace fastmax
