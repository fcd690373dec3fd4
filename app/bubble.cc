#include "app/bubble.h"

#include <algorithm>
#include <cmath>
#include <sstream>

namespace fastmax::app {
namespace {

constexpr int kWidth = 720, kHeight = 460;
constexpr double kLargest = 4;                         // gnuplot's point size
constexpr double kPlotWidth = 620, kPlotHeight = 335;  // pixels between the axes' ends, about
constexpr double kCharacter = 7, kLine = 15;           // pixels
constexpr double kRadius = 0.33;                       // of point size 1, in lines of text

/// The palette, then grey.
std::string colour(std::size_t i) {
  i %= kPalette.size() + 1;
  return i < kPalette.size() ? kPalette[i] : kInk;
}

/// Pixels from the plot's lower left corner.
struct Box {
  double left, bottom, right, top;
};

bool overlap(const Box& a, const Box& b) {
  return a.left < b.right && b.left < a.right && a.bottom < b.top && b.bottom < a.top;
}

Box box_around(double x, double y, double width, double height) {
  return {x - width / 2, y - height / 2, x + width / 2, y + height / 2};
}

/// Lines of text that each label stands above its circle's centre (below it, if negative): above, but below where it would
/// meet another circle or an earlier label and does not so there.
std::vector<double> label_offsets(const std::vector<Box>& circles,
                                  const std::vector<Bubble>& bubbles) {
  std::vector<double> offsets;
  std::vector<Box> labels;
  for (std::size_t i = 0; i < circles.size(); ++i) {
    const Box& c = circles[i];
    const double distance = (c.top - c.bottom) / 2 + 0.6 * kLine;
    const auto label = [&](double up) {
      return box_around((c.left + c.right) / 2, (c.bottom + c.top) / 2 + up,
                        kCharacter * static_cast<double>(bubbles[i].label.size()), kLine);
    };
    const auto meets = [&](const Box& box) {
      const auto it = [&](const Box& other) { return overlap(box, other); };
      return std::any_of(labels.begin(), labels.end(), it) ||
             std::any_of(circles.begin(), circles.end(), it);
    };
    const double up = meets(label(distance)) && !meets(label(-distance)) ? -distance : distance;
    labels.push_back(label(up));
    offsets.push_back(up / kLine);
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
    const double width = 2 * kRadius * sizes.back() * kLine;
    places.push_back(box_around(kPlotWidth * std::log(b.x / left) / std::log(right / left),
                                kPlotHeight * (b.y - bottom) / (top - bottom), width, width));
  }
  const std::vector<double> offsets = label_offsets(places, bubbles);
  for (std::size_t i = 0; i < bubbles.size(); ++i) {
    const Bubble& b = bubbles[i];
    out << "$b" << i << " << END\n" << shortest(b.x) << " " << shortest(b.y) << "\nEND\n";
    circles << "$b" << i << " using 1:2 with points pt 7 ps " << shortest(sizes[i])
            << " lc rgb '#60" << colour(i).substr(1) << "' notitle, ";
    labels << (i ? ", " : "") << "$b" << i << " using 1:2:(" << gnuplot_string(b.label)
           << ") with labels tc rgb '" << kInk << "' offset 0," << shortest(offsets[i])
           << " notitle";
  }
  out << "set title " << gnuplot_string(title) << "\nset xlabel " << gnuplot_string(x_label)
      << "\nset ylabel " << gnuplot_string(y_label) << "\nset grid lc rgb '" << kGrid << "' lw 1\n"
      << "set logscale x 2\nset xrange [" << shortest(left) << ":" << shortest(right)
      << "]\nset yrange [" << shortest(bottom) << ":" << shortest(top) << "]\nplot "
      << circles.str() << labels.str() << "\n";
  return {.commands = out.str(), .csv = csv, .width = kWidth, .height = kHeight};
}

}  // namespace fastmax::app
