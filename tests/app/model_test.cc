#include "app/model.h"

#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

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
  for (const bool pool_padded : {false, true}) {
    ModelConfig config = classifier();
    config.pool_padded = pool_padded;
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
