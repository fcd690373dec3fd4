#include "app/bubble.h"

#include <algorithm>
#include <cmath>
#include <sstream>

namespace fastmax::app {
namespace {

constexpr int kWidth = 720, kHeight = 460;
constexpr double kLargest = 4;    // gnuplot's point size
constexpr double kRadius = 0.33;  // of point size 1, in lines of text

/// The palette, then grey.
std::string colour(std::size_t i) {
  i %= kPalette.size() + 1;
  return i < kPalette.size() ? kPalette[i] : kInk;
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
  for (std::size_t i = 0; i < bubbles.size(); ++i) {
    const Bubble& b = bubbles[i];
    out << "$b" << i << " << END\n" << shortest(b.x) << " " << shortest(b.y) << "\nEND\n";
    const double size = kLargest * std::sqrt(b.area / most);
    circles << "$b" << i << " using 1:2 with points pt 7 ps " << shortest(size) << " lc rgb '#60"
            << colour(i).substr(1) << "' notitle, ";
    labels << (i ? ", " : "") << "$b" << i << " using 1:2:(" << gnuplot_string(b.label)
           << ") with labels tc rgb '" << kInk << "' offset 0," << shortest(kRadius * size + 0.6)
           << " notitle";
  }
  const double room = std::max(0.35 * (high_y - low_y), 0.5);
  out << "set title " << gnuplot_string(title) << "\nset xlabel " << gnuplot_string(x_label)
      << "\nset ylabel " << gnuplot_string(y_label) << "\nset grid lc rgb '" << kGrid << "' lw 1\n"
      << "set logscale x 2\nset xrange [" << shortest(low_x / 1.5) << ":" << shortest(high_x * 1.5)
      << "]\nset yrange [" << shortest(low_y - room) << ":" << shortest(high_y + room) << "]\nplot "
      << circles.str() << labels.str() << "\n";
  return {.commands = out.str(), .csv = csv, .width = kWidth, .height = kHeight};
}

}  // namespace fastmax::app
