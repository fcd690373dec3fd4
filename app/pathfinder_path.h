// The dashed paths of Pathfinder, which grow over a mask of what is taken.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "app/pathfinder.h"
#include "app/pathfinder_stroke.h"
#include "app/random.h"

namespace fastmax::app::pathfinder {

/// Levels of a picture or a mask.
using Grid = std::array<std::uint8_t, kPixels>;
/// The pixels of a row as bits, 1 where a mask is taken.
using Rows = std::array<std::uint32_t, kSide>;
Rows occupied(const Grid& mask);
int count(const Rows& rows);

struct Dash {
  Point start;
  const Stroke* stroke = nullptr;
};

/// visit(pixel's index, its index in the stroke) for what of the dash is inside the picture.
template <class Visit>
void for_each_pixel(const Dash& dash, Visit&& visit) {
  constexpr int r = Stroke::kReach;
  const Point s = dash.start;
  for (int y = std::max(0, s.y - r); y <= std::min(kSide - 1, s.y + r); ++y) {
    for (int x = std::max(0, s.x - r); x <= std::min(kSide - 1, s.x + r); ++x) {
      visit(y * kSide + x, (y - s.y + r) * Stroke::kSide + x - s.x + r);
    }
  }
}

/// The dash joins the mask.
void occupy(Grid& mask, const Dash& dash);

struct Path {
  std::vector<Dash> dashes;
  Point pivot;       ///< in the gap behind the last dash
  double angle = 0;  ///< in which it goes on from there
  Point tip;         ///< the end of the last dash
};

/// A path's first dash, in any direction, where nothing is taken; or about `distance` from a point, whatever is
/// there. Nothing when there is no room.
std::optional<Path> begin_anywhere(const Rows& taken, Random& random);
std::optional<Path> begin_near(Point other, double distance, Random& random);

/// Adds a dash; straight on is likeliest, a right angle impossible. Only the dash before it joins the mask, so that
/// neighbours may touch. False when there is no room.
bool extend(Path& path, Grid& mask, Random& random);

}  // namespace fastmax::app::pathfinder
