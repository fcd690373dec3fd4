#include "src/pool.h"

#include <sched.h>

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace fastmax {
namespace {

thread_local bool inside_task = false;

/// n - 1 sleeping threads and the caller. One job at a time; its tasks are numbered and drawn under
/// the lock, which is cheap because there is one task a thread.
class Pool {
 public:
  explicit Pool(int threads) {
    for (int i = 1; i < threads; ++i) threads_.emplace_back([this] { serve(); });
  }
  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  void run(int n, const std::function<void(int)>& task) {
    std::unique_lock<std::mutex> job(job_, std::defer_lock);
    if (n <= 1 || inside_task || !job.try_lock()) {
      for (int i = 0; i < n; ++i) task(i);
      return;
    }
    std::unique_lock lock(mutex_);
    task_ = &task;
    next_ = 0;
    count_ = n;
    left_ = n;
    wake_.notify_all();
    draw(lock);
    done_.wait(lock, [this] { return left_ == 0; });
    task_ = nullptr;
    count_ = 0;
  }

 private:
  /// Takes tasks until none is left; the lock is open while one runs.
  void draw(std::unique_lock<std::mutex>& lock) {
    while (next_ < count_) {
      const int i = next_++;
      const auto* task = task_;
      lock.unlock();
      inside_task = true;
      (*task)(i);
      inside_task = false;
      lock.lock();
      if (--left_ == 0) done_.notify_all();
    }
  }
  void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return stop_ || next_ < count_; });
      if (stop_) return;
      draw(lock);
    }
  }

  std::mutex job_, mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> threads_;
  const std::function<void(int)>* task_ = nullptr;
  int next_ = 0, count_ = 0, left_ = 0;
  bool stop_ = false;
};

}  // namespace

int available_threads() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(CPU_COUNT(&set), 1);
  return std::max(static_cast<int>(std::thread::hardware_concurrency()), 1);
}

cpu::Team team_of(const Execution& execution, int threads) {
  static const ParallelRun pool_run = [](int n, const std::function<void(int)>& task) {
    static Pool pool(available_threads());
    pool.run(n, task);
  };
  return {threads, execution.run ? &execution.run : &pool_run};
}

}  // namespace fastmax
