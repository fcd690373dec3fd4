#include "app/pathfinder_data.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "app/error.h"
#include "app/files.h"
#include "app/pathfinder_stroke.h"
#include "app/pathfinder_task.h"
#include "app/png.h"

namespace fastmax::app::pathfinder {
namespace {
namespace fs = std::filesystem;

class PathfinderFiles : public testing::Test {
 protected:
  PathfinderFiles()
      : folder_(fs::temp_directory_path() / ("fastmax-pathfinder-" + std::to_string(getpid()))) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~PathfinderFiles() override { fs::remove_all(folder_); }

  nlohmann::ordered_json make(const std::string& name, std::int64_t pictures) {
    return pathfinder::make(variant(name), 5, pictures, folder_ / "set", [](std::int64_t) {});
  }
  fs::path inside(const std::string& name) const { return folder_ / "set" / variant(name).folder; }
  // What reading the set complains about, without its folder.
  std::string complaint(const std::string& name) const {
    try {
      read(variant(name), folder_ / "set");
      return "nothing";
    } catch (const UsageError& e) {
      std::string what = e.what();
      const std::string folder = inside(name).string() + "/";
      if (const std::size_t at = what.find(folder); at != what.npos) what.erase(at, folder.size());
      return what;
    }
  }
  fs::path folder_;
};

TEST_F(PathfinderFiles, AreReadInTheOrderTheyWereMade) {
  constexpr std::int64_t kCount = 1003;  // of two folders
  const auto described = make("easy", kCount);
  EXPECT_EQ(described.at("options").dump(), R"({"variant":"easy","pictures":1003,"seed":5})");
  EXPECT_EQ(described.at("statistics").at("pictures"), kCount);
  EXPECT_NEAR(described.at("statistics").at("mean").get<double>(), 12.97, 0.3);
  EXPECT_EQ(read_file(inside("easy") / "metadata/1.npy", "a file").find("imgs/1 sample_0.png 0 "),
            0u);
  const Examples all = read(variant("easy"), folder_ / "set");
  ASSERT_EQ(all.size(), kCount);
  for (const std::int64_t i : {std::int64_t{0}, std::int64_t{10}, std::int64_t{999}, kCount - 1}) {
    const Picture expected = picture(variant("easy"), 5, i);
    EXPECT_TRUE(std::ranges::equal(all[i], expected.pixels)) << i;
    EXPECT_EQ(all.labels[i], expected.label) << i;
  }
}

TEST_F(PathfinderFiles, DamagedTextIsRefused) {
  make("inter", 3);
  const fs::path file = inside("inter") / "metadata/0.npy";
  const std::string good = read_file(file, "a file");
  const std::size_t second = good.find('\n') + 1;
  const auto with = [&](const std::string& line) {
    write_file(file, good.substr(0, second) + line);
    return complaint("inter");
  };
  EXPECT_EQ(with("imgs/0 sample_1.png 1 1 1.0 9 3 2 0.5 1\n"),
            text("metadata/0.npy:2: byte ", second,
                 ": expected 11 fields between single spaces, got 10"));
  EXPECT_EQ(
      with("imgs/1 sample_1.png 1 1 1.0 9 3 2 0.5 1 1\n"),
      text("metadata/0.npy:2: byte ", second, ": expected the folder imgs/0, got \"imgs/1\""));
  EXPECT_EQ(with("imgs/0 ../1.png 1 1 1.0 9 3 2 0.5 1 1\n"),
            text("metadata/0.npy:2: byte ", second,
                 ": expected sample_N.png and N, got \"../1.png\" and \"1\""));
  EXPECT_EQ(with("imgs/0 sample_1.png 1 2 1.0 9 3 2 0.5 1 1\n"),
            text("metadata/0.npy:2: byte ", second, ": expected the label 0 or 1, got \"2\""));
  EXPECT_EQ(
      with("imgs/0 sample_1.png 1 1 1.0 9 3 2 0.5 1 1"),
      text("metadata/0.npy:2: byte ", second, ": expected a whole line, the file ends inside it"));
  EXPECT_NE(
      with("imgs/0 sample_9.png 9 1 1.0 9 3 2 0.5 1 1\n").find("imgs/0/sample_9.png: No such file"),
      std::string::npos);
  write_file(file, good);
  write_file(inside("inter") / "metadata/01.npy", good);
  EXPECT_EQ(complaint("inter"), "expected files 0.npy, 1.npy, .. only, got metadata/01.npy");
  EXPECT_NE(complaint("hard").find("there is no such folder"), std::string::npos);
}

TEST_F(PathfinderFiles, WhatIsMissingIsNoticed) {
  make("easy", 1003);
  const fs::path first = inside("easy") / "metadata/0.npy",
                 second = inside("easy") / "metadata/1.npy";
  const std::string good = read_file(first, "a file"), last = read_file(second, "a file");
  const auto without_line = [](const std::string& lines, std::size_t begin) {
    return lines.substr(0, begin) + lines.substr(lines.find('\n', begin) + 1);
  };
  write_file(first, without_line(good, good.find('\n') + 1));
  EXPECT_EQ(complaint("easy"),
            "metadata/0.npy: expected a line for each of sample_0.png, sample_1.png, .., there is "
            "none of sample_1.png");
  write_file(first, good.substr(0, good.rfind('\n', good.size() - 2) + 1));
  EXPECT_EQ(complaint("easy"),
            "metadata/0.npy: expected 1000 lines, for only the last file may have fewer, got 999");
  write_file(first, good);
  write_file(second, last.substr(0, last.find('\n') + 1));
  EXPECT_EQ(complaint("easy"), "metadata: expected the 1003 pictures of dataset.json, got 1001");
  fs::remove(second);
  EXPECT_EQ(complaint("easy"), "metadata: expected the 1003 pictures of dataset.json, got 1000");
  write_file(second, last);
  fs::remove(first);
  EXPECT_EQ(complaint("easy"), "expected Pathfinder's labels, there is no metadata/0.npy");
}

TEST(PathfinderDiscs, AreFoundByTheirBrightness) {
  const std::vector<std::pair<Point, Point>> pairs = {
      {{5, 6}, {9, 9}}, {{1, 1}, {30, 30}}, {{20, 8}, {20, 12}}};
  for (const auto& [one, two] : pairs) {
    const auto a = disc(one, kSide), b = disc(two, kSide);
    std::vector<std::uint8_t> both(kPixels);
    for (int p = 0; p < kPixels; ++p) both[p] = std::max(a[p], b[p]);
    EXPECT_EQ(disc_distance(both), std::lround(std::hypot(one.y - two.y, one.x - two.x)));
  }
}

TEST(PathfinderDistance, IsLearntFromTrainingPicturesAndKnowsSixOfTen) {
  Parts parts;
  for (std::int64_t i = 0; i < 6000; ++i) {
    const Picture made = picture(variant("easy"), 0, i);
    (i < 4500 ? parts.train : parts.test).add(made.pixels, made.label);
  }
  const double accuracy = distance_accuracy(parts);
  EXPECT_GT(accuracy, 0.57);
  EXPECT_LT(accuracy, 0.64);
  for (std::uint8_t& label : parts.test.labels) label = static_cast<std::uint8_t>(1 - label);
  EXPECT_DOUBLE_EQ(distance_accuracy(parts), 1 - accuracy);
}

TEST_F(PathfinderFiles, DamagedPicturesAreRefused) {
  make("hard", 2);
  const fs::path file = inside("hard") / "imgs/0/sample_1.png";
  const std::string good = read_file(file, "a file");
  write_file(file, good.substr(0, 200));
  EXPECT_EQ(complaint("hard").find("imgs/0/sample_1.png: byte 200: expected a whole PNG file"), 0u)
      << complaint("hard");
  write_png(file, std::vector<std::uint8_t>(28 * 32), 28, 32);
  EXPECT_EQ(complaint("hard"),
            "imgs/0/sample_1.png: expected 32 x 32 grey pixels of a byte, got 28 x 32");
}

TEST_F(PathfinderFiles, NoBitOfAPictureChangesItUnnoticed) {
  const auto pixels = picture(variant("hard"), 0, 0).pixels;
  const fs::path file = folder_ / "picture.png";
  write_png(file, pixels, kSide, kSide);
  std::string bytes = read_file(file, "a file");
  int refused = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto flip = [&] { bytes[i] = static_cast<char>(bytes[i] ^ 1 << i % 8); };
    flip();
    fs::remove(file);
    std::ofstream(file, std::ios::binary) << bytes;  // write_file() waits for the disk
    flip();
    try {
      EXPECT_TRUE(std::ranges::equal(read_png(file, kSide, kSide), pixels)) << "byte " << i;
    } catch (const UsageError&) {
      ++refused;
    }
  }
  EXPECT_EQ(refused, static_cast<int>(bytes.size()) - 12);  // the last 12 only say that it ends
}

TEST_F(PathfinderFiles, OnlyThePublishedEmptyPictureIsSkipped) {
  make("easy", 174);
  write_file(inside("easy") / "imgs/0/sample_172.png", "");
  testing::internal::CaptureStderr();
  EXPECT_EQ(read(variant("easy"), folder_ / "set").size(), 173);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("sample_172.png, which is empty"),
            std::string::npos);
  write_file(inside("easy") / "imgs/0/sample_171.png", "");
  EXPECT_EQ(complaint("easy").find("imgs/0/sample_171.png: byte 0: "), 0u) << complaint("easy");
}

TEST_F(PathfinderFiles, ATaskOfThreeParts) {
  make("easy", 29);
  const auto recipe = [&](std::vector<std::string> settings) {
    settings.push_back("data.path=" + (folder_ / "set").string());
    return parse_recipe("task = \"pathfinder\"\n[train]\nbatch = 4\n[data]\nvariant = \"easy\"\n",
                        "r.toml", settings);
  };
  const auto task = load_task(recipe({}));
  EXPECT_EQ(task->examples(Split::kTrain, 0), 25);
  EXPECT_EQ(task->examples(Split::kVal, 0), 2);
  EXPECT_EQ(task->examples(Split::kTest, 0), 2);
  EXPECT_EQ(task->baselines().at(1).first, "distance of the discs only");
  const Batch batch = task->evaluation(Split::kTest, 0).at(0);
  EXPECT_EQ(batch.N, kPixels);
  EXPECT_FALSE(batch.mask_zero);
  const Picture last = picture(variant("easy"), 5, 28);
  EXPECT_TRUE(std::equal(last.pixels.begin(), last.pixels.end(), batch.tokens.begin() + kPixels));
  EXPECT_EQ(batch.targets.at(1), last.label);
  EXPECT_EQ(task_shape(recipe({})).classes, 2);

  EXPECT_TRUE(load_task(recipe({"data.mask_zero_pixels=true"}))->train_batch(0).mask_zero);
  const Batch patches = load_task(recipe({"data.patch=4"}))->train_batch(0);
  EXPECT_EQ(patches.N, 64);
  EXPECT_EQ(patches.values.size(), 4u * kPixels);
  EXPECT_THROW(load_task(recipe({"train.batch=26"})), UsageError);
  EXPECT_THROW(recipe({"data.variant=lra"}), UsageError);
  EXPECT_EQ(parse_recipe("task = \"pathfinder\"\n", "r.toml").data.variant, "hard");
}

}  // namespace
}  // namespace fastmax::app::pathfinder
