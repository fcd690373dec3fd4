// 16-bit elements to float and back, rounding to nearest even.
#pragma once
#include "fastmax/number.h"
#include "fastmax/view.h"

namespace fastmax::cpu {

/// to[n][d] = from[n][d] for all rows of one head.
void convert(Rows<const BFloat16> from, Rows<float> to);
void convert(Rows<const Float16> from, Rows<float> to);
void convert(Rows<const float> from, Rows<BFloat16> to);
void convert(Rows<const float> from, Rows<Float16> to);

}  // namespace fastmax::cpu
