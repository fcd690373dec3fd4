// How much memory this process takes, as the system counts it.
#pragma once
#include <cstdint>

namespace fastmax::app {

/// Starts the peak anew from what is resident now, where the system allows that (Linux does).
void reset_peak_memory();

/// The largest resident size since then, in bytes.
std::int64_t peak_memory_bytes();

}  // namespace fastmax::app
