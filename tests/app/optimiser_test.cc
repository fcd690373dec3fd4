#include "app/optimiser.h"

#include <gtest/gtest.h>

#include <cmath>

#include "app/train.h"

namespace fastmax::app {
namespace {

// AdamW by hand, in double, for one number.
struct ByHand {
  AdamWConfig config;
  double w, m = 0, v = 0;
  int t = 0;
  void step(double g, double rate) {
    ++t;
    m = config.beta1 * m + (1 - config.beta1) * g;
    v = config.beta2 * v + (1 - config.beta2) * g * g;
    const double first = m / (1 - std::pow(config.beta1, t));
    const double second = v / (1 - std::pow(config.beta2, t));
    w -= rate * (first / (std::sqrt(second) + config.epsilon) + config.weight_decay * w);
  }
};

at::Tensor weight_of(double value) { return at::full({1}, value).requires_grad_(); }

TEST(AdamW, FollowsTheFormula) {
  const AdamWConfig config{.weight_decay = 0.1, .clip = 0};
  const at::Tensor w = weight_of(1.5);
  AdamW optimiser({{"w", w}}, config);
  ByHand hand{.config = config, .w = 1.5};
  for (const double g : {0.3, -1.2, 0.05, 7.0, 0.0}) {
    w.mutable_grad() = at::full({1}, g);
    optimiser.step(0.01);
    hand.step(g, 0.01);
    EXPECT_NEAR(w.item<double>(), hand.w, 1e-6);
    EXPECT_FALSE(w.grad().defined());
  }
  EXPECT_EQ(optimiser.steps(), 5);
}

TEST(AdamW, GivesSomeWeightsAnotherRateAndNoDecay) {
  const AdamWConfig config{.weight_decay = 0.1, .clip = 0};
  AdamWConfig without_decay = config;
  without_decay.weight_decay = 0;
  const at::Tensor a = weight_of(1.5), fast = weight_of(1.5), b = weight_of(-2);
  AdamW optimiser({{"a", a}, {"fast", fast}, {"b", b}}, config, {{"fast", 10}});
  ByHand hand_a{.config = config, .w = 1.5}, hand_fast{.config = without_decay, .w = 1.5},
      hand_b{.config = config, .w = -2};
  for (const double g : {0.3, -1.2, 0.05}) {
    for (const at::Tensor& w : {a, fast, b}) w.mutable_grad() = at::full({1}, g);
    optimiser.step(0.01);
    hand_a.step(g, 0.01);
    hand_fast.step(g, 0.1);
    hand_b.step(g, 0.01);
    EXPECT_NEAR(a.item<double>(), hand_a.w, 1e-6);
    EXPECT_NEAR(fast.item<double>(), hand_fast.w, 1e-6);
    EXPECT_NEAR(b.item<double>(), hand_b.w, 1e-6);
  }
}

TEST(AdamW, TakesAnotherBeta1EachStep) {
  AdamWConfig config{.weight_decay = 0, .clip = 0};
  const at::Tensor w = weight_of(1.5);
  AdamW optimiser({{"w", w}}, config);
  ByHand hand{.config = config, .w = 1.5};
  for (const double beta1 : {0.95, 0.9, 0.85, 0.9}) {
    w.mutable_grad() = at::full({1}, 3 * beta1 - 2.5);
    optimiser.step(0.01, beta1);
    hand.config.beta1 = beta1;
    hand.step(3 * beta1 - 2.5, 0.01);
    EXPECT_NEAR(w.item<double>(), hand.w, 1e-6);
  }
}

TEST(AdamW, ClipsTheWholeGradientByItsNorm) {
  const AdamWConfig config{.weight_decay = 0, .clip = 1};
  const at::Tensor a = weight_of(0), b = weight_of(0);
  AdamW optimiser({{"a", a}, {"b", b}}, config);
  a.mutable_grad() = at::full({1}, 0.75);
  b.mutable_grad() = at::full({1}, -1.0);
  EXPECT_NEAR(optimiser.step(0.01), 1.25, 1e-6);
  // The first moment is (1 - beta1) times the clipped gradient, which is (0.6, -0.8).
  const auto state = optimiser.state();
  EXPECT_EQ(state[0].first, "first.a");
  EXPECT_NEAR(state[0].second.item<double>(), 0.06, 1e-6);
  EXPECT_NEAR(state[1].second.item<double>(), -0.08, 1e-6);
}

TEST(AdamW, ClipsEntriesByValue) {
  const at::Tensor w = at::zeros({2}).requires_grad_();
  AdamW optimiser({{"w", w}}, {.beta1 = 0, .clip = 0, .clip_value = 1});
  w.mutable_grad() = at::tensor({0.5, -3.0}, at::kFloat);
  optimiser.step(0.01);
  const at::Tensor first = optimiser.state()[0].second;
  EXPECT_NEAR(first[0].item<double>(), 0.5, 1e-6);
  EXPECT_NEAR(first[1].item<double>(), -1.0, 1e-6);
}

TEST(LearningRate, RisesAndFallsInStraightLines) {
  Recipe::TrainKeys keys;
  keys.steps = 1000;
  keys.warmup = 100;
  keys.learning_rate = 1;
  keys.decay_to = 0.1;
  EXPECT_DOUBLE_EQ(learning_rate(keys, 0), 0.01);
  EXPECT_DOUBLE_EQ(learning_rate(keys, 99), 1);
  EXPECT_DOUBLE_EQ(learning_rate(keys, 100), 1);
  EXPECT_DOUBLE_EQ(learning_rate(keys, 999), 0.1);
  EXPECT_NEAR(learning_rate(keys, 550), 0.55, 0.001);
  keys.warmup_from = 0.5;
  EXPECT_DOUBLE_EQ(learning_rate(keys, 49), 0.75);
  keys.steps = 50;  // a trial that ends inside its warm-up
  EXPECT_DOUBLE_EQ(learning_rate(keys, 49), 0.75);
}

TEST(Beta1, IsConstantUnlessItHasAPeak) {
  Recipe::TrainKeys keys;
  for (const std::int64_t step : {0, 99, 999}) EXPECT_EQ(beta1(keys, step), 0.9);
  keys.beta1_peak = 0.8;
  keys.warmup = 0;
  EXPECT_DOUBLE_EQ(beta1(keys, 0), 0.8);
  EXPECT_DOUBLE_EQ(beta1(keys, 999), 0.9);
  keys.steps = 1;
  EXPECT_DOUBLE_EQ(beta1(keys, 0), 0.8);
}

}  // namespace
}  // namespace fastmax::app
