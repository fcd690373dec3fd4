// Which instruction set runs.
#pragma once

namespace fastmax::cpu {

/// Whether kernels run on AVX-512, which bf16 tiles come with. Asks no CPUID, which is slow on virtual machines.
bool runs_on_avx512();

}  // namespace fastmax::cpu
