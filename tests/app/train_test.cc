#include "app/train.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "app/checkpoint.h"
#include "app/error.h"
#include "app/files.h"
#include "app/random.h"
#include "app/run_dir.h"
#include "app/safetensors.h"
#include "app/task.h"

namespace fastmax::app {
namespace {
namespace fs = std::filesystem;

class Training : public testing::Test {
 protected:
  Training() {
    folder_ = fs::temp_directory_path() / ("fastmax-train-" + std::to_string(getpid()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    std::string text;
    Random random(3);
    while (text.size() < 4000)
      text += "abcdefgh"[random.below(8)], text += random.below(5) ? "x" : "\n";
    write_file(folder_ / "text.txt", text);
  }
  ~Training() override { fs::remove_all(folder_); }

  Recipe recipe(const std::vector<std::string>& settings = {}) {
    std::vector<std::string> all = {"data.path=" + (folder_ / "text.txt").string()};
    all.insert(all.end(), settings.begin(), settings.end());
    return parse_recipe(
        "task = \"textfile\"\n"
        "model = {layers = 1, heads = 2, dim = 16, mlp = 16, dropout = 0.1}\n"
        "train = {steps = 40, batch = 4, warmup = 5, evaluate_every = 8, log_every = 3, threads = "
        "1}\n"
        "data = {length = 16}\n",
        "test.toml", all);
  }

  // metrics.jsonl without what depends on the clock.
  std::string metrics(const fs::path& run) {
    std::string all;
    for (auto line : RunDir(run).read_metrics()) {
      for (const char* key : {"seconds", "steps_per_second", "tokens_per_second"}) line.erase(key);
      all += line.dump() + "\n";
    }
    return all;
  }
  // The arrays of the last checkpoint; its notes hold times.
  std::string weights(const fs::path& run) {
    const Safetensors file(RunDir(run).checkpoint());
    std::string all;
    for (const Array& array : file.arrays()) {
      all += array.name;
      all.append(reinterpret_cast<const char*>(array.bytes.data()), array.bytes.size());
    }
    return all;
  }

  fs::path folder_;
};

TEST(OptimiserConfig, IsWhatTheRecipeSays) {
  Recipe recipe;
  recipe.train.beta1 = 0.8;
  recipe.train.beta2 = 0.7;
  recipe.train.epsilon = 1e-3;
  recipe.train.weight_decay = 0.5;
  recipe.train.clip = 0;
  recipe.train.clip_value = 2;
  const AdamWConfig config = optimiser_config(recipe);
  EXPECT_EQ(config.beta1, 0.8);
  EXPECT_EQ(config.beta2, 0.7);
  EXPECT_EQ(config.epsilon, 1e-3);
  EXPECT_EQ(config.weight_decay, 0.5);
  EXPECT_EQ(config.clip, 0);
  EXPECT_EQ(config.clip_value, 2);
}

// Presses Ctrl-C as soon as the run has reported something new, six times.
TEST_F(Training, InterruptedAndResumedIsBitForBitTheSame) {
  const Recipe long_run =
      recipe({"train.steps=300", "model.attention_dropout=0.1", "model.scale_learnable=true",
              "model.convolution=3", "model.positions=rotary"});
  const fs::path whole = folder_ / "whole", pieces = folder_ / "pieces";
  train(long_run, whole, false, "whole");
  std::signal(SIGINT, SIG_IGN);  // in case it comes when nobody listens
  int interruptions = 0;
  for (bool done = false; !done;) {
    const RunDir dir(pieces);
    const std::size_t lines = dir.started() ? dir.read_metrics().size() : 0;
    std::atomic<bool> running = true;
    std::thread presser([&] {
      while (running && (!dir.started() || dir.read_metrics().size() <= lines)) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      if (running && interruptions < 6) std::raise(SIGINT);
    });
    try {
      train(long_run, pieces, true, "pieces");
      done = true;
    } catch (const Interrupted& e) {
      EXPECT_EQ(e.signal, SIGINT);
      ++interruptions;
    }
    running = false;
    presser.join();
  }
  std::signal(SIGINT, SIG_DFL);
  EXPECT_GE(interruptions, 1);
  EXPECT_EQ(metrics(pieces), metrics(whole));
  EXPECT_EQ(weights(pieces), weights(whole));
  EXPECT_EQ(read_file(pieces / "model.safetensors", "weights"),
            read_file(whole / "model.safetensors", "weights"));
  EXPECT_EQ(RunDir(pieces).read_result().at("test"), RunDir(whole).read_result().at("test"));
}

// Reformer's hashes are drawn in every step, with dropout or without; so are Informer's samples.
TEST_F(Training, WhatARivalDrawsDependsOnSeedAndStepAlone) {
  const Recipe reformer = recipe({"model.attention=reformer", "model.dropout=0", "data.length=200",
                                  "train.steps=6", "train.log_every=1"});
  const fs::path once = folder_ / "once", again = folder_ / "again";
  at::manual_seed(1);
  train(reformer, once, false, "run");
  at::manual_seed(2);
  train(reformer, again, false, "run");
  EXPECT_EQ(metrics(once), metrics(again));
}

TEST_F(Training, WhoResumesAfterTheLastStepStillHasItsPeakOfMemory) {
  const fs::path run = folder_ / "run";
  const Recipe large = recipe({"train.steps=8", "train.batch=256", "model.dim=64"});
  const std::int64_t peak = train(large, run, false, "run").at("peak_memory_bytes");
  fs::remove(run / "result.json");
  EXPECT_EQ(train(large, run, true, "run").at("peak_memory_bytes"), peak);
}

TEST_F(Training, ALossThatIsNotANumberIsNoResult) {
  const fs::path run = folder_ / "run";
  const Recipe wild = recipe({"train.steps=2", "train.learning_rate=1000", "train.warmup=0",
                              "train.weight_decay=1000", "train.log_every=2"});
  EXPECT_THROW(train(wild, run, false, "run"), WorkError);
  EXPECT_FALSE(RunDir(run).finished());
  EXPECT_EQ(metrics(run), "");
}

// Nothing is learnt, so no evaluation is better than another: the first that counts is kept, of steps 8, 16, .. 40.
TEST_F(Training, TheBestIsOfTheStepsThatCount) {
  const std::pair<const char*, int> cases[] = {{"0", 8}, {"0.2", 16}, {"0.5", 24}, {"1", 40}};
  for (const auto& [from, step] : cases) {
    const fs::path run = folder_ / from;
    const auto result =
        train(recipe({"train.learning_rate=0", text("train.best_from=", from)}), run, false, "run");
    EXPECT_EQ(result.at("best_step"), step) << from;
    EXPECT_EQ(Safetensors(RunDir(run).weights()).note("step"), std::to_string(step));
  }
}

TEST_F(Training, EndsWithTheEvaluationThatIsAccurateEnough) {
  const auto run = [&](const std::string& until) {
    const Recipe recipe = parse_recipe(
        "task = \"needle\"\n"
        "model = {layers = 1, heads = 2, dim = 16, mlp = 16}\n"
        "train = {steps = 24, batch = 4, evaluate_every = 8, evaluate_examples = 40, threads = 1}\n"
        "data = {length = 16}\n",
        "test.toml", {"train.until_accuracy=" + until});
    train(recipe, folder_ / until, false, "run");
    return train(recipe, folder_ / until, /*resume=*/true, "run").at("steps");
  };
  EXPECT_EQ(run("0"), 24);
  EXPECT_EQ(run("0.001"), 8);  // who guesses is right one time of 16
  EXPECT_EQ(run("1"), 24);
  EXPECT_EQ(metrics(folder_ / "1"), metrics(folder_ / "0"));
  EXPECT_EQ(metrics(folder_ / "0").rfind(metrics(folder_ / "0.001"), 0), 0u);  // begins with it
}

TEST_F(Training, LinesAfterTheCheckpointAreWrittenAgain) {
  const fs::path run = folder_ / "run";
  train(recipe(), run, false, "run");
  const std::string before = metrics(run);
  // As if the process had died after writing more lines than its checkpoint knows, the last one in part.
  fs::remove(run / "result.json");
  fs::remove(run / "checkpoint" / "last.safetensors");
  std::ofstream(run / "metrics.jsonl", std::ios::app)
      << "{\"step\": 99, \"seconds\": 1, \"train_loss\": 1, \"steps_per_second\": 1}\n{\"step\": "
         "100, \"tr";
  write_file(run / "checkpoint" / "last.safetensors.tmp-1", "half a checkpoint");
  train(recipe(), run, true, "run");
  EXPECT_EQ(metrics(run), before);
  EXPECT_FALSE(fs::exists(run / "checkpoint" / "last.safetensors.tmp-1"));
}

TEST_F(Training, RunDirectoryIsWhatScriptsRelyOn) {
  const fs::path run = folder_ / "run";
  const auto result = train(recipe(), run, false, "run");
  for (const char* key :
       {"task", "attention", "seed", "steps", "val", "test", "steps_per_second",
        "peak_memory_bytes", "parameters", "threads", "machine", "version", "commit"}) {
    EXPECT_TRUE(result.contains(key)) << key;
  }
  EXPECT_EQ(result, RunDir(run).read_result());
  for (const char* key : {"task", "split", "examples", "loss", "perplexity", "bits_per_byte"}) {
    EXPECT_TRUE(result.at("test").contains(key)) << key;
  }
  std::vector<std::int64_t> steps, evaluated;
  for (const auto& line : RunDir(run).read_metrics()) {
    for (const char* key :
         {"seconds", "train_loss", "learning_rate", "steps_per_second", "tokens_per_second"}) {
      EXPECT_TRUE(line.contains(key)) << key;
    }
    steps.push_back(line.at("step"));
    if (line.contains("val_loss") && line.contains("val_accuracy"))
      evaluated.push_back(steps.back());
  }
  EXPECT_EQ(evaluated, (std::vector<std::int64_t>{8, 16, 24, 32, 40}));
  EXPECT_EQ(steps, (std::vector<std::int64_t>{3, 6, 8, 9, 12, 15, 16, 18, 21, 24, 27, 30, 32, 33,
                                              36, 39, 40}));
  // The kept recipe trains the same again.
  const fs::path again = folder_ / "again";
  train(read_recipe((run / "recipe.toml").string()), again, false, "again");
  EXPECT_EQ(metrics(again), metrics(run));
}

TEST_F(Training, LearnsSomething) {
  const auto result =
      train(recipe({"train.steps=150", "train.learning_rate=0.02", "train.evaluate_every=0"}),
            folder_ / "run", false, "run");
  // Of every two bytes one is of 8 equally likely letters and one is x four times of five: 1.29 nats.
  const double best = (std::log(8.0) - 0.8 * std::log(0.8) - 0.2 * std::log(0.2)) / 2;
  EXPECT_GT(result.at("test").at("loss"), 0.9 * best);
  EXPECT_LT(result.at("test").at("loss"), 1.2 * best);
}

TEST_F(Training, RefusalsComeBeforeAnyWork) {
  const fs::path run = folder_ / "run";
  EXPECT_THROW(train(recipe({"data.path=/nowhere"}), run, false, "run"), UsageError);
  EXPECT_THROW(train(recipe({"data.length=5000"}), run, false, "run"), UsageError);
  EXPECT_FALSE(fs::exists(run));
  fs::create_directories(run);
  train(recipe({"train.steps=2"}), run, false, "run");  // an empty folder is as good as none
  EXPECT_THROW(train(recipe({"train.steps=2"}), run, false, "run"), UsageError);
  EXPECT_THROW(train(recipe({"train.steps=3"}), run, true, "run"), UsageError);
  EXPECT_NO_THROW(train(recipe({"train.steps=2"}), run, true, "run"));
  EXPECT_THROW(train(recipe(), folder_, false, "run"), UsageError);  // somebody's other files
  EXPECT_THROW(train(recipe(), folder_ / "text.txt", false, "run"), UsageError);
}

// Steps draw their own masks, and a seed its own.
TEST_F(Training, AttentionDropoutFollowsSeedAndStep) {
  const auto losses = [&](const std::string& name, const std::vector<std::string>& settings) {
    std::vector<std::string> all = {"model.dropout=0",   "train.learning_rate=0",
                                    "train.log_every=1", "train.evaluate_every=0",
                                    "train.steps=2",     "train.batch=200"};
    all.insert(all.end(), settings.begin(), settings.end());
    const auto lines = (train(recipe(all), folder_ / name, false, name), metrics(folder_ / name));
    return lines;
  };
  const std::string drop = "model.attention_dropout=0.5";
  EXPECT_EQ(losses("a", {drop}), losses("b", {drop}));
  EXPECT_NE(losses("c", {drop, "seed=2"}), losses("d", {drop}));
  EXPECT_NE(losses("e", {drop, "model.attention_dropout_mode=token"}), losses("f", {drop}));
  EXPECT_NE(losses("g", {}), losses("h", {drop}));
}

TEST_F(Training, DamagedCheckpointsAreRefused) {
  const fs::path run = folder_ / "run";
  train(recipe(), run, false, "run");
  fs::remove(run / "result.json");
  const fs::path file = run / "checkpoint" / "last.safetensors";
  const std::string bytes = read_file(file, "a checkpoint");
  write_file(file, bytes.substr(0, bytes.size() / 2));
  EXPECT_THROW(train(recipe(), run, true, "run"), UsageError);
  EXPECT_THROW(load_run(folder_ / "nowhere"), UsageError);
  write_file(file, bytes);
  write_safetensors(file, Safetensors(file).arrays(), {{"state", R"({"step": "two"})"}});
  try {
    train(recipe(), run, true, "run");
    FAIL();
  } catch (const UsageError& e) {
    EXPECT_EQ(e.what(), file.string() +
                            ": the counters of a run: step: expected a whole number, got \"two\"");
  }
}

TEST_F(Training, MemoryBeyond32BitsIsKept) {
  const fs::path run = folder_ / "run", file = run / "checkpoint" / "last.safetensors";
  const Recipe short_run = recipe({"train.steps=8"});
  train(short_run, run, false, "run");
  fs::remove(run / "result.json");
  Model model(model_config(short_run), 0);
  AdamW optimiser(model.parameters(), optimiser_config(short_run), model.rates());
  TrainState state = load_checkpoint(file, model, optimiser);
  state.peak_memory_bytes = std::int64_t{5} << 40;
  save_checkpoint(file, model, optimiser, state);
  train(short_run, run, true, "run");
  EXPECT_EQ(RunDir(run).read_result().at("peak_memory_bytes"), std::int64_t{5} << 40);
}

TEST_F(Training, OneProcessAtATime) {
  const fs::path run = folder_ / "run";
  train(recipe({"train.steps=2"}), run, false, "run");
  fs::remove(run / "result.json");
  const RunDir dir(run);
  const RunLock held(dir);
  EXPECT_THROW(train(recipe({"train.steps=2"}), run, true, "run"), UsageError);
}

TEST_F(Training, TextWindowsAreWhatTheyShouldBe) {
  const std::string text = read_file(folder_ / "text.txt", "a file");
  const auto task = load_task(recipe());
  const std::int64_t split = static_cast<std::int64_t>(text.size()) * 9 / 10;
  for (std::int64_t step = 0; step < 20; ++step) {
    const Batch batch = task->train_batch(step), again = load_task(recipe())->train_batch(step);
    EXPECT_EQ(batch.tokens, again.tokens);
    for (std::int64_t b = 0; b < batch.B; ++b) {
      std::string window(batch.tokens.begin() + b * 16, batch.tokens.begin() + (b + 1) * 16);
      window += static_cast<char>(batch.targets[b * 16 + 15]);
      EXPECT_NE(text.substr(0, split).find(window), std::string::npos);  // never from validation
      EXPECT_EQ(batch.targets[b * 16], batch.tokens[b * 16 + 1]);
    }
  }
  std::string seen;
  for (const Batch& batch : task->evaluation(Split::kVal, 0)) {
    seen.append(batch.tokens.begin(), batch.tokens.end());
  }
  EXPECT_EQ(seen, text.substr(split, seen.size()));
  EXPECT_EQ(static_cast<std::int64_t>(seen.size()) / 16, task->examples(Split::kVal, 0));
  EXPECT_GT(seen.size() + 17, text.size() - split);
}

}  // namespace
}  // namespace fastmax::app
