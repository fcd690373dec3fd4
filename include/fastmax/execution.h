// Where the work runs: the caller's threads and memory, or the library's own.
#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <span>

#include "fastmax/export.h"

namespace fastmax {

/// Memory that kernels borrow. It only grows, so a caller that keeps one makes no allocation after
/// the first call of the largest size. One Workspace serves one call at a time.
class FASTMAX_API Workspace {
 public:
  /// At least `bytes` bytes aligned to 64; what was returned before is no longer valid.
  std::span<std::byte> reserve(std::size_t bytes);
  std::size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(std::byte* p) const;
  };
  std::unique_ptr<std::byte, Free> data_;
  std::size_t size_ = 0;
};

/// run(n, task) calls task(0) .. task(n - 1), each exactly once, in any order, on any threads, at
/// the same time or one after the other, and returns when all have returned. Tasks do not throw.
using ParallelRun = std::function<void(int n, const std::function<void(int)>& task)>;

/// The default runs on a small pool of the library's own, with all the cores this process may use. It has one caller at
/// a time: a call that comes meanwhile, or from inside a task, runs on its caller's thread alone. Results do not depend
/// on it, to the last bit.
struct Execution {
  int threads = 0;                 ///< tasks worth starting at once, not negative; 0: all cores
  ParallelRun run = {};            ///< empty: the library's pool
  Workspace* workspace = nullptr;  ///< nullptr: allocated for the call
};

/// One thread, the caller's.
FASTMAX_API Execution serial(Workspace* workspace = nullptr);

}  // namespace fastmax
