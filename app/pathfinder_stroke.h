// How Pathfinder's pictures are drawn: lines and discs at twice the size, then made smaller as Pillow does it, byte for byte.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace fastmax::app::pathfinder {

/// Pixels of a dash, and of the room around it.
inline constexpr int kLength = 2, kMargin = 1;

struct Point {
  int y = 0, x = 0;
  bool operator==(const Point&) const = default;
};

/// ceil(p + distance (sin angle, cos angle)).
Point translate(Point p, double angle, double distance);

/// A square grey image of from x from pixels as one of to x to, to <= from, by Pillow's resize with LANCZOS: weights
/// sinc(x) sinc(x / 3) of the distance in pixels of the result, rounded to 2^-22; rows first, their results rounded to
/// bytes, then columns.
std::vector<std::uint8_t> lanczos(std::span<const std::uint8_t> image, int from, int to);

/// Grey levels around a stroke's start, of the stroke itself and of the room it wants to itself.
struct Stroke {
  static constexpr int kReach = 4, kSide = 2 * kReach + 1;
  std::array<std::uint8_t, kSide * kSide> line{}, mask{};
  /// Where a stroke that starts at p may not find another: p plus these.
  std::vector<Point> body;
  /// At some corner of a picture none of the body is inside.
  bool leaves_a_corner = false;
};
/// Two pixels long, half a pixel wide, with a margin of one pixel, in the direction of `angle`.
const Stroke& stroke(double angle);

/// A disc of radius 1.5 around `centre` on black, side x side pixels.
std::vector<std::uint8_t> disc(Point centre, int side);

}  // namespace fastmax::app::pathfinder
