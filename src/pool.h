// The library's own threads, for callers that bring none.
#pragma once
#include <functional>

#include "fastmax/execution.h"

namespace fastmax {

/// Cores this process may use (its affinity mask), at least 1.
int available_threads();
/// `asked`, or all of them for 0.
inline int threads_of(int asked) { return asked > 0 ? asked : available_threads(); }

/// Runs tasks on a pool that starts with the first call and sleeps between calls. A call made while
/// another runs, or from inside a task, runs in the calling thread.
void pool_run(int n, const std::function<void(int)>& task);

}  // namespace fastmax
