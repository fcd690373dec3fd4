#include "app/pathfinder_task.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "app/error.h"
#include "app/image_task.h"
#include "app/pathfinder.h"
#include "app/pathfinder_data.h"
#include "app/sequence_task.h"
#include "app/variants.h"

namespace fastmax::app {
namespace fs = std::filesystem;
namespace {

constexpr int kSide = pathfinder::kSide, kPixels = pathfinder::kPixels;

// Of each pixel the sum over the 3 x 3 around it.
std::array<int, kPixels> square_sums(std::span<const std::uint8_t> picture) {
  std::array<int, kPixels> sums{};
  for (int y = 0; y < kSide; ++y) {
    for (int x = 0; x < kSide; ++x) {
      for (int v = std::max(0, y - 1); v <= std::min(kSide - 1, y + 1); ++v) {
        for (int u = std::max(0, x - 1); u <= std::min(kSide - 1, x + 1); ++u)
          sums[y * kSide + x] += picture[v * kSide + u];
      }
    }
  }
  return sums;
}

}  // namespace

int disc_distance(std::span<const std::uint8_t> picture) {
  std::array<int, kPixels> sums = square_sums(picture);
  const auto brightest = [&] {
    return static_cast<int>(std::ranges::max_element(sums) - sums.begin());
  };
  const auto squared = [](int p, int q) {
    const int dy = p / kSide - q / kSide, dx = p % kSide - q % kSide;
    return dy * dy + dx * dx;
  };
  const int one = brightest();
  for (int p = 0; p < kPixels; ++p) {
    if (squared(p, one) < 9) sums[p] = -1;
  }
  return static_cast<int>(std::lround(std::sqrt(squared(one, brightest()))));
}

double distance_accuracy(const Parts& parts) {
  std::array<std::array<std::int64_t, 2>, 2 * kSide> counts{};  // by distance, then label
  for (std::int64_t i = 0; i < parts.train.size(); ++i)
    ++counts[disc_distance(parts.train[i])][parts.train.labels[i]];
  std::int64_t right = 0;
  for (std::int64_t i = 0; i < parts.test.size(); ++i) {
    const auto& [zeros, ones] = counts[disc_distance(parts.test[i])];
    right += parts.test.labels[i] == (ones > zeros);
  }
  return static_cast<double>(right) / static_cast<double>(parts.test.size());
}

std::unique_ptr<Task> load_pathfinder(const Recipe& recipe) {
  const fs::path folder = recipe_folder(recipe);
  const std::string& variant = recipe.data.variant;
  if (!fs::exists(folder)) {
    throw UsageError(text("expected Pathfinder's pictures in ", folder.string(),
                          ", there is none: make them with `", making_command(recipe.task, variant),
                          "`"));
  }
  const Examples all = pathfinder::read(pathfinder::variant(variant), folder);
  Parts parts;
  const std::int64_t tenth = all.size() / 10;
  for (std::int64_t i = 0; i < all.size(); ++i) {
    Examples& part = i < all.size() - 2 * tenth ? parts.train
                     : i < all.size() - tenth   ? parts.val
                                                : parts.test;
    part.add(all[i], all.labels[i]);
  }
  require_examples(parts, recipe, folder);
  const double shortcut = distance_accuracy(parts);
  return image_task(recipe, std::move(parts), pathfinder::kSide,
                    {{"distance of the discs only", shortcut}});
}

}  // namespace fastmax::app
