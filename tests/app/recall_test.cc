#include "app/recall.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "app/error.h"
#include "app/evaluate.h"
#include "app/files.h"
#include "app/recall_data.h"
#include "app/recall_task.h"
#include "app/run_dir.h"

namespace fastmax::app {
namespace {
namespace fs = std::filesystem;
using recall::Options;
using recall::Sequence;

const Options kMqar = {.task = "mqar", .length = 40, .pairs = 6, .keys = 10};
const Options kNeedle = {.task = "needle", .length = 12};

TEST(Recall, MqarAsksForTheValueOfEachKeyAfterThePairs) {
  std::set<std::int64_t> keys_met, values_met;
  for (std::int64_t i = 0; i < 200; ++i) {
    const Sequence s = recall::sequence(kMqar, Split::kTrain, 1, i);
    ASSERT_EQ(s.tokens.size(), 40u);
    ASSERT_EQ(s.targets.size(), 40u);
    std::map<std::int64_t, std::int64_t> value;
    for (int p = 0; p < 12; p += 2) {
      EXPECT_LT(s.tokens[p], 10);
      EXPECT_TRUE(value.emplace(s.tokens[p], s.tokens[p + 1]).second);  // a key has one value
      keys_met.insert(s.tokens[p]);
      values_met.insert(s.tokens[p + 1]);
    }
    for (int n = 0; n < 40; ++n) {
      EXPECT_EQ(s.targets[n], n < 12 ? kNotAsked : value.at(s.tokens[n]));
    }
  }
  EXPECT_EQ(keys_met.size(), 10u);
  EXPECT_EQ(values_met.size(), 128u);
  EXPECT_EQ(*values_met.begin(), 10);
  EXPECT_EQ(*values_met.rbegin() + 1, recall::vocabulary(kMqar));
}

TEST(Recall, NeedleAsksForTheWordBehindTheOneMark) {
  std::set<std::int64_t> places, answers;
  for (std::int64_t i = 0; i < 500; ++i) {
    const Sequence s = recall::sequence(kNeedle, Split::kTrain, 1, i);
    ASSERT_EQ(s.tokens.size(), 12u);
    EXPECT_EQ(std::count(s.tokens.begin(), s.tokens.end(), recall::kMark), 1);
    EXPECT_EQ(std::count(s.tokens.begin(), s.tokens.end(), recall::kAsk), 1);
    EXPECT_EQ(s.tokens.back(), recall::kAsk);
    EXPECT_EQ(std::count(s.targets.begin(), s.targets.end(), kNotAsked), 11);
    const auto mark = std::find(s.tokens.begin(), s.tokens.end(), recall::kMark);
    EXPECT_EQ(s.targets.back(), mark[1]);
    EXPECT_LT(mark[1], recall::kWords);
    places.insert(mark - s.tokens.begin());
    answers.insert(mark[1]);
  }
  EXPECT_EQ(places.size(), 10u);  // anywhere before the last word
  EXPECT_EQ(answers.size(), 16u);
  EXPECT_EQ(recall::vocabulary(kNeedle), 18);
}

TEST(Recall, BaselinesAreWhatGuessesGet) {
  std::vector<Sequence> mqar, needle;
  for (std::int64_t i = 0; i < 2000; ++i) {
    mqar.push_back(recall::sequence(kMqar, Split::kTest, 1, i));
    needle.push_back(recall::sequence({.task = "needle", .length = 400}, Split::kTest, 1, i));
  }
  const auto of_mqar = recall::baselines(kMqar, mqar);
  EXPECT_EQ(of_mqar[0], (std::pair<std::string, double>{"any value", 1.0 / 128}));
  // One of six values is asked for, and another is equal to it by chance.
  EXPECT_NEAR(of_mqar[1].second, 1.0 / 6 + 5.0 / 6 / 128, 0.001);
  const auto of_needle = recall::baselines({.task = "needle", .length = 400}, needle);
  EXPECT_EQ(of_needle[0].second, 1.0 / 16);
  // One more of 25 is a fifth of the counts' deviation of 4.8: a little better than any word.
  EXPECT_GT(of_needle[1].second, 0.07);
  EXPECT_LT(of_needle[1].second, 0.13);
}

Recipe recipe(const std::vector<std::string>& settings = {}) {
  std::vector<std::string> all = {"model.dim=16", "train.batch=4"};
  all.insert(all.end(), settings.begin(), settings.end());
  return parse_recipe("task = \"mqar\"\n", "r.toml", all);
}

TEST(RecallTask, RecipesSayWhatSuits) {
  EXPECT_EQ(recipe().data.length, 64);
  EXPECT_EQ(recipe().data.pairs, 8);
  EXPECT_EQ(recipe().data.keys, 128);
  EXPECT_EQ(recipe({"task=needle"}).data.length, 256);
  const auto complaint = [](const std::vector<std::string>& settings) -> std::string {
    try {
      recipe(settings);
    } catch (const UsageError& e) {
      return e.what();
    }
    return "nothing";
  };
  EXPECT_EQ(complaint({"data.pairs=20", "data.keys=19"}),
            "--set data.keys=19: data.keys: expected at least as many as pairs = 20, got 19");
  EXPECT_EQ(complaint({"data.length=16"}),
            "--set data.length=16: data.length: expected more than the 16 tokens of the pairs, got "
            "16");
  EXPECT_EQ(complaint({"task=needle", "data.length=2"}),
            "--set data.length=2: data.length: expected at least 3, a mark, a word and the "
            "question, got 2");
  EXPECT_EQ(complaint({"task=needle", "data.keys=4"}),
            "--set data.keys=4: data.keys: expected 0 for another task than mqar, got 4");
  EXPECT_EQ(complaint({"task=listops", "data.pairs=4"}),
            "--set data.pairs=4: data.pairs: expected 0 for another task than mqar, got 4");
  EXPECT_EQ(complaint({"data.path=here"}),
            "--set data.path=here: data.path: expected none for mqar, whose sequences are made "
            "while it trains, got \"here\"");
  EXPECT_EQ(
      complaint({"data.length=64", "data.length_from=65"}),
      "--set data.length_from=65: data.length_from: expected at most data.length = 64, got 65");
  EXPECT_EQ(complaint({"data.length_from=16"}),
            "--set data.length_from=16: data.length_from: expected more than the 16 tokens of the "
            "pairs, got 16");
  EXPECT_EQ(
      complaint({"task=listops", "data.length_from=16"}),
      "--set data.length_from=16: data.length_from: expected 0 for another task than mqar and "
      "needle, got 16");
}

TEST(RecallTask, SequencesGrowFromAShortLengthInBatchesOfAsManyTokens) {
  const Recipe r =
      recipe({"data.length=100", "data.length_from=20", "train.batch=2", "train.steps=13"});
  const auto task = load_task(r);
  std::vector<std::int64_t> lengths;
  for (std::int64_t step = 0; step < r.train.steps; ++step) {
    const Batch batch = task->train_batch(step);
    lengths.push_back(batch.N);
    EXPECT_EQ(batch.B, 200 / batch.N);
    EXPECT_EQ(batch.tokens.size(), static_cast<std::size_t>(batch.B * batch.N));
  }
  EXPECT_EQ(lengths,
            (std::vector<std::int64_t>{20, 20, 20, 20, 40, 40, 40, 80, 80, 80, 100, 100, 100}));
  EXPECT_NE(task->train_batch(0).tokens, task->train_batch(1).tokens);
  EXPECT_EQ(task->evaluation(Split::kVal, 4)[0].N, 100);
  EXPECT_EQ(training_length(recipe({"data.length=100"}), 0), 100);
  EXPECT_EQ(training_length(recipe({"data.length=100", "data.length_from=100"}), 999), 100);
}

TEST(RecallTask, BatchesAreFunctionsOfSeedAndStepAndPartsAreDifferent) {
  for (const std::string task : {"mqar", "needle"}) {
    const std::string name = "task=" + task;
    const auto a = load_task(recipe({name})), b = load_task(recipe({name})),
               other = load_task(recipe({name, "seed=2"}));
    const Batch late = a->train_batch(100);  // without those between
    for (std::int64_t step = 0; step < 100; ++step) b->train_batch(step);
    EXPECT_EQ(late.tokens, b->train_batch(100).tokens);
    EXPECT_EQ(late.targets, b->train_batch(100).targets);
    EXPECT_NE(late.tokens, a->train_batch(101).tokens);
    EXPECT_NE(late.tokens, other->train_batch(100).tokens);

    // The same sequences in the same order, however many a batch has.
    const auto pairs = load_task(recipe({name, "train.batch=2"}));
    std::vector<std::int64_t> joined = pairs->train_batch(200).tokens;
    const Batch second = pairs->train_batch(201);
    joined.insert(joined.end(), second.tokens.begin(), second.tokens.end());
    EXPECT_EQ(late.tokens, joined);

    const auto val = a->evaluation(Split::kVal, 10), test = a->evaluation(Split::kTest, 10);
    ASSERT_EQ(val.size(), 3u);
    EXPECT_EQ(val[2].B, 2);
    EXPECT_EQ(val[0].tokens, other->evaluation(Split::kVal, 0)[0].tokens);
    EXPECT_NE(val[0].tokens, test[0].tokens);
    EXPECT_NE(val[0].tokens, a->train_batch(0).tokens);
    EXPECT_EQ(a->examples(Split::kVal, 0), 1000);
  }
  const auto longer = load_task(recipe({"task=needle", "data.length=8192"}));
  EXPECT_EQ(longer->examples(Split::kTest, 0), 488);
  const auto longest = load_task(recipe({"task=needle", "data.length=65536"}));
  EXPECT_EQ(longest->examples(Split::kTest, 0), 100);
}

TEST(RecallTask, AScoreIsOfThePlacesThatAreAskedFor) {
  const Recipe r = recipe({"data.pairs=2", "data.keys=4", "data.length=7"});
  const auto task = load_task(r);
  const Model model(model_config(r), 1);
  EXPECT_TRUE(model.config().causal());
  const Score score = *evaluate(model, *task, Split::kVal, 50);
  EXPECT_EQ(score.examples, 50);
  double loss = 0, right = 0;
  for (const Batch& batch : task->evaluation(Split::kVal, 50)) {
    const at::Tensor logits = model.forward(to_tensors(batch).tokens, {}, false).log_softmax(-1);
    for (std::int64_t b = 0; b < batch.B; ++b) {
      for (std::int64_t n = 4; n < 7; ++n) {  // after the pairs
        const std::int64_t target = batch.targets[b * 7 + n];
        loss -= logits[b][n][target].item<double>() / 150;
        right += (logits[b][n].argmax().item<std::int64_t>() == target) / 150.0;
      }
    }
  }
  EXPECT_NEAR(score.loss, loss, 1e-5);
  EXPECT_NEAR(score.accuracy, right, 1e-9);
}

class RecallFiles : public testing::Test {
 protected:
  RecallFiles()
      : folder_(fs::temp_directory_path() / ("fastmax-recall-" + std::to_string(getpid()))) {
    fs::remove_all(folder_);
  }
  ~RecallFiles() override { fs::remove_all(folder_); }

  nlohmann::ordered_json make(const Options& options, std::uint64_t seed) {
    return recall::make(options, seed, {.train = 5, .val = 3, .test = 2}, folder_ / "set",
                        [](std::int64_t) {});
  }
  fs::path folder_;
};

TEST_F(RecallFiles, AreWhatARunSees) {
  const Options options = {.task = "mqar", .length = 6, .pairs = 2, .keys = 3};
  const auto description = make(options, 7);
  EXPECT_EQ(description.at("options").at("pairs"), 2);
  EXPECT_EQ(description.at("statistics").at("examples"), 10);
  const std::string train = read_file(folder_ / "set" / "train.tsv", "a file");
  EXPECT_EQ(std::count(train.begin(), train.end(), '\n'), 6);
  const Sequence first = recall::sequence(options, Split::kTrain, 7, 0);
  std::string line, targets = "\t- - - - ";
  for (const std::int64_t token : first.tokens) {
    line += (line.empty() ? "" : " ") + std::to_string(token);
  }
  targets += std::to_string(first.targets[4]) + " " + std::to_string(first.targets[5]);
  EXPECT_EQ(train.substr(0, train.find('\n', 20) + 1), "Tokens\tTargets\n" + line + targets + "\n");

  EXPECT_EQ(make(options, 7), description);  // there already
  EXPECT_THROW(make(options, 8), UsageError);
  EXPECT_THROW(make(kNeedle, 7), UsageError);
  write_file(folder_ / "set" / "dataset.json", "{\"task\": \"mqar\"");
  EXPECT_THROW(make(options, 7), UsageError);
}

TEST_F(RecallFiles, WhatAKilledProcessLeftIsRemoved) {
  fs::create_directories(folder_ / "set.tmp-123");
  fs::create_directories(folder_ / "settee.tmp-123");  // somebody else's
  make(kNeedle, 7);
  EXPECT_FALSE(fs::exists(folder_ / "set.tmp-123"));
  EXPECT_TRUE(fs::exists(folder_ / "settee.tmp-123"));
}

}  // namespace
}  // namespace fastmax::app
