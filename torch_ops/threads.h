// The core on torch's threads, so that a process has one pool and torch.set_num_threads governs it.
#pragma once
#include <torch/csrc/stable/ops.h>

#include <cstdint>
#include <functional>

#include "fastmax/execution.h"

namespace fastmax::torch_ops {

/// The core asks for one task a thread and shares the work out among them itself. Inside a parallel
/// region of the caller's, torch runs all of them on the calling thread.
inline void run_on_torch_threads(int n, const std::function<void(int)>& task) {
  torch::stable::parallel_for(0, n, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) task(static_cast<int>(i));
  });
}

/// Each calling thread keeps its scratch memory, so that only the first call of a size allocates.
inline Execution torch_execution() {
  thread_local Workspace workspace;
  return {.threads = static_cast<int>(torch::stable::get_num_threads()),
          .run = run_on_torch_threads,
          .workspace = &workspace};
}

}  // namespace fastmax::torch_ops
