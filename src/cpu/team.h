// Work items over the caller's threads.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <functional>

#include "fastmax/execution.h"

namespace fastmax::cpu {

/// Threads that draw items from a common counter, so a slow core holds nobody up. Which thread runs
/// an item never changes what the item computes.
class Team {
 public:
  Team(int threads, const ParallelRun* run) : threads_(run ? std::max(threads, 1) : 1), run_(run) {}

  static Team alone() { return {1, nullptr}; }
  std::size_t size() const { return static_cast<std::size_t>(threads_); }

  /// body(worker, item) for every item; at most one call a worker at a time, workers count from 0.
  template <class Body>
  void for_each(std::size_t items, const Body& body) const {
    if (threads_ == 1 || items <= 1) {
      for (std::size_t i = 0; i < items; ++i) body(std::size_t{0}, i);
      return;
    }
    std::atomic<std::size_t> next{0};
    const auto worker = [&](int id) {
      for (std::size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < items;) {
        body(static_cast<std::size_t>(id), i);
      }
    };
    (*run_)(static_cast<int>(std::min(items, size())), std::cref(worker));
  }

 private:
  int threads_;
  const ParallelRun* run_;
};

/// Are there so many groups that a thread each is best, be their number even or their sizes alike or not?
inline bool are_many(std::size_t groups, std::size_t threads) {
  return threads == 1 || groups >= 4 * threads;
}

/// Whole groups of heads a thread, or the threads together on one group after the other? Groups
/// need no barrier, but an uneven number of them leaves threads idle.
inline bool groups_in_parallel(std::size_t groups, std::size_t threads) {
  return are_many(groups, threads) || groups % threads == 0;
}

}  // namespace fastmax::cpu
