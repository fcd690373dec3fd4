#include "app/model.h"

#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "app/error.h"
#include "app/evaluate.h"
#include "app/names.h"
#include "tests/app/one_thread.h"

namespace fastmax::app {
namespace {

// Three sequences of different lengths, padded to the longest with a token that must not matter.
struct Padded {
  Batch batch{.B = 3, .N = 24, .lengths = {24, 9, 1}};
  Padded() {
    batch.tokens.assign(batch.B * batch.N, 0);
    for (std::int64_t b = 0; b < batch.B; ++b) {
      for (std::int64_t n = 0; n < batch.lengths[b]; ++n) {
        batch.tokens[b * batch.N + n] = 1 + (7 * b + 3 * n) % 14;
      }
    }
    batch.targets = {1, 2, 3};
  }
  Batch alone(std::int64_t b) const {
    const auto first = batch.tokens.begin() + b * batch.N;
    return {.B = 1,
            .N = batch.lengths[b],
            .tokens = {first, first + batch.lengths[b]},
            .lengths = {batch.lengths[b]},
            .targets = {batch.targets[b]}};
  }
};

ModelConfig classifier(const std::string& attention) {
  return {.attention = attention, .vocabulary = 16, .length = 64, .classes = 10};
}

// What a model may have besides its attention, in a few mixtures that have each of it.
struct Variant {
  std::string name;
  ModelConfig config;
};
const std::vector<Variant>& variants() {
  static const std::vector<Variant> all = {
      {"Plain", {}},
      {"Convolution", {.convolution = 3, .positions = "sinusoidal"}},
      {"EvenConvolutionRotaryLearntScale",
       {.scale_learnable = true, .convolution = 4, .positions = "rotary"}},
      {"NowhereL2", {.normalize = "l2", .positions = "none"}},
      {"LearntScaleL2Rotary", {.normalize = "l2", .scale_learnable = true, .positions = "rotary"}},
      {"Authors", {.authors_block = true}},
  };
  return all;
}

class EveryModel : public testing::TestWithParam<std::tuple<std::string, Variant>> {
 protected:
  const OneThread one_thread;

  ModelConfig config() const {
    ModelConfig config = std::get<1>(GetParam()).config;
    config.attention = std::get<0>(GetParam());
    return config;
  }
  ModelConfig classifier() const {
    ModelConfig mine = config();
    mine.vocabulary = 16;
    mine.length = 64;
    mine.classes = 10;
    return mine;
  }
};
INSTANTIATE_TEST_SUITE_P(Model, EveryModel,
                         testing::Combine(testing::ValuesIn(attention_names()),
                                          testing::ValuesIn(variants())),
                         [](const auto& info) {
                           return std::get<0>(info.param) + std::get<1>(info.param).name;
                         });

at::Tensor logits_of(const Model& model, const Batch& batch) {
  const Tensors t = to_tensors(batch);
  return model.forward(t.tokens, t.key_weight, /*training=*/false);
}

TEST_P(EveryModel, PaddingChangesNothing) {
  const c10::AutoGradMode no_gradient(false);
  for (const std::string pool : {"tokens", "padded", "class"}) {
    ModelConfig config = classifier();
    config.pool_padded = pool == "padded";
    config.class_token = pool == "class";
    const Model model(config, 1);
    const Padded padded;
    ASSERT_TRUE(to_tensors(padded.batch).key_weight.defined());
    const at::Tensor together = logits_of(model, padded.batch);
    for (std::int64_t b = 0; b < padded.batch.B; ++b) {
      const Batch alone = padded.alone(b);
      ASSERT_FALSE(to_tensors(alone).key_weight.defined());
      const double error = (logits_of(model, alone)[0] - together[b]).abs().max().item<double>();
      EXPECT_LT(error, 1e-5) << "sequence " << b;
    }
    // The comparison means something: sequences differ from each other by much more.
    EXPECT_GT((together[0] - together[1]).abs().max().item<double>(), 1e-3);
  }
}

TEST_P(EveryModel, GradientsDoNotSeePadding) {
  const Model model(classifier(), 1);
  const Padded padded;
  const auto gradient = [&](const std::vector<Batch>& batches) {
    at::Tensor loss = at::zeros({});
    for (const Batch& batch : batches) {
      const Tensors t = to_tensors(batch);
      const double share = static_cast<double>(batch.B) / 3;
      loss = loss + share * cross_entropy(model.forward(t.tokens, t.key_weight, true), t.targets);
    }
    loss.backward();
    std::vector<at::Tensor> all;
    for (const auto& [name, weight] : model.parameters()) {
      all.push_back(weight.grad().clone());
      weight.mutable_grad().reset();
    }
    return all;
  };
  const auto together = gradient({padded.batch});
  const auto alone = gradient({padded.alone(0), padded.alone(1), padded.alone(2)});
  for (std::size_t i = 0; i < together.size(); ++i) {
    const double size = alone[i].abs().max().item<double>();
    EXPECT_LT((together[i] - alone[i]).abs().max().item<double>(), 1e-4 * size + 1e-6)
        << model.parameters()[i].first;
  }
}

TEST_P(EveryModel, LanguageModelSeesOnlyThePast) {
  const c10::AutoGradMode no_gradient(false);
  ModelConfig language = config();
  language.length = 32;
  const Model model(language, 1);
  const at::Tensor tokens = at::arange(20).view({1, 20});
  at::Tensor changed = tokens.clone();
  changed.narrow(1, 12, 8).fill_(99);
  const at::Tensor a = model.forward(tokens, {}, false), b = model.forward(changed, {}, false);
  EXPECT_EQ(a.sizes().vec(), (std::vector<std::int64_t>{1, 20, 256}));
  EXPECT_LT((a - b).narrow(1, 0, 12).abs().max().item<double>(), 1e-5);
  EXPECT_GT((a - b).narrow(1, 12, 8).abs().max().item<double>(), 1e-2);
}

TEST(Model, WeightsFollowTheSeedAndNothingElse) {
  const Model a(classifier("fastmax2"), 1), same(classifier("softmax"), 1),
      other(classifier("fastmax2"), 2);
  EXPECT_EQ(a.parameter_count(), same.parameter_count());
  for (std::size_t i = 0; i < a.parameters().size(); ++i) {
    EXPECT_TRUE(at::equal(a.parameters()[i].second, same.parameters()[i].second));
  }
  EXPECT_FALSE(at::equal(a.parameters()[0].second, other.parameters()[0].second));
  EXPECT_NEAR(a.parameters()[0].second.std().item<double>(), 0.02, 0.002);
}

TEST(Model, EmbeddingsBeginAsLargeAsAsked) {
  ModelConfig config = classifier("fastmax2");
  const Model small(config, 1);
  config.embedding_std = 0.5;
  const Model large(config, 1);
  for (std::size_t i = 0; i < small.parameters().size(); ++i) {
    const auto& [name, weight] = small.parameters()[i];
    const bool embedding = name == "token.weight" || name == "position.weight";
    EXPECT_TRUE(
        at::allclose(large.parameters()[i].second, weight * (embedding ? 25 : 1), 1e-5, 1e-7))
        << name;
  }
}

// The forward of the paper's authors (their transformer/model.py), step by step and in double: 49 patches of 16 numbers and a
// class token in front of them.
TEST(Model, AuthorsModelIsItsDefinition) {
  const OneThread one_thread;
  const c10::AutoGradMode no_gradient(false);
  const ModelConfig config{.attention = "softmax",
                           .layers = 3,
                           .heads = 4,
                           .dim = 24,
                           .mlp = 48,
                           .values = 16,
                           .length = 49,
                           .classes = 10,
                           .class_token = true,
                           .authors_block = true};
  const Model model(config, 1);
  std::map<std::string, at::Tensor> w;
  for (const auto& [name, weight] : model.parameters()) w[name] = weight.to(at::kDouble);
  EXPECT_EQ(w.count("layers.0.qkv.bias"), 0u);
  EXPECT_EQ(w.count("hidden.weight"), 0u);
  EXPECT_EQ(w.at("position.weight").size(0), 50);

  at::manual_seed(2);
  const at::Tensor patches = at::rand({3, 49, 16});
  const auto linear = [&](const at::Tensor& x, const std::string& name) {
    return at::matmul(x, w.at(name + ".weight").t()) + w.at(name + ".bias");
  };
  const auto norm = [&](const at::Tensor& x, const std::string& name) {
    const at::Tensor centred = x - x.mean({-1}, true);
    return centred / (centred.square().mean({-1}, true) + 1e-5).sqrt() * w.at(name + ".weight") +
           w.at(name + ".bias");
  };
  at::Tensor x = at::cat({w.at("class_token").view({1, 1, 24}).expand({3, 1, 24}),
                          linear(patches.to(at::kDouble), "token")},
                         1) +
                 w.at("position.weight");
  for (int i = 0; i < 3; ++i) {
    const std::string layer = "layers." + std::to_string(i) + ".";
    const auto qkv = at::matmul(norm(x, layer + "norm1"), w.at(layer + "qkv.weight").t())
                         .view({3, 50, 3, 4, 6})
                         .permute({2, 0, 3, 1, 4});
    const at::Tensor a =
        at::softmax(at::matmul(qkv[0], qkv[1].transpose(-2, -1)) / std::sqrt(6.0), -1);
    const at::Tensor o = at::matmul(a, qkv[2]).transpose(1, 2).flatten(2);
    const at::Tensor y = x + linear(o, layer + "out");
    x = x + linear(at::gelu(linear(norm(y, layer + "norm2"), layer + "mlp1")), layer + "mlp2");
  }
  const at::Tensor expected = linear(norm(x, "norm").select(1, 0), "head");
  const at::Tensor logits = model.forward(patches, {}, false);
  EXPECT_LT((logits - expected).abs().max().item<double>(), 1e-5);
}

TEST(Model, AuthorsMatricesBeginWithinTheirBounds) {
  const Model model({.dim = 48,
                     .mlp = 96,
                     .values = 16,
                     .length = 49,
                     .classes = 10,
                     .class_token = true,
                     .authors_block = true},
                    1);
  const std::map<std::string, double> counts = {
      // inputs + outputs
      {"token.weight", 16 + 48 * 16},    {"position.weight", 50 + 48},
      {"layers.0.qkv.weight", 48 + 48},  {"layers.0.out.weight", 48 + 48},
      {"layers.1.mlp1.weight", 48 + 96}, {"layers.1.mlp2.weight", 48 + 96},
      {"head.weight", 48 + 10}};
  for (const auto& [name, weight] : model.parameters()) {
    const auto count = counts.find(name);
    if (count == counts.end()) continue;
    const double bound = std::sqrt(6 / count->second), most = weight.abs().max().item<double>();
    EXPECT_LE(most, bound) << name;
    EXPECT_GT(most, 0.97 * bound) << name;
  }
  for (const auto& [name, weight] : model.parameters()) {
    if (name == "class_token") {
      EXPECT_NEAR(weight.std().item<double>(), 1, 0.3);
    }
  }
}

TEST(Model, AuthorsDropOnlyWhatJoinsTheStream) {
  const OneThread one_thread;
  const c10::AutoGradMode no_gradient(false);
  ModelConfig config = classifier("fastmax2");
  config.authors_block = true;
  config.dropout = 0.5;
  const Model model(config, 1);
  const Tensors t = to_tensors(Padded().batch);
  const auto forward = [&] { return model.forward(t.tokens, t.key_weight, /*training=*/true); };
  EXPECT_FALSE(at::equal(forward(), forward()));
  for (const auto& [name, weight] : model.parameters())
    if (name.find(".out.") != std::string::npos || name.find(".mlp2.") != std::string::npos)
      weight.zero_();
  EXPECT_TRUE(at::equal(forward(), forward()));
}

TEST(Model, DropoutActsOnlyInTrainingAndFollowsTheSeed) {
  const OneThread one_thread;
  std::vector<ModelConfig> configs;
  for (const char* attention : {"softmax", "fastmax2"}) {
    for (const char* mode : {"residual", "quadratic", "standard", "token"}) {
      ModelConfig& config = configs.emplace_back(classifier(attention));
      if (std::string(mode) == "residual") {
        config.dropout = 0.5;
      } else {
        config.attention_dropout = 0.5;
        config.attention_dropout_mode = mode;
      }
    }
  }
  const Tensors t = to_tensors(Padded().batch);
  for (const ModelConfig& config : configs) {
    SCOPED_TRACE(config.attention + " " + config.attention_dropout_mode);
    const Model model(config, 1);
    const auto forward = [&](bool training, std::uint64_t seed) {
      at::manual_seed(seed);
      return model.forward(t.tokens, t.key_weight, training);
    };
    EXPECT_TRUE(at::equal(forward(false, 1), forward(false, 2)));
    EXPECT_TRUE(at::equal(forward(true, 1), forward(true, 1)));
    EXPECT_FALSE(at::equal(forward(true, 1), forward(true, 2)));
    EXPECT_FALSE(at::equal(forward(true, 1), forward(false, 1)));
  }
}

// Fastmax sees a set of tokens; only positions and the convolution make a sequence of it.
TEST(Model, OrderMattersThroughPositionsOrConvolutionOnly) {
  const OneThread one_thread;
  const c10::AutoGradMode no_gradient(false);
  const at::Tensor tokens = at::arange(12).view({1, 12}) % 7;
  const at::Tensor turned = tokens.flip({1});
  const auto difference = [&](const std::string& positions, std::int64_t convolution) {
    ModelConfig config = classifier("fastmax2");
    config.positions = positions;
    config.convolution = convolution;
    const Model model(config, 1);
    return (model.forward(tokens, {}, false) - model.forward(turned, {}, false))
        .abs()
        .max()
        .item<double>();
  };
  EXPECT_LT(difference("none", 0), 1e-6);
  for (const char* positions : {"learned", "sinusoidal", "rotary"}) {
    EXPECT_GT(difference(positions, 0), 1e-5) << positions;
  }
  EXPECT_GT(difference("none", 3), 1e-5);
}

TEST(Model, OnlyScalesLearnFaster) {
  ModelConfig config = classifier("fastmax2");
  EXPECT_TRUE(Model(config, 1).rates().empty());
  config.scale_learnable = true;
  const Model model(config, 1);
  const std::map<std::string, double> rates = {{"layers.0.scale_factor", 10},
                                               {"layers.1.scale_factor", 10}};
  EXPECT_EQ(model.rates(), rates);
}

TEST(Model, UnknownAttentionSaysWhichExist) {
  try {
    Model(classifier("hardmax"), 1);
    FAIL();
  } catch (const UsageError& e) {
    EXPECT_STREQ(
        e.what(),
        "attention: expected one of softmax, fastmax1, fastmax2, fastmax3, fastmax4, linear, "
        "performer, reformer, informer, got "
        "\"hardmax\"");
  }
}

TEST(Model, ScaleNames) {
  EXPECT_EQ(resolve_scale("default", 2, 32), std::nullopt);
  EXPECT_DOUBLE_EQ(*resolve_scale("1/sqrt(D)", 2, 16), 0.25);
  EXPECT_DOUBLE_EQ(*resolve_scale("1/D", 2, 16), 1.0 / 16);
  EXPECT_DOUBLE_EQ(*resolve_scale("0.3", 2, 16), 0.3);
  // Odd orders stay where no weight can be negative, unless a number says otherwise.
  EXPECT_DOUBLE_EQ(*resolve_scale("1/sqrt(D)", 1, 16), 1.0 / 16);
  EXPECT_DOUBLE_EQ(*resolve_scale("0.3", 1, 16), 0.3);
  // Under l2 the scores of any head size are at most 1; under none nothing is safe, so what is asked stands.
  EXPECT_DOUBLE_EQ(*resolve_scale("1/sqrt(D)", 1, 16, Normalize::kL2), 0.25);
  EXPECT_DOUBLE_EQ(*resolve_scale("1/sqrt(D)", 1, 16, Normalize::kNone), 0.25);
}

}  // namespace
}  // namespace fastmax::app
