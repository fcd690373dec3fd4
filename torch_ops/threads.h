// The core on torch's threads, so that a process has one pool and torch.set_num_threads governs it.
#pragma once
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>

#include "fastmax/execution.h"

namespace fastmax::torch_ops {

/// Idle threads take the next task: causal tasks are not equal, and neither are the cores of a
/// shared machine. Inside a parallel region of the caller's, torch runs all of it on the calling
/// thread.
inline void run_on_torch_threads(int n, const std::function<void(int)>& task) {
  std::atomic<int> next = 0;
  const int workers = std::min<int>(n, static_cast<int>(torch::stable::get_num_threads()));
  torch::stable::parallel_for(0, workers, 1, [&](std::int64_t, std::int64_t) {
    for (int i = next++; i < n; i = next++) task(i);
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
