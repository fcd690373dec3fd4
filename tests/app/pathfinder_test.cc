#include "app/pathfinder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "app/error.h"
#include "app/pathfinder_stroke.h"

namespace fastmax::app::pathfinder {
namespace {

double radians(int degrees) { return degrees * std::numbers::pi / 180; }

// Adler's sum, the one of zlib, over grey levels.
struct Sum {
  std::uint32_t a = 1, b = 0;
  void add(std::span<const std::uint8_t> bytes) {
    for (const std::uint8_t byte : bytes) {
      a = (a + byte) % 65521;
      b = (b + a) % 65521;
    }
  }
  std::uint32_t value() const { return b << 16 | a; }
};

// Expected bytes: Pillow 13.0's ImageDraw.line and resize with LANCZOS.
TEST(PathfinderStroke, ResizesAsPillowDoes) {
  std::vector<std::uint8_t> image;
  for (int y = 0; y < 7; ++y) {
    for (int x = 0; x < 7; ++x) image.push_back(static_cast<std::uint8_t>(7 * y * y + 13 * x));
  }
  EXPECT_EQ(lanczos(image, 7, 3),
            (std::vector<std::uint8_t>{9, 38, 69, 80, 118, 148, 148, 133, 171}));
  EXPECT_EQ(lanczos(image, 7, 7), image);
}

TEST(PathfinderStroke, DrawsWhatTheOriginalDraws) {
  const std::uint8_t line[] = {0, 0, 0, 0, 0,  0,   0,   0, 0,  //
                               0, 0, 0, 0, 0,  0,   0,   0, 0,  //
                               0, 0, 0, 0, 1,  3,   0,   0, 0,  //
                               0, 0, 0, 0, 0,  0,   1,   0, 0,  //
                               0, 0, 1, 0, 93, 66,  0,   1, 0,  //
                               0, 0, 1, 1, 24, 105, 121, 1, 0,  //
                               0, 0, 0, 0, 0,  0,   6,   0, 0,  //
                               0, 0, 0, 0, 1,  3,   0,   0, 0,  //
                               0, 0, 0, 0, 0,  0,   0,   0, 0};
  EXPECT_TRUE(std::equal(std::begin(line), std::end(line), stroke(radians(30)).line.begin()));
  Sum all;
  for (int degrees = -180; degrees < 180; ++degrees) {
    all.add(stroke(radians(degrees)).line);
    all.add(stroke(radians(degrees)).mask);
  }
  EXPECT_EQ(all.value(), 3180473018u);
  const std::uint8_t around[] = {0, 28, 224, 250, 131};  // a row of a disc near the edge
  EXPECT_TRUE(std::equal(std::begin(around), std::end(around), &disc({2, 20}, kSide)[kSide + 17]));
}

TEST(Pathfinder, APictureIsAFunctionOfSeedAndNumber) {
  const Picture first = picture(variant("hard"), 3, 5);
  EXPECT_EQ(picture(variant("hard"), 3, 5).pixels, first.pixels);
  EXPECT_NE(picture(variant("hard"), 3, 6).pixels, first.pixels);
  EXPECT_NE(picture(variant("hard"), 4, 5).pixels, first.pixels);
  EXPECT_THROW(variant("lra"), UsageError);
}

// Of pictures that the original made: 1,200 hard ones, 800 and 1,500.
struct Published {
  const char* variant;
  int count;
  // Averages of levels and of their squares; shares of 0, of 200 and more, and of 202, which is 202.5 before rounding.
  double mean, square, zero, bright, level_202;
  double accepted;  // pairs of paths that became whole, of those begun
};
void PrintTo(const Published& p, std::ostream* out) { *out << p.variant; }

class PathfinderStatistics : public testing::TestWithParam<Published> {};

TEST_P(PathfinderStatistics, AreTheOriginals) {
  constexpr int kCount = 3000;
  const Published& known = GetParam();
  double sums[5] = {}, squares[5] = {}, labels = 0, attempts = 0;
  for (int i = 0; i < kCount; ++i) {
    const Picture made = picture(variant(known.variant), 0, i);
    double figures[5] = {};
    for (const double level : made.pixels) {
      figures[0] += level / kPixels;
      figures[1] += level * level / kPixels;
      figures[2] += (level == 0 ? 1.0 : 0.0) / kPixels;
      figures[3] += (level >= 200 ? 1.0 : 0.0) / kPixels;
      figures[4] += (level == 202 ? 1.0 : 0.0) / kPixels;
    }
    for (int f = 0; f < 5; ++f) {
      sums[f] += figures[f];
      squares[f] += figures[f] * figures[f];
    }
    labels += made.label;
    attempts += static_cast<double>(made.attempts);
  }
  // Four standard errors of a difference of two samples.
  const double band = 4 * std::sqrt(1.0 / kCount + 1.0 / known.count);
  const double expected[5] = {known.mean, known.square, known.zero, known.bright, known.level_202};
  for (int f = 0; f < 5; ++f) {
    const double mean = sums[f] / kCount;
    const double deviation = std::sqrt(squares[f] / kCount - mean * mean);
    EXPECT_NEAR(mean, expected[f], band * deviation) << "figure " << f;
  }
  EXPECT_NEAR(kCount / attempts, known.accepted, band * known.accepted);
  EXPECT_NEAR(labels / kCount, 0.5, 2 / std::sqrt(kCount));
}

INSTANTIATE_TEST_SUITE_P(
    , PathfinderStatistics,
    testing::Values(Published{"hard", 1200, 20.101, 3004.7, 0.65904, 0.01597, 0.00151, 0.0030},
                    Published{"inter", 800, 15.455, 2366.1, 0.73375, 0.01458, 0.00062, 0.015},
                    Published{"easy", 1500, 12.971, 2025.9, 0.77197, 0.01410, 0.00032, 0.044}),
    [](const auto& info) { return std::string(info.param.variant); });

}  // namespace
}  // namespace fastmax::app::pathfinder
