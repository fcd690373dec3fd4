// What the paper's harness does (recipes/paper): which bytes it reads, what it divides by, its schedule, its Informer.
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include "app/error.h"
#include "app/evaluate.h"
#include "app/files.h"
#include "app/rivals.h"
#include "app/run_dir.h"
#include "app/task.h"
#include "app/train.h"
#include "tests/app/one_thread.h"

namespace fastmax::app {
namespace {
namespace fs = std::filesystem;

class Harness : public testing::Test {
 protected:
  Harness() : folder_(fs::temp_directory_path() / ("fastmax-harness-" + std::to_string(getpid()))) {
    fs::remove_all(folder_);
  }
  ~Harness() override { fs::remove_all(folder_); }

  // Ten reviews of each part and label, longer than what is read of them.
  void write_reviews(const std::string& review) {
    for (const std::string part : {"train", "test"}) {
      for (const auto& [label, rating] : {std::pair{"neg", 1}, {"pos", 9}}) {
        for (int i = 0; i < 10; ++i) {
          const std::string name = text(label, "/", i, "_", rating, ".txt");
          const fs::path file = folder_ / "aclImdb" / part / name;
          fs::create_directories(file.parent_path());
          write_file(file, review);
        }
      }
    }
  }
  // As a pair of documents that repeat the text.
  void write_papers(const std::string& paper) {
    fs::create_directories(folder_);
    for (const char* part : {"train", "eval", "test"}) {
      write_file(folder_ / text("new_aan_pairs.", part, ".tsv"),
                 text("1.0\tA\tB\t", paper, "\t", paper, "\n"));
    }
  }
  Recipe recipe(const std::string& task, const std::vector<std::string>& settings = {}) {
    std::vector<std::string> all = {"data.path=" + folder_.string(), "train.batch=1",
                                    "data.length=16", "data.cut=10"};
    all.insert(all.end(), settings.begin(), settings.end());
    return parse_recipe("task = \"" + task + "\"\n", "r.toml", all);
  }
  // Of the first reviews, by a model with a setting and with weights that `set` changed.
  at::Tensor logits_of_reviews(const std::string& setting, auto set) {
    const OneThread one_thread;
    const c10::AutoGradMode no_gradient(false);
    const Recipe r = recipe("text", {setting});
    const Model model(model_config(r), 1);
    for (const auto& [name, weight] : model.parameters()) set(name, weight);
    const Tensors t = to_tensors(load_task(r)->train_batch(0));
    return model.forward(t.tokens, t.key_weight, false);
  }
  fs::path folder_;
};

TEST_F(Harness, BytesAfterTheCutAreNotRead) {
  for (const std::string task : {"text", "retrieval"}) {
    const auto batch = [&](const std::string& bytes, const std::vector<std::string>& settings) {
      task == "text" ? write_reviews(bytes) : write_papers(bytes);
      return load_task(recipe(task, settings))->train_batch(0);
    };
    const Batch a = batch("0123456789abc", {}), same = batch("0123456789xyz", {});
    EXPECT_EQ(a.N, 10) << task;
    EXPECT_EQ(a.lengths[0], 10) << task;
    EXPECT_EQ(a.tokens, same.tokens) << task;
    EXPECT_NE(a.tokens, batch("012345678_abc", {}).tokens) << task;
    EXPECT_EQ(batch("0123456789abc", {"data.cut=0"}).N, 13) << task;
  }
}

TEST_F(Harness, TheMeanIsOverThePaddedLength) {
  write_reviews("0123456789abc");
  const auto logits = [&](const std::string& pool) {
    return logits_of_reviews("model.pool=" + pool, [](const std::string& name, at::Tensor weight) {
      if (name == "hidden.bias" || name == "head.bias") weight.zero_();
    });
  };
  // Without biases the classifier doubles with the mean: of 10 tokens, once over 10 and once over 16.
  EXPECT_TRUE(at::allclose(logits("padded") * 1.6, logits("tokens"), 1e-5, 1e-7));
}

TEST_F(Harness, TheClassifierIsReluOrGelu) {
  write_reviews("0123456789abc");
  // Hidden units that stand at -1 and a head that adds up 128 of them: relu gives nothing, gelu -1 Phi(-1) of each.
  const auto logit = [&](const std::string& classifier) {
    const auto set = [](const std::string& name, at::Tensor weight) {
      if (name == "hidden.weight" || name == "head.bias") weight.zero_();
      if (name == "hidden.bias") weight.fill_(-1);
      if (name == "head.weight") weight.fill_(1. / 128);
    };
    return logits_of_reviews("model.classifier=" + classifier, set)[0][0].item<float>();
  };
  EXPECT_EQ(logit("relu"), 0);
  EXPECT_NEAR(logit("gelu"), -0.1586553, 1e-6);
}

// torch.optim.lr_scheduler.OneCycleLR(max_lr=1, pct_start=warmup/steps, anneal_strategy="linear", total_steps=steps).
TEST_F(Harness, TheScheduleIsOneCycle) {
  for (const std::int64_t warmup : {1000, 80, 800, 175, 312}) {
    Recipe::TrainKeys keys;
    keys.steps = 50000;
    keys.learning_rate = 1;
    keys.warmup = warmup;
    keys.warmup_from = std::round(1e6 - 1e6 * 0.96 * double(warmup) / double(warmup - 1)) * 1e-6;
    keys.decay_to = 4e-6;
    keys.beta1 = 0.95;
    keys.beta1_peak = 0.85;
    const double last = double(keys.steps - 1), top = double(warmup - 1);
    for (std::int64_t step = 0; step < keys.steps; step += step < 2000 ? 1 : 97) {
      const double s = double(step);
      const double up = s / top, down = (s - top) / (last - top);
      const double rate = s <= top ? 1. / 25 + 24. / 25 * up : 1 - (1 - 4e-6) * down;
      const double momentum = s <= top ? 0.95 - 0.1 * up : 0.85 + 0.1 * down;
      ASSERT_NEAR(learning_rate(keys, step), rate, 2.1e-5) << warmup << " " << step;
      ASSERT_NEAR(beta1(keys, step), momentum, 1e-12) << warmup << " " << step;
    }
    EXPECT_NEAR(learning_rate(keys, 0), 0.04, 1e-6);
    EXPECT_NEAR(learning_rate(keys, keys.steps - 1), 4e-6, 1e-12);
  }
}

TEST_F(Harness, InformerHas128QueriesAtItsLengths) {
  const OneThread one_thread;
  const c10::AutoGradMode no_gradient(false);
  at::manual_seed(4);
  const auto random = [] { return at::randn({1, 1, 300, 4}); };
  const at::Tensor q = random(), k = random(), v = random();
  const auto attending = [&](std::int64_t length) {
    const at::Tensor o = make_rival("informer", 4, false, length)(q, k, v, {}, 0);
    const at::Tensor differs = (o - v.mean({2}, true)).abs().amax({-1}) > 1e-6;
    return differs.sum().item<std::int64_t>();
  };
  EXPECT_EQ(attending(2048), 128);
  EXPECT_EQ(attending(1024), 128);
  EXPECT_EQ(attending(300), 29);  // 5 ln 300 = 28.5
}

}  // namespace
}  // namespace fastmax::app
