#include "app/curves.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "app/error.h"
#include "app/files.h"

namespace fastmax::app {
namespace {

namespace fs = std::filesystem;

class CurvesTest : public testing::Test {
 protected:
  CurvesTest()
      : folder_(fs::path(testing::TempDir()) /
                testing::UnitTest::GetInstance()->current_test_info()->name()) {
    fs::remove_all(folder_);
  }
  ~CurvesTest() override { fs::remove_all(folder_); }

  /// A run whose loss falls from `height`: lines at steps 10, 20, .. of which each second has an evaluation.
  RunDir run(const std::string& name, const std::string& attention, std::int64_t seed,
             double height, int lines = 8, const std::string& task = "listops") {
    Recipe recipe;
    recipe.task = task;
    recipe.seed = seed;
    recipe.model.attention = attention;
    recipe.train.steps = 80;
    recipe.data.variant = "lra";
    recipe.data.length = 64;
    const RunDir dir(folder_ / name);
    make_run_dir(dir, recipe);
    for (int i = 1; i <= lines; ++i) {
      nlohmann::ordered_json line = {{"step", 10 * i},
                                     {"seconds", i * height},
                                     {"train_loss", height / i},
                                     {"steps_per_second", 1}};
      if (i % 2 == 0) line["val_loss"] = 2 * height / i;
      append_line(dir.metrics(), line.dump());
    }
    return dir;
  }
  static std::string error(const std::vector<RunDir>& runs) {
    try {
      group_by_seed(runs);
    } catch (const UsageError& e) {
      return e.what();
    }
    return "none";
  }

  fs::path folder_;
};

TEST_F(CurvesTest, TheTitleSaysWhatDataItWas) {
  const RunDir dir = run("a", "softmax", 1, 1);
  EXPECT_EQ(curves(group_by_seed({dir}), "step", "train_loss").title, "listops: training");
  write_file(dir.result(), R"({"data": "a proxy"})");
  EXPECT_EQ(curves(group_by_seed({dir}), "step", "train_loss").title,
            "listops (a proxy): training");
}

TEST_F(CurvesTest, SeedsBecomeOneLineWithABand) {
  const auto groups = group_by_seed({run("a1", "softmax", 1, 1), run("b1", "fastmax2", 1, 2),
                                     run("a2", "softmax", 2, 3, /*lines=*/6)});
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].runs.size(), 2u);
  const Series a = curve(groups[0], "step", "val_loss");
  EXPECT_EQ(a.name, "softmax");
  EXPECT_EQ(a.note, "2 seeds");
  EXPECT_EQ(a.x, (std::vector<double>{20, 40, 60}));  // as far as both have come
  EXPECT_EQ(a.y, (std::vector<double>{2, 1, 2 / 3.0}));
  EXPECT_EQ(a.low, (std::vector<double>{1, 0.5, 1 / 3.0}));
  EXPECT_EQ(a.high, (std::vector<double>{3, 1.5, 1}));
  EXPECT_EQ(curve(groups[0], "seconds", "val_loss").x, (std::vector<double>{4, 8, 12}));
  const Series b = curve(groups[1], "step", "train_loss");
  EXPECT_EQ(b.name, "fastmax2");
  EXPECT_EQ(b.x.size(), 8u);
  EXPECT_TRUE(b.low.empty() && b.high.empty());
  EXPECT_THROW(curve(groups[1], "step", "val_accuracy"), UsageError);
  EXPECT_NE(curves(groups, "step", "val_loss").title.find("range over seeds"), std::string::npos);
}

TEST_F(CurvesTest, NamesTellGroupsApart) {
  Recipe other;
  const RunDir first = run("x/a", "softmax", 1, 1), second = run("y/a", "softmax", 1, 1);
  Recipe wider = read_recipe(second.recipe().string());
  wider.model.mlp = 256;
  write_file(second.recipe(), write_recipe(wider));
  const auto groups = group_by_seed({first, second, run("x/b", "fastmax1", 1, 1)});
  ASSERT_EQ(groups.size(), 3u);
  EXPECT_EQ(groups[0].name, "softmax x");
  EXPECT_EQ(groups[1].name, "softmax y");
  EXPECT_EQ(groups[2].name, "fastmax1");
}

TEST_F(CurvesTest, RunsThatDoNotGoTogetherAreRefused) {
  const RunDir a = run("a", "softmax", 1, 1);
  EXPECT_NE(error({a, RunDir(folder_ / "none")}).find("has no recipe.toml"), std::string::npos);
  EXPECT_NE(error({a, run("b", "softmax", 1, 1)}).find("expected each run once"),
            std::string::npos);
  EXPECT_NE(error({a, run("c", "softmax", 1, 1, 8, "text")}).find("got listops in"),
            std::string::npos);
}

}  // namespace
}  // namespace fastmax::app
