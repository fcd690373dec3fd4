#include "src/cpu/target.h"

#include <string>

#include "fastmax/fastmax.h"
#include "hwy/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/cpu/target.cc"
#include "hwy/foreach_target.h"  // re-includes this file once per instruction set
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {
const char* name() { return hwy::TargetName(HWY_TARGET); }
bool is_avx512() { return HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL; }
}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fastmax {
namespace cpu {
HWY_EXPORT(name);
HWY_EXPORT(is_avx512);
const char* dispatched_name() { return HWY_DYNAMIC_DISPATCH(name)(); }
bool runs_on_avx512() { return HWY_DYNAMIC_DISPATCH(is_avx512)(); }
}  // namespace cpu

const char* target_name() { return cpu::dispatched_name(); }

const char* target_names() {
  static const std::string names = [] {
    std::string text;
    for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
      if (!text.empty()) text += ' ';
      text += hwy::TargetName(target);
    }
    return text;
  }();
  return names.c_str();
}
}  // namespace fastmax
#endif
