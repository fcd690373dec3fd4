#include "app/pathfinder_path.h"

#include <bit>
#include <cmath>
#include <numbers>

namespace fastmax::app::pathfinder {
namespace {

constexpr int kTries = 3;  // for a dash
// Levels of masks, 0 .. 255: what counts as free to start in (0.3), and what two masks must not add up to (1.8).
constexpr int kFree = 76, kCrossing = 459;

bool inside(Point p) { return p.y >= 0 && p.y < kSide && p.x >= 0 && p.x < kSide; }

double radians(int degrees) { return degrees * std::numbers::pi / 180; }
double flipped(double angle) {
  return angle < 0 ? angle + std::numbers::pi : angle - std::numbers::pi;
}

// A path whose first dash starts at `tail`, unless an end of it is outside.
std::optional<Path> begin(Point tail, double angle) {
  const Point head = translate(tail, angle, kLength);
  const Point pivot = translate(head, flipped(angle), kLength + kMargin);
  if (!inside(head) || !inside(pivot)) return std::nullopt;
  return Path{{{tail, &stroke(angle)}}, pivot, angle, tail};
}

// Where the next dash can end, around the gap before it.
struct Step {
  Point offset;
  double angle;
  const Stroke* back;  // drawn from there towards the gap
};
const std::vector<Step>& steps() {
  static const std::vector<Step> all = [] {
    constexpr double kRadius = kLength + kMargin;
    std::vector<Step> found;
    for (int i = 0; i < 2 * std::numbers::pi * kRadius; ++i) {  // a pixel of the circle each
      const double around = i / kRadius;
      const Point p{static_cast<int>(std::floor(kRadius * std::sin(around))),
                    static_cast<int>(std::floor(kRadius * std::cos(around)))};
      if (std::ranges::find(found, p, &Step::offset) != found.end()) continue;
      const double angle = std::atan2(p.y, p.x);
      found.push_back({p, angle, &stroke(flipped(angle))});
    }
    return found;
  }();
  return all;
}

// How free the mask is at a pixel and its four neighbours.
double room(const Grid& mask, Point p) {
  int most = 0;
  for (const Point d : {Point{0, 0}, {-1, 0}, {1, 0}, {0, -1}, {0, 1}}) {
    const Point q{p.y + d.y, p.x + d.x};
    if (inside(q)) most = std::max<int>(most, mask[q.y * kSide + q.x]);
  }
  return 1 - most / 255.0;
}

bool crosses(const Grid& mask, const Dash& dash) {
  int most = 0;
  for_each_pixel(dash,
                 [&](int p, int j) { most = std::max(most, mask[p] + dash.stroke->mask[j]); });
  return most >= kCrossing;
}

// A pixel from which the stroke's body meets nothing that is taken. The original finds none at all for a stroke that can
// leave the picture, because its dilation marks such a pixel by a huge negative number, which it takes for an error.
std::optional<Point> free_start(const Rows& taken, const Stroke& stroke, Random& random) {
  if (stroke.leaves_a_corner) return std::nullopt;
  Rows free;
  for (int y = 0; y < kSide; ++y) {
    std::uint32_t met = 0;
    for (const Point p : stroke.body) {
      const int row = y + p.y;
      if (row < 0 || row >= kSide) continue;
      met |= p.x < 0 ? taken[row] << -p.x : taken[row] >> p.x;
    }
    free[y] = ~met;
  }
  const int all = count(free);
  if (all == 0) return std::nullopt;
  int skip = static_cast<int>(random.below(static_cast<std::uint64_t>(all)));
  for (int p = 0;; ++p) {
    if ((free[p / kSide] >> p % kSide & 1) != 0 && skip-- == 0) return Point{p / kSide, p % kSide};
  }
}

}  // namespace

Rows occupied(const Grid& mask) {
  Rows rows{};
  for (int p = 0; p < kPixels; ++p) rows[p / kSide] |= std::uint32_t{mask[p] > kFree} << p % kSide;
  return rows;
}

int count(const Rows& rows) {
  int all = 0;
  for (const std::uint32_t row : rows) all += std::popcount(row);
  return all;
}

void occupy(Grid& mask, const Dash& dash) {
  for_each_pixel(dash, [&](int p, int j) { mask[p] = std::max(mask[p], dash.stroke->mask[j]); });
}

std::optional<Path> begin_anywhere(const Rows& taken, Random& random) {
  for (int i = 0; i < kTries; ++i) {
    const double angle = radians(static_cast<int>(random.below(360)) - 180);
    const std::optional<Point> tail = free_start(taken, stroke(angle), random);
    if (!tail) return std::nullopt;
    if (auto path = begin(*tail, angle)) return path;
  }
  return std::nullopt;
}

std::optional<Path> begin_near(Point other, double distance, Random& random) {
  for (int i = 0; i < kTries; ++i) {
    const double angle = radians(static_cast<int>(random.below(360)) - 180);
    const double around = radians(static_cast<int>(random.below(360)));
    const Point tail{static_cast<int>(std::nearbyint(other.y + distance * std::sin(around))),
                     static_cast<int>(std::nearbyint(other.x + distance * std::cos(around)))};
    if (auto path = begin(tail, angle)) return path;
  }
  return std::nullopt;
}

bool extend(Path& path, Grid& mask, Random& random) {
  using std::numbers::pi;
  const Point pivot = translate(path.pivot, path.angle, kLength + 2 * kMargin);
  std::vector<double> upto;  // running sums of the weights
  double total = 0;
  for (const Step& step : steps()) {
    const Point end{pivot.y + step.offset.y, pivot.x + step.offset.x};
    if (inside(end)) {
      const double apart = std::abs(step.angle - path.angle),
                   turn = std::min(apart, 2 * pi - apart);
      const double ahead = std::cos(std::min(turn, pi / 2));
      total += ahead * ahead * room(mask, end);
    }
    upto.push_back(total);
  }
  if (total < 1e-4) return false;
  for (int i = 0; i < kTries; ++i) {
    const auto chosen = std::ranges::upper_bound(upto, random.uniform() * total) - upto.begin();
    const Step& step = steps()[static_cast<std::size_t>(chosen)];
    const Point end{pivot.y + step.offset.y, pivot.x + step.offset.x};
    const Dash dash{end, step.back};
    if (crosses(mask, dash)) continue;
    occupy(mask, path.dashes.back());
    path.dashes.push_back(dash);
    path.pivot = pivot;
    path.angle = step.angle;
    path.tip = end;
    return true;
  }
  return false;
}

}  // namespace fastmax::app::pathfinder
