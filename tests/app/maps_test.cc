#include "app/maps.h"

#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <string>

#include "app/error.h"
#include "app/evaluate.h"
#include "app/names.h"
#include "tests/app/one_thread.h"

namespace fastmax::app {
namespace {

constexpr std::int64_t kN = 20;

Batch some_tokens(bool mask_zero) {
  Batch batch{.B = 1, .N = kN, .lengths = {kN}, .mask_zero = mask_zero};
  for (std::int64_t n = 0; n < kN; ++n) batch.tokens.push_back(n * n % 13);  // zeros among them
  return batch;
}

/// Weights that are not small, so that the maps are not flat.
Model model_of(ModelConfig config) {
  config.vocabulary = 16;
  config.length = kN;
  Model model(config, 3);
  const c10::AutoGradMode no_gradient(false);
  for (const auto& [name, weight] : model.parameters())
    if (name.find("qkv.weight") != std::string::npos) weight.mul_(4);
  return model;
}

// Times the values that the layer saw, the map is what its attention gave: with every attention, of classifiers and
// of language models, with padding in the midst, a learnt scale, rotary positions and a convolution.
TEST(Maps, WeightsAreTheMatrixThatWasApplied) {
  const OneThread one_thread;
  const c10::AutoGradMode no_gradient(false);
  for (const std::string& attention : trainable_attention_names()) {
    for (const std::int64_t classes : {0, 10}) {
      if (attention == "informer" && classes == 0) continue;  // has no causal form
      for (const bool variant : {false, true}) {
        ModelConfig config{.attention = attention, .classes = classes};
        if (variant) {
          config.convolution = 3;
          config.positions = "rotary";
          config.scale_learnable = fastmax_order(attention) > 0;
          config.class_token = classes > 0;
        }
        const Model model = model_of(config);
        const Batch batch = some_tokens(/*mask_zero=*/classes > 0);
        const Tensors t = to_tensors(batch);
        ASSERT_EQ(t.key_weight.defined(), classes > 0);
        const auto maps = attention_maps(model, batch, -1, -1);
        ASSERT_EQ(maps.size(), 4u);
        const std::int64_t N = model.config().places();  // with a class token, one more
        ASSERT_EQ(N, kN + (variant && classes > 0));
        for (const AttentionMap& map : maps) {
          Watched watched{.layer = map.layer};
          model.watch(t.tokens, t.key_weight, watched);
          const at::Tensor v = watched.heads.v[0].select(1, map.head);
          const at::Tensor o = watched.o[0].view({N, 2, 32}).select(1, map.head);
          ASSERT_EQ(map.weights.sizes().vec(), (std::vector<std::int64_t>{N, N}));
          const double error = (at::matmul(map.weights, v) - o).abs().max().item<double>();
          EXPECT_LT(error, 2.5e-6 * v.abs().max().item<double>())
              << attention << " " << classes << " " << variant << " " << map.layer << map.head;
        }
      }
    }
  }
}

TEST(Maps, LayersAndHeadsThatAreNotThereAreRefused) {
  const Model model = model_of({.classes = 10});
  const auto message = [&](std::int64_t layer, std::int64_t head) -> std::string {
    try {
      attention_maps(model, some_tokens(false), layer, head);
    } catch (const UsageError& e) {
      return e.what();
    }
    return "none";
  };
  EXPECT_EQ(message(2, 0), "--layer: expected 0 to 1, for the model has 2 layers, got 2");
  EXPECT_EQ(message(1, 7), "--head: expected 0 to 1, for the model has 2 heads, got 7");
  EXPECT_EQ(message(1, -1), "none");
}

TEST(Maps, CsvHasALineAQuery) {
  const at::Tensor weights = at::tensor({1.F, 0.F, 0.25F, 0.75F}, at::kFloat).view({2, 2});
  EXPECT_EQ(maps_csv({{0, 1, weights}, {1, 0, weights}}),
            "layer,head,query,0,1\n"
            "0,1,0,1,0\n0,1,1,0.25,0.75\n"
            "1,0,0,1,0\n1,0,1,0.25,0.75\n");
}

}  // namespace
}  // namespace fastmax::app
