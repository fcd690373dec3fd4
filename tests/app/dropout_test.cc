#include "app/dropout.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "app/dropout_kernel.h"
#include "hwy/targets.h"
#include "src/dropout.h"

namespace fastmax::app {
namespace {

// Sixteen bits of the library's Philox, as dropout_kernel.cc lays them out.
bool stays(std::size_t i, double rate, std::uint64_t seed) {
  const std::size_t group = i / 128, e = i % 128 / 16, l = i % 16;
  const auto words = philox({static_cast<std::uint32_t>(16 * group + l), 0, 0, 0}, seed);
  const std::uint32_t bits = e < 4 ? words[e] & 0xFFFF : words[e - 4] >> 16;
  return bits >= std::lround(rate * 65536);
}

TEST(Dropout, IsItsFormulaOnEveryTarget) {
  const std::uint64_t seed = 0x123456789abcdef;
  const double rate = 0.25;
  at::manual_seed(1);
  const at::Tensor x = at::randn({3, 1001}), z = at::randn({3, 1001});
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    const at::Tensor both = add_dropped(x, z, rate, seed), alone = add_dropped({}, z, rate, seed);
    const auto at = [](const at::Tensor& t, std::size_t i) { return t.const_data_ptr<float>()[i]; };
    for (std::size_t i = 0; i < 3003; ++i) {
      const float kept = stays(i, rate, seed) ? at(z, i) * static_cast<float>(1 / (1 - rate)) : 0;
      ASSERT_EQ(at(alone, i), kept) << i;
      ASSERT_EQ(at(both, i), at(x, i) + kept) << i;
    }
  }
  hwy::SetSupportedTargetsForTest(0);
}

TEST(Dropout, GradientSeesTheSameMask) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({2, 300}).requires_grad_(),
                   z = at::randn({2, 300}).requires_grad_();
  const at::Tensor g = at::randn({300, 2}).t();  // gradients come in any layout
  add_dropped(x, z, 0.3, 7).backward(g);
  EXPECT_TRUE(at::equal(x.grad(), g));
  EXPECT_TRUE(at::equal(z.grad(), add_dropped({}, g, 0.3, 7)));
  const at::Tensor alone = z.detach().clone().requires_grad_();
  add_dropped({}, alone, 0.3, 7).backward(g);
  EXPECT_TRUE(at::equal(alone.grad(), z.grad()));
}

TEST(Dropout, KeepsTheShareAndTheMean) {
  const at::Tensor ones = at::ones({1 << 20});
  for (const double rate : {0.1, 0.5, 0.99}) {
    const at::Tensor out = add_dropped({}, ones, rate, 5);
    const double spread = std::sqrt(rate * (1 - rate) / (1 << 20));
    EXPECT_NEAR((out == 0).to(at::kDouble).mean().item<double>(), rate, 5 * spread + 1e-5);
    EXPECT_NEAR(out.mean(at::kDouble).item<double>(), 1, 5 * spread / (1 - rate));
  }
  EXPECT_FALSE(at::equal(add_dropped({}, ones, 0.5, 5), add_dropped({}, ones, 0.5, 6)));
}

TEST(Dropout, DoesNotDependOnThreads) {
  at::manual_seed(3);
  const at::Tensor z = at::randn({200'001});
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor one = add_dropped({}, z, 0.2, 9);
  at::set_num_threads(3);
  const at::Tensor three = add_dropped({}, z, 0.2, 9);
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(one, three));
}

}  // namespace
}  // namespace fastmax::app
