#include "app/rivals.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "app/attention.h"
#include "app/error.h"
#include "app/names.h"
#include "app/recipe.h"
#include "app/recipe_check.h"

namespace fastmax::app {
namespace {

constexpr std::int64_t kB = 2, kH = 2, kD = 6;
const double kNever = -std::numeric_limits<double>::infinity();

struct Inputs {
  at::Tensor q, k, v, key_weight;
};

Inputs some(std::int64_t N, bool padded, std::int64_t B = kB) {
  at::manual_seed(5);
  Inputs x{at::randn({B, kH, N, kD}), at::randn({B, kH, N, kD}), at::randn({B, kH, N, kD}), {}};
  if (padded) {
    x.key_weight = at::ones({B, N});
    x.key_weight.select(0, 1).narrow(0, N - N / 3, N / 3).zero_();
  }
  return x;
}

// Softmax of scores [B, H, N, N] over the keys that count, in double.
at::Tensor softmax(at::Tensor s, const Inputs& x, bool causal) {
  s = s.to(at::kDouble);
  const std::int64_t N = s.size(3);
  if (x.key_weight.defined()) s = s.masked_fill((x.key_weight == 0).view({kB, 1, 1, N}), kNever);
  if (causal) s = s.masked_fill(at::ones({N, N}, at::kBool).triu(1), kNever);
  return at::matmul(s.softmax(-1), x.v.to(at::kDouble));
}

at::Tensor scores(const at::Tensor& q, const at::Tensor& k) {
  return at::matmul(q, k.transpose(2, 3)) / std::sqrt(double(kD));
}

// Of tokens, not of padding, whose outputs nobody reads.
double difference(const at::Tensor& a, const at::Tensor& b, const Inputs& x) {
  at::Tensor d = (a - b).abs().amax({1, 3});
  if (x.key_weight.defined()) d = d * x.key_weight;
  return d.max().item<double>();
}

TEST(Linear, IsTheQuadraticForm) {
  for (const bool causal : {false, true}) {
    for (const std::int64_t N : {1, 7, 150}) {
      const Inputs x = some(N, N > 1);
      at::Tensor f = at::matmul(at::elu(x.q) + 1, (at::elu(x.k) + 1).transpose(2, 3));
      if (x.key_weight.defined()) f = f * x.key_weight.view({kB, 1, 1, N});
      if (causal) f = f.tril();
      const at::Tensor expected = at::matmul(f / f.sum({-1}, true), x.v);
      const at::Tensor o = linear_attention(x.q, x.k, x.v, x.key_weight, causal);
      EXPECT_LT(difference(o, expected, x), 1e-5) << "N " << N << " causal " << causal;
    }
  }
}

// FAVOR+ by its definition, in double: phi(x) = exp(w x - |x|^2 / 2) for each feature w, of x = q D^-1/4 and k D^-1/4.
TEST(Performer, IsTheQuadraticFormOfItsFeatures) {
  for (const bool causal : {false, true}) {
    for (const std::int64_t N : {1, 7, 150}) {
      const Inputs x = some(N, N > 1);
      const at::Tensor w = orthogonal_features(40, kD, /*seed=*/3);
      const auto phi = [&](const at::Tensor& given) {
        const at::Tensor scaled = given.to(at::kDouble) * std::pow(double(kD), -0.25);
        return (at::matmul(scaled, w.to(at::kDouble).t()) - scaled.square().sum({-1}, true) / 2)
            .exp();
      };
      at::Tensor f = at::matmul(phi(x.q), phi(x.k).transpose(2, 3));
      if (x.key_weight.defined()) f = f * x.key_weight.view({kB, 1, 1, N});
      if (causal) f = f.tril();
      const at::Tensor expected = at::matmul(f / f.sum({-1}, true), x.v.to(at::kDouble));
      const at::Tensor o = performer_attention(x.q, x.k, x.v, x.key_weight, w, causal);
      EXPECT_LT(difference(o, expected, x), 1e-5) << "N " << N << " causal " << causal;
    }
  }
}

TEST(Performer, ApproachesSoftmaxWithItsFeatures) {
  for (const bool causal : {false, true}) {
    Inputs x = some(9, true);  // the features' variance grows as exp |q + k|^2
    x.q *= 0.5, x.k *= 0.5;
    const at::Tensor expected = softmax(scores(x.q, x.k), x, causal);
    double error[2];
    for (const int i : {0, 1}) {
      const at::Tensor features = orthogonal_features(i ? 60000 : 60, kD, /*seed=*/3);
      const at::Tensor o = performer_attention(x.q, x.k, x.v, x.key_weight, features, causal);
      error[i] = difference(o, expected, x);
    }
    EXPECT_LT(error[1], 0.05);
    EXPECT_LT(5 * error[1], error[0]);
  }
}

TEST(Performer, FeaturesAreOrthogonalInBlocksAndAsLongAsNormalVectors) {
  const at::Tensor w = orthogonal_features(9000, 6, 1);
  const at::Tensor product = at::matmul(w.narrow(0, 6, 6), w.narrow(0, 6, 6).t());
  EXPECT_LT((product - product.diag().diag()).abs().max().item<float>(), 1e-4);
  EXPECT_NEAR(w.square().sum({1}).mean().item<float>(), 6, 0.2);
}

// The definition: round by round the keys of a query, then softmax over their union.
struct ByHand {
  at::Tensor o;
  at::Tensor lone;  // [B, H, N], whether a token sees none but itself
};
ByHand reformer_by_hand(const Inputs& x, std::uint64_t seed, const ReformerOptions& options) {
  const std::int64_t N = x.q.size(2), m = options.chunk, chunks = (N + m - 1) / m;
  const std::int64_t buckets = options.buckets > 0 ? options.buckets : 2 * chunks;
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  at::Tensor turn;
  if (buckets > 1) turn = at::randn({options.rounds, kD, buckets / 2}, generator);
  at::Tensor keys = at::zeros({kB, kH, N, N}, at::kBool);
  for (std::int64_t b = 0; b < kB; ++b) {
    for (std::int64_t h = 0; h < kH; ++h) {
      for (std::int64_t r = 0; r < options.rounds; ++r) {
        std::vector<std::pair<std::int64_t, std::int64_t>> sorted;  // bucket, token
        for (std::int64_t i = 0; i < N; ++i) {
          std::int64_t bucket = 0;
          if (turn.defined()) {
            const at::Tensor y = at::matmul(x.q[b][h][i], turn[r]);
            bucket = at::cat({y, -y}).argmax().item<std::int64_t>();
          }
          const bool padding = x.key_weight.defined() && x.key_weight[b][i].item<float>() == 0;
          sorted.emplace_back(padding ? buckets : bucket, i);
        }
        std::sort(sorted.begin(), sorted.end());
        for (std::int64_t s = 0; s < N; ++s) {
          for (std::int64_t t = 0; t < N; ++t) {
            const std::int64_t behind = s / m - t / m;
            if (sorted[s].first == sorted[t].first && (behind == 0 || behind == 1)) {
              keys[b][h][sorted[s].second][sorted[t].second] = true;
            }
          }
        }
      }
    }
  }
  at::Tensor s = scores(x.q, x.q / x.q.norm(2, {-1}, true)).to(at::kDouble);
  s = s.masked_fill(at::eye(N).to(at::kBool), -1e5).masked_fill(~keys, kNever);
  Inputs unpadded = x;
  unpadded.key_weight = at::Tensor();  // padding is in no token's bucket
  if (options.causal) keys = keys.tril();
  return {softmax(s, unpadded, options.causal), keys.sum({-1}) == 1};
}

TEST(Reformer, IsFullSharedAttentionWhereOneBucketHoldsAll) {
  for (const bool causal : {false, true}) {
    const Inputs x = some(20, true);
    const ReformerOptions options{.rounds = 2, .chunk = 20, .buckets = 1, .causal = causal};
    const at::Tensor own = at::eye(20).to(at::kBool);
    const at::Tensor s = scores(x.q, x.q / x.q.norm(2, {-1}, true)).masked_fill(own, -1e5);
    const at::Tensor o = reformer_attention(x.q, x.v, x.key_weight, 1, options);
    EXPECT_LT(difference(o, softmax(s, x, causal), x), 1e-4);
  }
}

TEST(Reformer, IsSoftmaxOverTheUnionOfItsRounds) {
  for (const bool causal : {false, true}) {
    for (const bool padded : {false, true}) {
      for (const std::int64_t rounds : {1, 3}) {
        for (const std::int64_t buckets : {0, 4}) {  // 0: as many as the paper has, 8 here
          const Inputs x = some(29, padded);
          const ReformerOptions options{
              .rounds = rounds, .chunk = 8, .buckets = buckets, .causal = causal};
          const at::Tensor o = reformer_attention(x.q, x.v, x.key_weight, 9, options);
          const ByHand expected = reformer_by_hand(x, 9, options);
          const std::string which =
              text("causal ", causal, " padded ", padded, " rounds ", rounds, " buckets ", buckets);
          // Of the score -1e5, which a token alone has with itself, float32 keeps hundredths.
          const at::Tensor lone = expected.lone.unsqueeze(-1);
          ASSERT_LT(lone.sum().item<double>(), 0.5 * double(lone.numel())) << which;
          EXPECT_LT(difference(o, expected.o, x), 5e-3) << which;
          EXPECT_LT(difference(at::where(lone, expected.o, o), expected.o, x), 1e-5) << which;
        }
      }
    }
  }
}

TEST(Informer, IsSoftmaxWhereEveryQueryAttends) {
  for (const bool padded : {false, true}) {
    const Inputs x = some(12, padded);  // 5 ln 12 = 12.4
    const at::Tensor o = informer_attention(x.q, x.k, x.v, x.key_weight, 1);
    EXPECT_LT(difference(o, softmax(scores(x.q, x.k), x, false), x), 1e-5);
  }
}

// By the definition, head by head: u tokens are drawn, of which padding counts for nothing; the u tokens with the largest
// max_j s_ij - mean_j s_ij over them attend.
TEST(Informer, GivesTheMeanToQueriesThatDoNotStandOut) {
  const std::int64_t N = 40, u = 8;  // 2 ln 40 = 7.4
  for (const bool padded : {false, true}) {
    const Inputs x = some(N, padded);
    auto generator = at::make_generator<at::CPUGeneratorImpl>(std::uint64_t{4});
    const at::Tensor sample = at::randperm(N, generator).narrow(0, 0, u);
    if (padded) {  // some of it is drawn, and would decide if it counted
      const at::Tensor padding = x.key_weight[1] == 0;
      ASSERT_TRUE(padding.index_select(0, sample).any().item<bool>());
      x.k[1].mul_(at::where(padding, 50.0, 1.0).view({1, N, 1}));
    }
    at::Tensor attends = at::zeros({kB, kH, N, 1}, at::kBool), mean = at::empty({kB, kH, 1, kD});
    for (std::int64_t b = 0; b < kB; ++b) {
      const auto is_real = [&](std::int64_t n) {
        return !padded || x.key_weight[b][n].item<float>() > 0;
      };
      for (std::int64_t h = 0; h < kH; ++h) {
        std::vector<std::pair<double, std::int64_t>> stands;
        at::Tensor sum = at::zeros({kD});
        std::int64_t real = 0;
        for (std::int64_t i = 0; i < N; ++i) {
          if (!is_real(i)) continue;
          ++real;
          sum = sum + x.v[b][h][i];
          double most = kNever, all = 0;
          int drawn = 0;
          for (std::int64_t j = 0; j < u; ++j) {
            const auto key = sample[j].item<std::int64_t>();
            if (!is_real(key)) continue;
            const double s = at::dot(x.q[b][h][i], x.k[b][h][key]).item<double>();
            most = std::max(most, s);
            all += s;
            ++drawn;
          }
          stands.emplace_back(most - all / drawn, i);
        }
        mean[b][h][0] = sum / double(real);
        std::sort(stands.rbegin(), stands.rend());
        for (std::int64_t n = 0; n < u; ++n) attends[b][h][stands[n].second] = true;
      }
    }
    const at::Tensor expected =
        at::where(attends, softmax(scores(x.q, x.k), x, false), mean.to(at::kDouble));
    const at::Tensor o = informer_attention(x.q, x.k, x.v, x.key_weight, 4, /*factor=*/2);
    EXPECT_LT(difference(o, expected, x), 1e-5) << "padded " << padded;
  }
}

class EveryRival : public testing::TestWithParam<std::string> {};

TEST_P(EveryRival, DoesNotSeePaddingAndHasGradients) {
  Inputs x = some(150, true);
  const Rival rival = make_rival(GetParam(), kD, /*causal=*/false);
  const at::Tensor o = rival(x.q, x.k, x.v, x.key_weight, 2);
  const at::Tensor padding = (x.key_weight == 0).view({kB, 1, 150, 1});
  const Inputs other{x.q, at::where(padding, x.k + 1, x.k), at::where(padding, x.v - 3, x.v),
                     x.key_weight};
  EXPECT_LT(difference(o, rival(other.q, other.k, other.v, other.key_weight, 2), x), 1e-5);
  for (at::Tensor* t : {&x.q, &x.v}) t->requires_grad_();
  rival(x.q, x.k, x.v, x.key_weight, 2).square().sum().backward();
  for (const at::Tensor& t : {x.q, x.v}) {
    EXPECT_TRUE(t.grad().isfinite().all().item<bool>());
    EXPECT_GT(t.grad().abs().max().item<float>(), 0);
  }
}

// Some take a batch in slices: here two sequences and then one, or each by itself.
TEST_P(EveryRival, GivesASequenceWhatItGivesItAlone) {
  const std::int64_t B = 3;
  const Inputs x = some(400, true, B);
  const Rival rival = make_rival(GetParam(), kD, /*causal=*/false);
  const at::Tensor o = rival(x.q, x.k, x.v, x.key_weight, 2);
  for (std::int64_t b = 0; b < B; ++b) {
    const auto of = [&](const at::Tensor& all) { return all.narrow(0, b, 1); };
    const Inputs one{of(x.q), of(x.k), of(x.v), of(x.key_weight)};
    const at::Tensor alone = rival(one.q, one.k, one.v, one.key_weight, 2);
    EXPECT_LT(difference(of(o), alone, one), 1e-5) << b;
  }
  EXPECT_EQ(rival(x.q, x.k, x.v, {}, 2).sizes(), x.v.sizes());
}

TEST_P(EveryRival, IsTheLayersAttention) {
  const Inputs x = some(30, true);
  const ModelConfig config{.attention = GetParam(), .heads = kH, .dim = kH * kD, .classes = 2};
  const Heads heads{x.q.transpose(1, 2), x.k.transpose(1, 2), x.v.transpose(1, 2), {}};
  const at::Tensor o = Attention(config)(heads, x.key_weight, /*training=*/false);
  const at::Tensor expected =
      make_rival(GetParam(), kD, false, config.length)(x.q, x.k, x.v, x.key_weight, 0)
          .transpose(1, 2)
          .flatten(2);
  EXPECT_TRUE(at::equal(o, expected));
}

INSTANTIATE_TEST_SUITE_P(Rivals, EveryRival, testing::ValuesIn(rival_names()),
                         [](const auto& name) { return name.param; });

TEST(Rivals, DoNotLookAhead) {
  for (const char* name : {"linear", "performer"}) {
    Inputs x = some(150, false), y = x;
    y.k = x.k.clone(), y.v = x.v.clone();
    y.k.select(2, 149) += 1, y.v.select(2, 149) += 1;
    const Rival rival = make_rival(name, kD, /*causal=*/true);
    const at::Tensor d = rival(x.q, x.k, x.v, {}, 0) - rival(y.q, y.k, y.v, {}, 0);
    EXPECT_LT(d.narrow(2, 0, 149).abs().max().item<float>(), 1e-5) << name;
    EXPECT_GT(d.select(2, 149).abs().max().item<float>(), 1e-3) << name;
  }
}

TEST(Rivals, InformerIsRefusedForALanguageModel) {
  Recipe recipe;
  recipe.task = "textfile";
  recipe.data.variant = "lra";
  EXPECT_THROW(with_attention(recipe, "informer"), UsageError);
  EXPECT_NO_THROW(with_attention(recipe, "reformer"));
  recipe.task = "listops";
  EXPECT_NO_THROW(with_attention(recipe, "informer"));
}

}  // namespace
}  // namespace fastmax::app
