#include "app/recipe.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "app/error.h"
#include "app/recipe_check.h"

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
  EXPECT_EQ(r.data.variant, "lra");
  EXPECT_EQ(parse_recipe("task = \"pathfinder\"\n", "r.toml").data.variant, "hard");
  EXPECT_EQ(
      complaint("task = \"pathfinder\"\n[data]\nvariant = \"short\"\n"),
      "r.toml:3: data.variant: expected one of hard, inter, easy for pathfinder, got \"short\"");
  EXPECT_EQ(complaint("task = \"text\"\n", {"data.variant=easy"}),
            "--set data.variant=easy: data.variant: expected lra for text, got \"easy\"");
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
  const Recipe r = parse_recipe(
      kSmall, "r.toml",
      {"model.scale=1/sqrt(D)", "model.scale_learnable=true", "model.normalize=l2",
       "train.learning_rate=0.1", "train.decay_to=4e-6", "data.path=a \"quoted\" \\ path"});
  const std::string written = write_recipe(r);
  const Recipe back = parse_recipe(written, "w.toml");
  EXPECT_EQ(write_recipe(back), written);
  EXPECT_EQ(back.data.path, "a \"quoted\" \\ path");
  EXPECT_EQ(back.train.learning_rate, 0.1);
  EXPECT_EQ(back.train.decay_to, 4e-6);
  EXPECT_EQ(back.model.scale, "1/sqrt(D)");
  EXPECT_EQ(back.model.scale_learnable, true);
  EXPECT_EQ(back.model.normalize, "l2");
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
            "r.toml:1: task: expected one of listops, text, retrieval, image, pathfinder, mnist, "
            "shakespeare, "
            "textfile, mqar, needle, got \"chess\"");
  EXPECT_EQ(complaint(""),
            "r.toml: task: expected one of listops, text, retrieval, image, pathfinder, mnist, "
            "shakespeare, "
            "textfile, mqar, needle, got nothing");
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
  EXPECT_EQ(complaint(kSmall, {"data=text.txt"}),
            "--set data=text.txt: data: unknown key, did you mean data.path?");
  EXPECT_EQ(complaint(kSmall, {"seed=-1"}),
            "--set seed=-1: seed: expected an integer from 0 to 9007000000000000, got -1");
  EXPECT_EQ(complaint(kSmall, {"data.path=\xFF"}),
            "--set data.path=\xFF: data.path: expected a string in UTF-8, got \"\xFF\"");
  EXPECT_EQ(complaint(kSmall, {"model.heads=3"}),
            "--set model.heads=3: model.heads: expected a divisor of model.dim = 64, got 3");
  EXPECT_EQ(complaint(kSmall, {"model.attention=hardmax"}),
            "--set model.attention=hardmax: model.attention: expected one of softmax, fastmax, "
            "fastmax1, fastmax2, fastmax3, fastmax4, linear, performer, reformer, informer, got "
            "\"hardmax\"");
  EXPECT_EQ(complaint(kSmall, {"model.convolution=-1"}),
            "--set model.convolution=-1: model.convolution: expected an integer from 0 to 1024, "
            "got -1");
  EXPECT_EQ(complaint(kSmall, {"model.scale_learnable=yes"}),
            "--set model.scale_learnable=yes: model.scale_learnable: expected true or false, got "
            "\"yes\"");
  EXPECT_EQ(complaint(kSmall, {"train.learning_rate=nan"}),
            "--set train.learning_rate=nan: train.learning_rate: expected a number from 0 to 1000, "
            "got nan");
}

TEST(Recipe, OrderIsPartOfTheName) {
  const auto attention = [](const std::vector<std::string>& settings) {
    const Recipe r = parse_recipe(kSmall, "r.toml", settings);
    EXPECT_EQ(write_recipe(r).find("\np = "), std::string::npos);
    return parse_recipe(write_recipe(r), "w.toml").model.attention;
  };
  EXPECT_EQ(attention({}), "fastmax2");
  EXPECT_EQ(attention({"model.attention=fastmax"}), "fastmax2");
  EXPECT_EQ(attention({"model.attention=fastmax", "model.p=3"}), "fastmax3");
  EXPECT_EQ(attention({"model.p=4"}), "fastmax4");
  EXPECT_EQ(attention({"model.p=1", "model.attention=fastmax1"}), "fastmax1");
  EXPECT_EQ(attention({"model.attention=softmax"}), "softmax");
  EXPECT_EQ(complaint(kSmall, {"model.attention=fastmax2", "model.p=3"}),
            "--set model.p=3: model.p: expected the order in model.attention = \"fastmax2\" "
            "(\"fastmax\" takes any), got 3");
  EXPECT_EQ(complaint(kSmall, {"model.attention=softmax", "model.p=2"}),
            "--set model.p=2: model.p: expected none beside model.attention = \"softmax\", got 2");
  EXPECT_EQ(complaint(std::string(kSmall) + "p = 5\n"),
            "r.toml:5: model.p: expected an integer from 1 to 4, got 5");
}

TEST(Recipe, OptionsThatDoNotGoTogetherAreRefused) {
  EXPECT_EQ(complaint("task = \"textfile\"\nmodel = {normalize = \"max_norm\"}\n"
                      "data = {path = \"x\"}\n"),
            "r.toml:2: model.normalize: expected standardize, l2 or none for a language model, got "
            "\"max_norm\": the largest norm of a sequence tells of tokens to come");
  EXPECT_EQ(complaint(kSmall, {"model.normalize=max_norm"}), "nothing");
  EXPECT_EQ(complaint(kSmall, {"model.normalize=max_norm", "model.scale_learnable=true"}),
            "--set model.scale_learnable=true: model.scale_learnable: expected false with "
            "model.normalize = \"max_norm\", got true: only standardize, l2 and none leave the "
            "scale to the model");
  EXPECT_EQ(complaint(kSmall, {"model.attention=fastmax3", "model.normalize=none"}),
            "r.toml: model.scale: expected a number, 1/sqrt(D) or 1/D with model.normalize = "
            "\"none\" and fastmax3, got \"default\": scores are not bounded, so no scale keeps "
            "every weight positive");
  EXPECT_EQ(
      complaint(kSmall, {"model.attention=fastmax3", "model.normalize=none", "model.scale=0.1"}),
      "nothing");
  EXPECT_EQ(complaint(kSmall, {"model.dim=60", "model.positions=rotary"}),
            "--set model.positions=rotary: model.positions: expected an even head size model.dim / "
            "model.heads for \"rotary\", which turns pairs of channels, got 60 / 4");
}

TEST(Recipe, KeysOfTheHarnessAreChecked) {
  EXPECT_EQ(complaint(kSmall, {"model.block=postnorm"}),
            "--set model.block=postnorm: model.block: expected one of usual, authors, got "
            "\"postnorm\"");
  EXPECT_EQ(complaint(kSmall, {"model.pool=first"}),
            "--set model.pool=first: model.pool: expected one of tokens, padded, class, got "
            "\"first\"");
  EXPECT_EQ(complaint("task = \"textfile\"\nmodel = {pool = \"class\"}\ndata = {path = \"x\"}\n"),
            "r.toml:2: model.pool: expected tokens or padded for a language model, which "
            "classifies no sequence, got \"class\"");
  EXPECT_EQ(complaint(kSmall, {"model.embedding_std=-1"}),
            "--set model.embedding_std=-1: model.embedding_std: expected a number from 0 to 100, "
            "got -1");
  EXPECT_EQ(complaint(kSmall, {"model.classifier=silu"}),
            "--set model.classifier=silu: model.classifier: expected one of relu, gelu, got "
            "\"silu\"");
  EXPECT_EQ(complaint(kSmall, {"model.classifier=gelu"}), "nothing");
  EXPECT_EQ(complaint(kSmall, {"model.pool=class", "model.classifier=gelu"}),
            "--set model.classifier=gelu: model.classifier: expected relu, or a classifier with "
            "another pool than class, which has the hidden layer that this is about, got \"gelu\"");
  EXPECT_EQ(complaint(kSmall, {"train.beta1_peak=1"}),
            "--set train.beta1_peak=1: train.beta1_peak: expected a number from 0 to 0.999999, "
            "got 1");
  EXPECT_EQ(complaint(kSmall, {"train.best_from=1.5"}),
            "--set train.best_from=1.5: train.best_from: expected a number from 0 to 1, got 1.5");
  EXPECT_EQ(
      complaint("task = \"textfile\"\ntrain = {until_accuracy = 0.9}\ndata = {path = \"x\"}\n"),
      "r.toml:2: train.until_accuracy: expected 0 for a language model, whose best weights "
      "have the least loss, got 0.9");
  EXPECT_EQ(complaint(kSmall, {"train.group_by_length=no"}),
            "--set train.group_by_length=no: train.group_by_length: expected true or false, got "
            "\"no\"");
  EXPECT_EQ(complaint(kSmall, {"data.cut=10"}),
            "--set data.cut=10: data.cut: expected 0 for another task than text and retrieval, "
            "got 10");
  EXPECT_EQ(complaint("task = \"text\"\ndata = {length = 64, cut = 65}\n"),
            "r.toml:2: data.cut: expected at most data.length = 64, got 65");
  const std::string text = "task = \"text\"\ndata = {length = 64, cut = 60}\n";
  EXPECT_EQ(parse_recipe(text, "r.toml").data.longest(), 60);
  EXPECT_EQ(parse_recipe(text, "r.toml", {"data.cut=0"}).data.longest(), 64);
}

TEST(Recipe, AnotherAttentionIsCheckedToo) {
  const Recipe r = parse_recipe(kSmall, "r.toml", {"model.normalize=none"});
  EXPECT_EQ(with_attention(r, "softmax").model.attention, "softmax");
  EXPECT_EQ(with_attention(r, "fastmax4").model.attention, "fastmax4");
  EXPECT_THROW(with_attention(r, "fastmax1"), UsageError);
}

TEST(Recipe, MissingFileIsAUsageError) {
  EXPECT_THROW(read_recipe("/nowhere/r.toml"), UsageError);
  EXPECT_THROW(read_recipe(std::filesystem::temp_directory_path().string()), UsageError);
}

}  // namespace
}  // namespace fastmax::app
