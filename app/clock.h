// Wall time of the program's own work.
#pragma once
#include <chrono>

namespace fastmax::app {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point then) {
  return std::chrono::duration<double>(Clock::now() - then).count();
}

}  // namespace fastmax::app
