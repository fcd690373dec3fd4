// Every kernel of the list, one thread, two heads.
#include "bench/kernels.h"

namespace fastmax::bench {
namespace {

#define FASTMAX_BENCHMARK(name, Call) BENCHMARK(name)->Apply(name##_shapes);
FASTMAX_CPU_KERNELS(FASTMAX_BENCHMARK)
#undef FASTMAX_BENCHMARK

}  // namespace
}  // namespace fastmax::bench
