#include "app/convolution.h"

#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

namespace fastmax::app {
namespace {

constexpr std::int64_t kB = 2, kN = 9, kC = 5;

at::Tensor by_hand(const at::Tensor& h, const at::Tensor& c, std::int64_t before) {
  at::Tensor y = h.clone();
  for (std::int64_t n = 0; n < h.size(1); ++n) {
    for (std::int64_t j = 0; j < c.size(2); ++j) {
      const std::int64_t m = n - before + j;
      if (m < 0 || m >= h.size(1)) continue;
      y.select(1, n) += c.select(2, j).select(1, 0) * h.select(1, m);
    }
  }
  return y;
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

TEST(Convolution, IsItsSum) {
  at::manual_seed(1);
  for (const std::int64_t width : {1, 2, 3, 4, 12}) {
    const at::Tensor h = at::randn({kB, kN, kC}), c = at::randn({kC, 1, width});
    for (const std::int64_t before : {width - 1, width / 2}) {
      EXPECT_LT(largest_difference(convolve(h, c, before, {}), by_hand(h, c, before)), 1e-5)
          << width << " " << before;
    }
  }
}

// What stands in the padding is not read.
TEST(Convolution, PaddingIsZero) {
  at::manual_seed(2);
  const at::Tensor h = at::randn({kB, kN, kC}), c = at::randn({kC, 1, 4});
  const at::Tensor weight = at::ones({kB, kN});
  weight[1].narrow(0, 6, kN - 6).zero_();
  const at::Tensor together = convolve(h, c, 2, weight);
  const at::Tensor alone = convolve(h.narrow(0, 1, 1).narrow(1, 0, 6), c, 2, {});
  EXPECT_LT(largest_difference(together[1].narrow(0, 0, 6), alone[0]), 1e-6);
  EXPECT_LT(largest_difference(together[0], convolve(h, c, 2, {})[0]), 1e-6);
}

TEST(Convolution, GoesOnAnywhere) {
  at::manual_seed(3);
  for (const std::int64_t width : {1, 3, 6}) {
    const at::Tensor h = at::randn({kB, kN, kC}), c = at::randn({kC, 1, width});
    const at::Tensor whole = convolve(h, c, width - 1, {});
    at::Tensor recent = at::zeros({kB, width - 1, kC});
    std::int64_t done = 0;
    for (const std::int64_t part : {1, 4, 1, 1, 2}) {
      const at::Tensor y = convolve_on(h.narrow(1, done, part), c, recent);
      EXPECT_LT(largest_difference(y, whole.narrow(1, done, part)), 1e-6);
      done += part;
    }
    EXPECT_EQ(done, kN);
  }
}

}  // namespace
}  // namespace fastmax::app
