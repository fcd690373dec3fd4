#include "app/heat_map.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <iterator>
#include <sstream>

#include "app/error.h"

namespace fastmax::app {
namespace {

constexpr int kPanelWidth = 420, kPanelHeight = 360;
// Entries are repeated up to so many across: who shows a small image larger would smooth it.
constexpr std::size_t kPixels = 300;
// Even steps of lightness from dark violet to yellow, in the order of which eyes without red or green agree.
constexpr const char* kColours =
    "0 '#440154', 0.25 '#3b528b', 0.5 '#21918c', 0.75 '#5ec962', 1 '#fde725'";

std::string entry(float x) {
  std::array<char, 32> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.4g", static_cast<double>(x));
  return buffer.data();
}

/// The 99th percentile of the entries that are not 0; 1 where all are.
float brightest(const HeatMap& map) {
  std::vector<float> entries;
  for (const auto& row : map.rows)
    std::copy_if(row.begin(), row.end(), std::back_inserter(entries),
                 [](float x) { return x != 0; });
  if (entries.empty()) return 1;
  const auto place =
      entries.begin() + static_cast<std::ptrdiff_t>(0.99 * static_cast<double>(entries.size() - 1));
  std::nth_element(entries.begin(), place, entries.end());
  return *place;
}

std::string panel(const HeatMap& map, std::size_t index) {
  const std::size_t rows = map.rows.size(), columns = map.rows[0].size(),
                    k = std::max<std::size_t>(1, kPixels / std::max(rows, columns));
  const float high = brightest(map);
  float low = 0;
  std::ostringstream out;
  out << "$m" << index << " << END\n";
  for (const auto& row : map.rows) {
    std::string line;
    for (const float x : row) {
      low = std::min(low, x);
      const std::string word = entry(x) + " ";
      for (std::size_t i = 0; i < k; ++i) line += word;
    }
    for (std::size_t i = 0; i < k; ++i) out << line << "\n";
  }
  const auto place = [&](int axis) { return text("(($", axis, " + 0.5) / ", k, " - 0.5)"); };
  out << "END\nset title " << gnuplot_string(map.title) << "\nset xlabel "
      << gnuplot_string(map.x_label) << "\nset ylabel " << gnuplot_string(map.y_label)
      << "\nset xrange [-0.5:" << static_cast<double>(columns) - 0.5 << "]\nset yrange ["
      << static_cast<double>(rows) - 0.5 << ":-0.5]\nset cbrange [" << entry(low) << ":"
      << entry(high > low ? high : low + 1) << "]\nplot $m" << index << " matrix using " << place(1)
      << ":" << place(2) << ":3 with image notitle\n";
  return out.str();
}

}  // namespace

Drawing heat_drawing(const std::vector<HeatMap>& panels, int columns, std::string csv) {
  std::vector<std::string> drawn;
  for (std::size_t i = 0; i < panels.size(); ++i) drawn.push_back(panel(panels[i], i));
  return panels_drawing(
      text("set palette defined (", kColours,
           ")\nset tics out\nset size ratio -1\nset cbtics textcolor rgb '", kInk, "'\n"),
      drawn, columns, kPanelWidth, kPanelHeight, std::move(csv));
}

}  // namespace fastmax::app
