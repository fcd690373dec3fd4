#include "src/machine.h"

#include <unistd.h>

#include "src/cpu/amx.h"
#include "src/cpu/target.h"

namespace fastmax {

Machine this_machine(int threads) {
  static const std::size_t l2_bytes = [] {
#ifdef _SC_LEVEL2_CACHE_SIZE
    if (const long size = sysconf(_SC_LEVEL2_CACHE_SIZE); size > 0)
      return static_cast<std::size_t>(size);
#endif
    return std::size_t{1} << 20;
  }();
  // Without AVX-512, as when a test leaves it out, kernels keep off it altogether.
  const bool tiles = cpu::runs_on_avx512() && cpu::amx::available();
  return {.threads = threads, .l2_bytes = l2_bytes, .tiles = tiles};
}

}  // namespace fastmax
