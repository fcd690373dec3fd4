#include "app/bubble.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <sstream>

namespace fastmax::app {
namespace {

constexpr int kWidth = 720, kHeight = 460;
constexpr double kLargest = 4;                          // gnuplot's point size
constexpr double kPlotWidth = 620, kPlotHeight = 335;   // pixels between the axes' ends, about
constexpr double kCharacter = 6.7, kLine = 13;          // pixels of a label's character
constexpr double kUnitWidth = 9.1, kUnitHeight = 19.7;  // pixels of gnuplot's unit of offsets
constexpr double kRadius = 5.3;                         // pixels of a point of size 1

/// The palette, then grey.
std::string colour(std::size_t i) {
  i %= kPalette.size() + 1;
  return i < kPalette.size() ? kPalette[i] : kInk;
}

/// Pixels from the plot's lower left corner.
struct Box {
  double left, bottom, right, top;
};

Box box_around(double x, double y, double width, double height) {
  return {x - width / 2, y - height / 2, x + width / 2, y + height / 2};
}

double overlap(const Box& a, const Box& b) {
  return std::max(0.0, std::min(a.right, b.right) - std::max(a.left, b.left)) *
         std::max(0.0, std::min(a.top, b.top) - std::max(a.bottom, b.bottom));
}

struct Offset {
  double x, y;
};

/// From each circle's centre to its label's, in pixels: above, or below, left or right where that hides less of the other
/// circles and of the labels before.
std::vector<Offset> label_offsets(const std::vector<Box>& circles,
                                  const std::vector<Bubble>& bubbles) {
  std::vector<Offset> offsets;
  std::vector<Box> taken = circles;
  for (std::size_t i = 0; i < circles.size(); ++i) {
    const Box& c = circles[i];
    const double radius = (c.right - c.left) / 2;
    const double width = kCharacter * static_cast<double>(bubbles[i].label.size());
    const double up = radius + 0.75 * kLine, aside = radius + width / 2 + kCharacter;
    const auto label = [&](const Offset& to) {
      return box_around((c.left + c.right) / 2 + to.x, (c.bottom + c.top) / 2 + to.y, width, kLine);
    };
    const auto hidden = [&](const Offset& to) {
      double area = 0;
      for (const Box& other : taken) area += overlap(label(to), other);
      return area;
    };
    const std::array<Offset, 4> sides = {{{0, up}, {0, -up}, {-aside, 0}, {aside, 0}}};
    offsets.push_back(*std::ranges::min_element(sides, {}, hidden));
    taken.push_back(label(offsets.back()));
  }
  return offsets;
}

}  // namespace

Drawing bubble_drawing(const std::string& title, const std::string& x_label,
                       const std::string& y_label, const std::string& area_label,
                       const std::vector<Bubble>& bubbles) {
  std::string csv = csv_field("name") + "," + csv_field(x_label) + "," + csv_field(y_label) + "," +
                    csv_field(area_label) + "\n";
  std::ostringstream out, circles, labels;  // no circle hides a label
  double low_x = INFINITY, high_x = 0, low_y = INFINITY, high_y = -INFINITY, most = 0;
  for (const Bubble& b : bubbles) {
    low_x = std::min(low_x, b.x);
    high_x = std::max(high_x, b.x);
    low_y = std::min(low_y, b.y);
    high_y = std::max(high_y, b.y);
    most = std::max(most, b.area);
    csv += csv_field(b.name) + "," + shortest(b.x) + "," + shortest(b.y) + "," + shortest(b.area) +
           "\n";
  }
  const double room = std::max(0.35 * (high_y - low_y), 0.5);
  const double left = low_x / 1.5, right = high_x * 1.5;
  const double bottom = low_y - room, top = high_y + room;
  std::vector<double> sizes;
  std::vector<Box> places;
  for (const Bubble& b : bubbles) {
    sizes.push_back(kLargest * std::sqrt(b.area / most));
    const double width = 2 * kRadius * sizes.back();
    places.push_back(box_around(kPlotWidth * std::log(b.x / left) / std::log(right / left),
                                kPlotHeight * (b.y - bottom) / (top - bottom), width, width));
  }
  const std::vector<Offset> offsets = label_offsets(places, bubbles);
  for (std::size_t i = 0; i < bubbles.size(); ++i) {
    const Bubble& b = bubbles[i];
    out << "$b" << i << " << END\n" << shortest(b.x) << " " << shortest(b.y) << "\nEND\n";
    circles << "$b" << i << " using 1:2 with points pt 7 ps " << shortest(sizes[i])
            << " lc rgb '#60" << colour(i).substr(1) << "' notitle, ";
    labels << (i ? ", " : "") << "$b" << i << " using 1:2:(" << gnuplot_string(b.label)
           << ") with labels tc rgb '" << kInk << "' offset " << shortest(offsets[i].x / kUnitWidth)
           << "," << shortest(offsets[i].y / kUnitHeight) << " notitle";
  }
  out << "set title " << gnuplot_string(title) << "\nset xlabel " << gnuplot_string(x_label)
      << "\nset ylabel " << gnuplot_string(y_label) << "\nset grid lc rgb '" << kGrid << "' lw 1\n"
      << "set logscale x 2\nset xrange [" << shortest(left) << ":" << shortest(right)
      << "]\nset yrange [" << shortest(bottom) << ":" << shortest(top) << "]\nplot "
      << circles.str() << labels.str() << "\n";
  return {.commands = out.str(), .csv = csv, .width = kWidth, .height = kHeight};
}

}  // namespace fastmax::app
