#include "app/pathfinder_stroke.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numbers>

namespace fastmax::app::pathfinder {
namespace {

constexpr int kFine = 2;  // canvas pixels along a pixel of the picture
constexpr int kCanvas = 2 * Stroke::kReach * kFine + 1, kMiddle = Stroke::kReach * kFine;

double sinc(double x) {
  return x == 0 ? 1 : std::sin(std::numbers::pi * x) / (std::numbers::pi * x);
}

// A pixel of the result is a weighted sum of pixels first, first + 1, ..
struct Weights {
  int first = 0;
  std::vector<std::int64_t> values;  // in units of 2^-22
};
constexpr int kUnit = 22;

std::vector<Weights> lanczos_weights(int from, int to) {
  const double scale = static_cast<double>(from) / to, support = 3 * scale;
  std::vector<Weights> all;
  for (int i = 0; i < to; ++i) {
    const double centre = (i + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(centre - support + 0.5));
    const int end = std::min(from, static_cast<int>(centre + support + 0.5));
    std::vector<double> exact;
    double sum = 0;
    for (int j = first; j < end; ++j) {
      const double x = (j - centre + 0.5) / scale;
      exact.push_back(std::abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0);
      sum += exact.back();
    }
    Weights weights{first, {}};
    for (const double w : exact) weights.values.push_back(std::lround(w / sum * (1 << kUnit)));
    all.push_back(std::move(weights));
  }
  return all;
}

// The pixels of a line one pixel wide, by Bresenham's algorithm.
template <class Visit>
void line(Point from, Point to, Visit&& visit) {
  const int dy = std::abs(to.y - from.y), dx = std::abs(to.x - from.x);
  const int sy = to.y < from.y ? -1 : 1, sx = to.x < from.x ? -1 : 1;
  const int longer = std::max(dy, dx), shorter = std::min(dy, dx);
  int error = 2 * shorter - longer;
  for (int i = 0; i <= longer; ++i) {
    visit(from);
    const bool both = error >= 0;
    error += 2 * shorter - (both ? 2 * longer : 0);
    if (dx > dy || both) from.x += sx;
    if (dx <= dy || both) from.y += sy;
  }
}

bool in_disc(int dy, int dx, int radius) { return dy * dy + dx * dx <= radius * radius; }

Stroke draw(Point end) {
  std::array<std::uint8_t, kCanvas * kCanvas> line_canvas{}, mask_canvas{};
  line({kMiddle, kMiddle}, end, [&](Point p) {
    constexpr int kRadius = kMargin * kFine;
    line_canvas[p.y * kCanvas + p.x] = 255;
    for (int dy = -kRadius; dy <= kRadius; ++dy) {
      for (int dx = -kRadius; dx <= kRadius; ++dx) {
        if (in_disc(dy, dx, kRadius)) mask_canvas[(p.y + dy) * kCanvas + p.x + dx] = 255;
      }
    }
  });
  Stroke stroke;
  std::ranges::copy(lanczos(line_canvas, kCanvas, Stroke::kSide), stroke.line.begin());
  std::ranges::copy(lanczos(mask_canvas, kCanvas, Stroke::kSide), stroke.mask.begin());

  // The original takes these from a stroke drawn off the middle of a window of 7 x 7, by one pixel each way.
  constexpr int kWindow = 2 * (kLength + kMargin) + 1, kAnchor = kLength + kMargin;
  for (int y = 0; y < kWindow; ++y) {
    for (int x = 0; x < kWindow; ++x) {
      if (stroke.mask[y * Stroke::kSide + x] == 255)
        stroke.body.push_back({y - kAnchor, x - kAnchor});
    }
  }
  const auto outside = [&](int inward_y, int inward_x) {
    return std::ranges::all_of(stroke.body,
                               [&](Point p) { return p.y * inward_y < 0 || p.x * inward_x < 0; });
  };
  stroke.leaves_a_corner = outside(1, 1) || outside(1, -1) || outside(-1, 1) || outside(-1, -1);
  return stroke;
}

}  // namespace

Point translate(Point p, double angle, double distance) {
  return {static_cast<int>(std::ceil(p.y + distance * std::sin(angle))),
          static_cast<int>(std::ceil(p.x + distance * std::cos(angle)))};
}

std::vector<std::uint8_t> lanczos(std::span<const std::uint8_t> image, int from, int to) {
  const std::vector<Weights> weights = lanczos_weights(from, to);
  const auto sum = [](const Weights& w, const std::uint8_t* pixel, int stride) {
    std::int64_t total = std::int64_t{1} << (kUnit - 1);
    for (const std::int64_t weight : w.values) {
      total += weight * *pixel;
      pixel += stride;
    }
    return static_cast<std::uint8_t>(std::clamp<std::int64_t>(total >> kUnit, 0, 255));
  };
  std::vector<std::uint8_t> narrow(static_cast<std::size_t>(from * to));
  for (int y = 0; y < from; ++y) {
    for (int x = 0; x < to; ++x) {
      narrow[y * to + x] = sum(weights[x], &image[y * from + weights[x].first], 1);
    }
  }
  std::vector<std::uint8_t> small(static_cast<std::size_t>(to * to));
  for (int y = 0; y < to; ++y) {
    for (int x = 0; x < to; ++x) {
      small[y * to + x] = sum(weights[y], &narrow[weights[y].first * to + x], to);
    }
  }
  return small;
}

const Stroke& stroke(double angle) {
  constexpr int kEnds = 2 * kLength * kFine + 1;  // along an edge; few ends, many strokes
  static const std::vector<Stroke> all = [] {
    std::vector<Stroke> strokes;
    for (int i = 0; i < kEnds * kEnds; ++i) {
      const int corner = kMiddle - kLength * kFine;
      strokes.push_back(draw({corner + i / kEnds, corner + i % kEnds}));
    }
    return strokes;
  }();
  const Point end = translate({kMiddle, kMiddle}, angle, kLength * kFine);
  const int corner = kMiddle - kLength * kFine;
  return all[(end.y - corner) * kEnds + end.x - corner];
}

std::vector<std::uint8_t> disc(Point centre, int side) {
  constexpr int kRadius = 3;  // 1.5 pixels of the picture
  const int fine = side * kFine;
  std::vector<std::uint8_t> canvas(static_cast<std::size_t>(fine * fine));
  for (int y = 0; y < fine; ++y) {
    for (int x = 0; x < fine; ++x) {
      if (in_disc(y - centre.y * kFine, x - centre.x * kFine, kRadius)) canvas[y * fine + x] = 255;
    }
  }
  return lanczos(canvas, fine, side);
}

}  // namespace fastmax::app::pathfinder
