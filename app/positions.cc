#include "app/positions.h"

#include <numbers>

namespace fastmax::app {
namespace {

// [length, pairs], in double: n is in the thousands, and its sine wants the digits.
at::Tensor angles(std::int64_t length, std::int64_t pairs) {
  const at::Tensor n = at::arange(length, at::kDouble).unsqueeze(1);
  const at::Tensor i = at::arange(pairs, at::kDouble) / static_cast<double>(pairs);
  return n / at::pow(1e4, i);
}

}  // namespace

at::Tensor sinusoids(std::int64_t length, std::int64_t dim, double spread) {
  const at::Tensor a = angles(length, (dim + 1) / 2);
  const at::Tensor waves = at::stack({a.sin(), a.cos()}, -1).flatten(1).narrow(1, 0, dim);
  return (waves * (spread * std::numbers::sqrt2)).to(at::kFloat).contiguous();
}

Rotation::Rotation(std::int64_t length, std::int64_t D) {
  const at::Tensor a = angles(length, D / 2).unsqueeze(1);
  cos_ = a.cos().to(at::kFloat);
  sin_ = a.sin().to(at::kFloat);
}

at::Tensor Rotation::operator()(const at::Tensor& x, std::int64_t first) const {
  const at::Tensor cos = cos_.narrow(0, first, x.size(1)), sin = sin_.narrow(0, first, x.size(1));
  const auto halves = x.chunk(2, -1);
  return at::cat({halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin}, -1);
}

}  // namespace fastmax::app
