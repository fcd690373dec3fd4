#include "app/product.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace fastmax::app {
namespace {

// Sizes on both sides of what has few columns, in the product or in one of its gradients.
TEST(Product, HasMatmulsValueAndGradients) {
  at::manual_seed(1);
  for (const std::int64_t M : {1, 5, 40}) {
    for (const std::int64_t K : {1, 6, 33}) {
      for (const std::int64_t N : {1, 15, 16, 50}) {
        const at::Tensor a = at::randn({2, 3, M, K}, at::kDouble).requires_grad_();
        const at::Tensor b = at::randn({2, 3, K, N}, at::kDouble).requires_grad_();
        const at::Tensor d = at::randn({2, 3, M, N}, at::kDouble);
        const at::Tensor c = product(a, b), expected = at::matmul(a, b);
        EXPECT_LT((c - expected).abs().max().item<double>(), 1e-13) << M << " " << K << " " << N;
        const auto gradients = torch::autograd::grad({c}, {a, b}, {d});
        const auto torchs = torch::autograd::grad({expected}, {a, b}, {d});
        for (const std::size_t i : {0, 1}) {
          EXPECT_LT((gradients[i] - torchs[i]).abs().max().item<double>(), 1e-13)
              << (i ? "db " : "da ") << M << " " << K << " " << N;
        }
      }
    }
  }
}

TEST(Product, GivesNoGradientThatNobodyAsks) {
  const at::Tensor a = at::randn({4, 8}).requires_grad_(), b = at::randn({8, 3});
  product(a, b).sum().backward();
  EXPECT_TRUE(a.grad().defined());
  EXPECT_FALSE(b.requires_grad());
}

}  // namespace
}  // namespace fastmax::app
