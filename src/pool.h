// The threads of a call, and the library's own for callers that bring none.
#pragma once
#include "fastmax/execution.h"
#include "src/cpu/team.h"

namespace fastmax {

/// Cores this process may use (its affinity mask), at least 1.
int available_threads();
/// `asked`, or all of them for 0.
inline int threads_of(int asked) { return asked > 0 ? asked : available_threads(); }

/// So many of the caller's threads, or of a pool that starts with the first call that needs it and sleeps between calls.
/// What the pool is asked while it runs, or from inside one of its tasks, runs in the calling thread.
cpu::Team team_of(const Execution& execution, int threads);

}  // namespace fastmax
