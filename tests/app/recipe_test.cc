#include "app/recipe.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "app/error.h"

namespace fastmax::app {
namespace {

std::string complaint(const std::string& toml, const std::vector<std::string>& settings = {}) {
  try {
    parse_recipe(toml, "r.toml", settings);
    return "nothing";
  } catch (const UsageError& e) {
    return e.what();
  }
}

constexpr const char* kSmall = "task = \"listops\"\n[model]\nlayers = 3\nheads = 4\n";

TEST(Recipe, ReadsKeysAndKeepsDefaults) {
  const Recipe r = parse_recipe(kSmall, "r.toml");
  EXPECT_EQ(r.task, "listops");
  EXPECT_EQ(r.model.layers, 3);
  EXPECT_EQ(r.model.heads, 4);
  EXPECT_EQ(r.model.attention, "fastmax2");
  EXPECT_EQ(r.train.batch, 32);
  EXPECT_EQ(r.data.length, 2000);  // resolved by task and variant
  EXPECT_EQ(parse_recipe(kSmall, "r.toml", {"data.variant=short"}).data.length, 64);
}

TEST(Recipe, SettingsWinAndTakeTomlOrText) {
  const Recipe r = parse_recipe(
      kSmall, "r.toml",
      {"model.layers=5", "train.learning_rate=2e-3", "seed=7", "model.attention=\"softmax\"",
       "data.path=/a b/2024=x.txt", "model.scale=0.125", "model.layers=6"});
  EXPECT_EQ(r.model.layers, 6);
  EXPECT_EQ(r.train.learning_rate, 2e-3);
  EXPECT_EQ(r.seed, 7);
  EXPECT_EQ(r.model.attention, "softmax");
  EXPECT_EQ(r.data.path, "/a b/2024=x.txt");
  EXPECT_EQ(r.model.scale, "0.125");
  EXPECT_EQ(parse_recipe(kSmall, "r.toml", {"data.path=2024"}).data.path, "2024");
}

TEST(Recipe, WritesWhatReadsBack) {
  const Recipe r = parse_recipe(kSmall, "r.toml",
                                {"model.scale=1/sqrt(D)", "train.learning_rate=0.1",
                                 "train.decay_to=4e-6", "data.path=a \"quoted\" \\ path"});
  const std::string written = write_recipe(r);
  const Recipe back = parse_recipe(written, "w.toml");
  EXPECT_EQ(write_recipe(back), written);
  EXPECT_EQ(back.data.path, "a \"quoted\" \\ path");
  EXPECT_EQ(back.train.learning_rate, 0.1);
  EXPECT_EQ(back.train.decay_to, 4e-6);
  EXPECT_EQ(back.model.scale, "1/sqrt(D)");
}

TEST(Recipe, ErrorsNameKeyFileLineAndBothSides) {
  EXPECT_EQ(complaint(std::string(kSmall) + "haeds = 2\n"),
            "r.toml:5: model.haeds: unknown key, did you mean model.heads?");
  EXPECT_EQ(complaint("task = \"listops\"\nmodl.layers = 2\n"),
            "r.toml:2: modl: unknown key, did you mean model?");
  EXPECT_EQ(complaint("task = \"listops\"\nsteps = 2\n"),
            "r.toml:2: steps: unknown key, did you mean train.steps?");
  EXPECT_EQ(complaint("task = \"listops\"\nmodel = 2\n"),
            "r.toml:2: model: expected a table, got 2");
  EXPECT_EQ(complaint("task = \"listops\"\n[train]\nsteps = 1.5\n"),
            "r.toml:3: train.steps: expected an integer from 1 to 1000000000, got 1.5");
  EXPECT_EQ(complaint("task = \"listops\"\n[train]\nsteps = 0\n"),
            "r.toml:3: train.steps: expected an integer from 1 to 1000000000, got 0");
  EXPECT_EQ(complaint("task = \"listops\"\n[train]\nlearning_rate = \"fast\"\n"),
            "r.toml:3: train.learning_rate: expected a number from 0 to 1000, got \"fast\"");
  EXPECT_EQ(complaint("task = \"listops\"\n[model]\nscale = -1\n"),
            "r.toml:3: model.scale: expected a positive number or one of default, 1/sqrt(D), 1/D, "
            "got -1");
  EXPECT_EQ(complaint("task = \"chess\"\n"),
            "r.toml:1: task: expected one of listops, textfile, got \"chess\"");
  EXPECT_EQ(complaint(""), "r.toml: task: expected one of listops, textfile, got nothing");
  EXPECT_EQ(
      complaint("task = \"textfile\"\n"),
      "r.toml: data.path: expected the text file to learn (--set data.path=FILE), got nothing");
  EXPECT_EQ(complaint("task = listops\n").rfind("r.toml:1: expected TOML, got ", 0), 0u);
}

TEST(Recipe, SettingErrorsNameTheSetting) {
  EXPECT_EQ(complaint(kSmall, {"model.layers"}),
            "--set: expected key.path=value, got \"model.layers\"");
  EXPECT_EQ(complaint(kSmall, {"model.layer=2"}),
            "--set model.layer=2: model.layer: unknown key, did you mean model.layers?");
  EXPECT_EQ(
      complaint(kSmall, {"model.layers=two"}),
      "--set model.layers=two: model.layers: expected an integer from 1 to 1000, got \"two\"");
  EXPECT_EQ(complaint(kSmall, {"model.heads=3"}),
            "--set model.heads=3: model.heads: expected a divisor of model.dim = 64, got 3");
  EXPECT_EQ(complaint(kSmall, {"model.attention=hardmax"}),
            "--set model.attention=hardmax: model.attention: expected one of softmax, fastmax1, "
            "fastmax2, fastmax3, fastmax4, got \"hardmax\"");
  EXPECT_EQ(complaint(kSmall, {"model.convolution=3"}),
            "--set model.convolution=3: model.convolution: expected only 0 so far, got 3");
  EXPECT_EQ(complaint(kSmall, {"train.learning_rate=nan"}),
            "--set train.learning_rate=nan: train.learning_rate: expected a number from 0 to 1000, "
            "got nan");
}

TEST(Recipe, MissingFileIsAUsageError) {
  EXPECT_THROW(read_recipe("/nowhere/r.toml"), UsageError);
  EXPECT_THROW(read_recipe(std::filesystem::temp_directory_path().string()), UsageError);
}

}  // namespace
}  // namespace fastmax::app
