#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "app/error.h"
#include "app/files.h"
#include "app/listops_data.h"
#include "app/task.h"
#include "app/variants.h"

namespace fastmax::app {
namespace {
namespace fs = std::filesystem;

class ListopsTaskTest : public testing::Test {
 protected:
  ListopsTaskTest()
      : folder_(fs::temp_directory_path() / ("fastmax-task-" + std::to_string(getpid()))) {
    fs::remove_all(folder_);
    listops::Options options = listops::short_trees();
    options.train = 1000;
    options.val = 70;
    options.test = 30;
    listops::make(options, variant_folder(folder_, "listops", "short"), [](auto) {});
  }
  ~ListopsTaskTest() override { fs::remove_all(folder_); }

  Recipe recipe(const std::vector<std::string>& settings = {}) {
    std::vector<std::string> all = {"data.path=" +
                                    variant_folder(folder_, "listops", "short").string()};
    all.insert(all.end(), settings.begin(), settings.end());
    return parse_recipe("task = \"listops\"\n[data]\nvariant = \"short\"\n", "r.toml", all);
  }

  static std::map<std::vector<std::int64_t>, int> sequences(const Batch& batch) {
    std::map<std::vector<std::int64_t>, int> all;
    for (std::int64_t b = 0; b < batch.B; ++b) {
      const auto first = batch.tokens.begin() + b * batch.N;
      std::vector<std::int64_t> tokens(first, first + batch.lengths[b]);
      for (std::int64_t n = batch.lengths[b]; n < batch.N; ++n) EXPECT_EQ(first[n], 0);
      tokens.push_back(batch.targets[b]);
      ++all[tokens];
    }
    return all;
  }
  fs::path folder_;
};

TEST_F(ListopsTaskTest, AnEpochShowsEveryExampleOnceWithLittlePadding) {
  const auto task = load_task(recipe({"train.batch=40"}));
  std::map<std::vector<std::int64_t>, int> seen;
  std::int64_t real = 0, all = 0;
  for (std::int64_t step = 0; step < 25; ++step) {
    const Batch batch = task->train_batch(step);
    EXPECT_EQ(batch.B, 40);
    for (const auto& [sequence, count] : sequences(batch)) seen[sequence] += count;
    for (const std::int64_t length : batch.lengths) real += length;
    all += batch.B * batch.N;
  }
  EXPECT_EQ(seen.size(), 1000u);
  for (const auto& [sequence, count] : seen) EXPECT_EQ(count, 1);
  EXPECT_GT(static_cast<double>(real), 0.9 * static_cast<double>(all));
}

TEST_F(ListopsTaskTest, BatchesOfAnyLengthsWhereAskedFor) {
  const auto task = load_task(recipe({"train.batch=40", "train.group_by_length=false"}));
  std::map<std::vector<std::int64_t>, int> seen;
  for (std::int64_t step = 0; step < 25; ++step) {
    const Batch batch = task->train_batch(step);
    const auto [least, most] = std::minmax_element(batch.lengths.begin(), batch.lengths.end());
    EXPECT_GT(*most, 2 * *least) << step;  // 40 of 9 to 64 tokens
    for (const auto& [sequence, count] : sequences(batch)) seen[sequence] += count;
  }
  EXPECT_EQ(seen.size(), 1000u);
}

TEST_F(ListopsTaskTest, BatchesAreFunctionsOfSeedAndStep) {
  const auto a = load_task(recipe()), b = load_task(recipe()),
             other = load_task(recipe({"seed=2"}));
  EXPECT_EQ(a->train_batch(0).tokens, b->train_batch(0).tokens);
  EXPECT_NE(a->train_batch(0).tokens, a->train_batch(1000 / 32).tokens);  // the next epoch's first
  const Batch late = a->train_batch(100);  // in another epoch, without those between
  for (std::int64_t step = 1; step < 100; ++step) b->train_batch(step);
  EXPECT_EQ(late.tokens, b->train_batch(100).tokens);
  EXPECT_EQ(a->train_batch(5).tokens, b->train_batch(5).tokens);
  EXPECT_NE(a->train_batch(5).tokens, other->train_batch(5).tokens);
}

TEST_F(ListopsTaskTest, EvaluationShowsEveryExampleOnce) {
  const auto task = load_task(recipe());
  std::map<std::vector<std::int64_t>, int> seen;
  std::int64_t count = 0;
  for (const Batch& batch : task->evaluation(Split::kVal, 0)) {
    count += batch.B;
    for (const auto& [sequence, times] : sequences(batch)) seen[sequence] += times;
  }
  EXPECT_EQ(count, 70);
  EXPECT_EQ(seen.size(), 70u);
  EXPECT_EQ(task->examples(Split::kTest, 0), 30);
  EXPECT_EQ(task->examples(Split::kTest, 10), 10);
  ASSERT_EQ(task->baselines().size(), 2u);
  EXPECT_GT(task->baselines()[0].second, 0);
}

TEST_F(ListopsTaskTest, ACutSetIsNoticed) {
  const fs::path file = variant_folder(folder_, "listops", "short") / "basic_val.tsv";
  const std::string good = read_file(file, "a file");
  const auto complaint = [&] {
    try {
      load_task(recipe());
      return std::string("nothing");
    } catch (const UsageError& e) {
      return std::string(e.what());
    }
  };
  write_file(file, good.substr(0, good.rfind('\n', good.size() - 2) + 1));
  EXPECT_EQ(complaint(), file.string() + ": expected the 70 examples of dataset.json, got 69");
  const std::size_t second = good.find('\n', good.find('\n') + 1) + 1;
  write_file(file, good.substr(0, second) + "nonsense\n");
  EXPECT_EQ(complaint(),
            text(file.string(), ":3: byte ", second, ": expected SOURCE<tab>TARGET, got no tab"));
}

TEST_F(ListopsTaskTest, MissingDataSaysHowToMakeIt) {
  try {
    load_task(recipe({"data.path=" + (folder_ / "nowhere").string()}));
    FAIL();
  } catch (const UsageError& e) {
    EXPECT_NE(std::string(e.what()).find("fastmax data make listops --short"), std::string::npos);
  }
  EXPECT_THROW(load_task(recipe({"train.batch=2000"})), UsageError);
}

}  // namespace
}  // namespace fastmax::app
