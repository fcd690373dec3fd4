#include "app/attention.h"

#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "app/names.h"
#include "tests/app/one_thread.h"

namespace fastmax::app {
namespace {

constexpr std::int64_t kB = 2, kN = 7, kH = 2, kD = 6;

// Turned by n / 10000^(i / (D / 2)), pair by pair, as complex numbers.
at::Tensor turned(const at::Tensor& x, std::int64_t first) {
  at::Tensor y = x.clone();
  for (std::int64_t n = 0; n < x.size(1); ++n) {
    for (std::int64_t i = 0; i < kD / 2; ++i) {
      const double a = double(first + n) / std::pow(1e4, double(i) / (kD / 2));
      const at::Tensor re = x.select(1, n).select(-1, i),
                       im = x.select(1, n).select(-1, i + kD / 2);
      y.select(1, n).select(-1, i).copy_(re * std::cos(a) - im * std::sin(a));
      y.select(1, n).select(-1, i + kD / 2).copy_(re * std::sin(a) + im * std::cos(a));
    }
  }
  return y;
}

at::Tensor normalised(const at::Tensor& x, const std::string& how) {
  if (how == "none") return x;
  if (how == "l2") return x / x.norm(2, {-1}, true);
  const at::Tensor centred = x - x.mean({-1}, true);
  return centred / (centred.square().mean({-1}, true) + 1e-6).sqrt();
}

// The definition, in double.
at::Tensor by_hand(const ModelConfig& c, const Heads& heads) {
  const int p = fastmax_order(c.attention);
  at::Tensor q = heads.q.to(at::kDouble), k = heads.k.to(at::kDouble);
  if (p > 0) q = normalised(q, c.normalize), k = normalised(k, c.normalize);
  if (c.positions == "rotary") q = turned(q, 0), k = turned(k, 0);
  at::Tensor s = at::einsum("bnhd,bmhd->bhnm", {q, k});
  if (heads.factor.defined()) s = s * heads.factor.to(at::kDouble).view({kH, 1, 1});
  at::Tensor f;
  if (p == 0) {
    f = (s * (c.scale == "default" ? 1 / std::sqrt(double(kD)) : std::stod(c.scale))).exp();
  } else {
    const Normalize normalize = parse_normalize(c.normalize);
    s = s * (c.scale == "default" ? default_scale(p, kD, normalize) : std::stod(c.scale));
    f = at::ones_like(s);
    at::Tensor power = at::ones_like(s);
    for (int l = 1; l <= p; ++l) f = f + (power = power * s / l);
  }
  if (c.causal()) f = f.tril();
  return at::einsum("bhnm,bmhd->bnhd", {f / f.sum({-1}, true), heads.v.to(at::kDouble)}).flatten(2);
}

Heads some_heads() {
  at::manual_seed(3);
  const auto random = [] { return at::randn({kB, kN, kH, kD}); };
  return {random(), random(), random(), {}};
}

TEST(Attention, IsItsDefinition) {
  const OneThread one_thread;
  for (const std::string& attention : attention_names()) {
    for (const char* normalize : {"standardize", "l2", "none"}) {
      for (const char* positions : {"none", "rotary"}) {
        for (const bool learnable : {false, true}) {
          for (const std::int64_t classes : {0, 10}) {
            const bool bounded = std::string(normalize) != "none";
            const bool odd = fastmax_order(attention) % 2 != 0;
            const ModelConfig c = {.attention = attention,
                                   .heads = kH,
                                   .dim = kH * kD,
                                   .scale = odd && !bounded ? "0.02" : "default",
                                   .normalize = normalize,
                                   .scale_learnable = learnable,
                                   .positions = positions,
                                   .length = kN,
                                   .classes = classes};
            Heads heads = some_heads();
            if (learnable) heads.factor = at::tensor({0.6, -0.9}, at::kFloat);
            const at::Tensor o = Attention(c)(heads, {}, /*training=*/false);
            EXPECT_LT((o - by_hand(c, heads)).abs().max().item<double>(), 1e-5)
                << attention << " " << normalize << " " << positions << " " << learnable << " "
                << classes;
          }
        }
      }
    }
  }
}

// Of a comparison, too: softmax and its rivals have the recipe's scale, but for linear, which has no score.
TEST(Attention, ScaleIsEveryAttentions) {
  const OneThread one_thread;
  const auto of = [](const std::string& attention, const std::string& scale) {
    return ModelConfig{.attention = attention,
                       .heads = kH,
                       .dim = kH * kD,
                       .scale = scale,
                       .length = kN,
                       .classes = 10};
  };
  const Heads heads = some_heads();
  const ModelConfig wide = of("softmax", "0.9");
  const at::Tensor o = Attention(wide)(heads, {}, false);
  EXPECT_LT((o - by_hand(wide, heads)).abs().max().item<double>(), 1e-5);
  const at::Tensor mixed = at::matmul(Attention(wide).weights(heads, {}), heads.v.transpose(1, 2));
  EXPECT_LT((mixed.transpose(1, 2).flatten(2) - o).abs().max().item<double>(), 1e-5);
  Heads larger = some_heads();
  larger.q = larger.q * (0.9 * std::sqrt(double(kD)));
  for (const std::string& rival : rival_names()) {
    const at::Tensor scaled = Attention(of(rival, "0.9"))(heads, {}, false);
    const at::Tensor expected =
        Attention(of(rival, "default"))(rival == "linear" ? heads : larger, {}, false);
    EXPECT_TRUE(at::equal(scaled, expected)) << rival;
    EXPECT_LT((Attention(of(rival, "1/sqrt(D)"))(heads, {}, false) -
               Attention(of(rival, "default"))(heads, {}, false))
                  .abs()
                  .max()
                  .item<double>(),
              1e-5)
        << rival;
  }
}

// Learning may lower an odd order's scale, but never raise it to where weights become negative; then the factor's
// gradient is zero. Even orders go where they like.
TEST(Attention, LearntScaleKeepsOddOrdersSafe) {
  const OneThread one_thread;
  for (const std::string& attention : attention_names()) {
    const ModelConfig c = {
        .attention = attention, .heads = kH, .dim = kH * kD, .scale_learnable = true, .length = kN};
    const auto run = [&](double factor) {
      Heads heads = some_heads();
      heads.factor = at::full({kH}, factor).requires_grad_();
      const at::Tensor o = Attention(c)(heads, {}, false);
      o.square().sum().backward();
      return std::pair(o.detach(), heads.factor.grad());
    };
    const auto [at_one, slope_at_one] = run(1);
    const auto [beyond, slope_beyond] = run(3);
    EXPECT_GT(slope_at_one.abs().min().item<double>(), 1e-4) << attention;
    const bool odd = fastmax_order(attention) % 2 != 0;
    EXPECT_EQ(at::equal(at_one, beyond), odd) << attention;
    EXPECT_EQ(slope_beyond.abs().max().item<double>() == 0, odd) << attention;
  }
}

TEST(Attention, OddOrdersNeedAScaleWhereNothingIsBounded) {
  const auto make = [](const std::string& scale) {
    return Attention(
        {.attention = "fastmax1", .scale = scale, .normalize = "none", .scale_learnable = true});
  };
  EXPECT_THROW(make("default"), Error);
  EXPECT_NO_THROW(make("0.1"));
}

TEST(Attention, SinusoidsAreTheirFormula) {
  const at::Tensor p = sinusoids(50, 5, 0.02);
  ASSERT_EQ(p.sizes().vec(), (std::vector<std::int64_t>{50, 5}));
  for (const std::int64_t n : {0, 1, 49}) {
    for (const std::int64_t i : {0, 1, 2}) {
      const double a = double(n) / std::pow(1e4, i / 3.0), size = 0.02 * std::sqrt(2.0);
      EXPECT_NEAR(p[n][2 * i].item<double>(), size * std::sin(a), 1e-8);
      if (2 * i + 1 == 5) continue;
      EXPECT_NEAR(p[n][2 * i + 1].item<double>(), size * std::cos(a), 1e-8);
    }
  }
}

}  // namespace
}  // namespace fastmax::app
