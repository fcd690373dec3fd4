#include "app/pathfinder.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "app/names.h"
#include "app/pathfinder_path.h"
#include "app/random.h"

namespace fastmax::app::pathfinder {
namespace {

constexpr int kPadding = 1;            // pixels along the border where nothing starts
constexpr int kSeedDistance = 7;       // between the first dashes of the two paths
constexpr int kDistractorDashes = 20;  // of all distractors together, about
constexpr int kDistractorTries = 5;
constexpr double kPathContrast = 1.5, kDistractorContrast = 2;

// Where within `border` of the edge everything is taken.
Grid framed(int border) {
  Grid mask{};
  for (int p = 0; p < kPixels; ++p) {
    const int y = p / kSide, x = p % kSide;
    if (std::min({y, x, kSide - 1 - y, kSide - 1 - x}) < border) mask[p] = 255;
  }
  return mask;
}

std::optional<std::array<Path, 2>> two_paths(int dashes, Grid& mask, Random& random) {
  static const Grid frame = framed(kPadding);
  static const Rows not_middle = occupied(framed(2 * kSeedDistance));
  auto first = begin_anywhere(not_middle, random);
  if (!first) return std::nullopt;
  auto second = begin_near(first->tip, kSeedDistance, random);
  if (!second) return std::nullopt;
  mask = frame;
  std::array<Path, 2> both{std::move(*first), std::move(*second)};
  for (int i = 1; i < dashes; ++i) {
    for (Path& path : both) {
      if (!extend(path, mask, random)) return std::nullopt;
    }
  }
  occupy(mask, both[1].dashes.back());  // of the first path, the original forgets it
  return both;
}

// A short path among the others, which joins the mask if it becomes whole.
std::optional<Path> distractor(int dashes, Grid& mask, Random& random) {
  const Rows taken = occupied(mask);
  if (kPixels - count(taken) < kPixels / 100.0) return std::nullopt;
  auto path = begin_anywhere(taken, random);
  if (!path) return std::nullopt;
  Grid grown = mask;
  for (int i = 1; i < dashes; ++i) {
    if (!extend(*path, grown, random)) return std::nullopt;
  }
  occupy(grown, path->dashes.back());
  mask = grown;
  return path;
}

// A picture in the making. float32 and this order of operations are the original's: with a contrast of 1.5, many levels
// lie between two bytes, and rounding decides.
class Drawing {
 public:
  void add(const Path& path, double contrast) {
    for (const Dash& dash : path.dashes) {
      for_each_pixel(dash, [&](int p, int j) {
        const float level = static_cast<float>(dash.stroke->line[j] / 255.0 * contrast);
        levels_[p] = std::max<double>(levels_[p], level);
      });
    }
  }
  void mark(Point at) {
    const std::vector<std::uint8_t> marker = disc(at, kSide);
    for (int p = 0; p < kPixels; ++p) levels_[p] = std::max(levels_[p], marker[p] / 255.0);
  }
  // The brightest pixel is 255.
  std::array<std::uint8_t, kPixels> bytes() const {
    const auto [least, most] = std::ranges::minmax(levels_);
    const double scale = 255 / (most - least);
    std::array<std::uint8_t, kPixels> all;
    for (int p = 0; p < kPixels; ++p) {
      all[p] = static_cast<std::uint8_t>((levels_[p] - least) * scale + 0.5);
    }
    return all;
  }

 private:
  std::array<double, kPixels> levels_{};
};

}  // namespace

const std::array<Variant, 3>& variants() {
  static const std::array<Variant, 3> all = {{{"hard", "curv_contour_length_14", 14},
                                              {"inter", "curv_contour_length_9", 9},
                                              {"easy", "curv_baseline", 6}}};
  return all;
}

const Variant& variant(const std::string& name) {
  std::vector<std::string> names;
  for (const Variant& v : variants()) names.push_back(v.name);
  require_name("variant", names, name);
  return *std::ranges::find(variants(), name, &Variant::name);
}

Picture picture(const Variant& variant, std::uint64_t seed, std::int64_t i) {
  Random random(seed, static_cast<std::uint64_t>(i));
  Picture made{.label = static_cast<int>(random.below(2))};
  Grid mask;
  std::optional<std::array<Path, 2>> paths;
  for (; !paths; ++made.attempts) paths = two_paths(variant.dashes, mask, random);

  Drawing drawing;
  for (const Path& path : *paths) drawing.add(path, kPathContrast);
  for (int n = 0; n < kDistractorDashes / variant.distractor_dashes(); ++n) {
    for (int tried = 0; tried < kDistractorTries; ++tried) {
      if (const auto path = distractor(variant.distractor_dashes(), mask, random)) {
        drawing.add(*path, kDistractorContrast);
        break;
      }
    }
  }
  const std::size_t marked = random.below(2);
  drawing.mark((*paths)[marked].dashes.front().start);
  drawing.mark((*paths)[made.label == 1 ? marked : 1 - marked].tip);
  made.pixels = drawing.bytes();
  return made;
}

}  // namespace fastmax::app::pathfinder
