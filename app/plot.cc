#include "app/plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <sstream>

#include "app/error.h"
#include "app/names.h"
#include "app/table.h"

namespace fastmax::app {
namespace {

constexpr double kBandOpacity = 0.2;
constexpr int kPanelWidth = 560, kPanelHeight = 400;
constexpr std::size_t kMostMarkers = 40;  // a line with more points is drawn without them
constexpr std::size_t kMostWithin = 4;    // names in a legend that covers part of the panel
constexpr std::size_t kMostTicks = 12;    // more lengths than this get gnuplot's own ticks

bool drawable(const Plot& plot, double x, double y) {
  return std::isfinite(x) && std::isfinite(y) && (!plot.log_x || x > 0) && (!plot.log_y || y > 0);
}

bool has_band(const Series& series) { return !series.low.empty(); }

std::string label(const Series& series) {
  return series.note.empty() ? series.name : series.name + ", " + series.note;
}

std::string csv(const std::vector<Plot>& panels) {
  bool bands = false;
  for (const Plot& plot : panels)
    bands = bands || std::any_of(plot.series.begin(), plot.series.end(), has_band);
  std::string out = text("panel,series,x_label,x,y_label,y", bands ? ",low,high" : "", "\n");
  for (const Plot& plot : panels)
    for (const Series& series : plot.series)
      for (std::size_t i = 0; i < series.x.size(); ++i) {
        out += csv_field(plot.title) + "," + csv_field(label(series)) + "," +
               csv_field(plot.x_label) + "," + shortest(series.x[i]) + "," +
               csv_field(plot.y_label) + "," + shortest(series.y[i]);
        if (has_band(series))
          out += text(",", shortest(series.low[i]), ",", shortest(series.high[i]));
        else if (bands)
          out += ",,";
        out += "\n";
      }
  return out;
}

/// From the smallest to the largest of what is drawn.
struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  void add(double x) {
    low = std::min(low, x);
    high = std::max(high, x);
  }
  /// Where x stands, from 0 at low to 1 at high.
  double part(double x, bool log) const {
    if (!(low < high)) return 0.5;
    return log ? std::log(x / low) / std::log(high / low) : (x - low) / (high - low);
  }
};

/// Lengths double from point to point, so on a logarithmic axis each gets its own tick: 256, 1k,
/// 64k, 1M.
std::string ticks(const Plot& plot) {
  std::set<double> xs;
  for (const Series& series : plot.series) xs.insert(series.x.begin(), series.x.end());
  const bool whole = std::all_of(xs.begin(), xs.end(), [](double x) { return x == std::floor(x); });
  if (!plot.log_x || !whole || xs.empty() || xs.size() > kMostTicks) return "set xtics autofreq\n";
  std::string out;
  for (const double x : xs)
    out += (out.empty() ? "" : ", ") + gnuplot_string(short_length(static_cast<long long>(x))) +
           " " + shortest(x);
  return "set xtics (" + out + ")\n";
}

/// Where a legend may stand, and which part of the panel it covers there.
struct LegendPlace {
  const char* words;  // gnuplot's
  double left;
  bool top;
};
constexpr double kLegendWidth = 0.45, kLegendLine = 0.08;
constexpr double kMayCover = 0.1;  // of the curves' length, in panels
constexpr LegendPlace kLegendPlaces[] = {
    {"top right noreverse Right", 1 - kLegendWidth, true},
    {"bottom right noreverse Right", 1 - kLegendWidth, false},
    {"top left reverse Left", 0, true},
    {"bottom left reverse Left", 0, false},
    {"top center reverse Left", 0.5 - kLegendWidth / 2, true},
    {"bottom center reverse Left", 0.5 - kLegendWidth / 2, false},
};

/// The length of the curves that a legend would cover, in panels: by dots along each line that are in its box.
double covered(const Plot& plot, const Range& xs, const Range& ys, const LegendPlace& legend) {
  constexpr int kDots = 50;  // a line
  const double height = kLegendLine * static_cast<double>(plot.series.size() + 1);
  double length = 0;
  for (const Series& series : plot.series) {
    const auto at = [&](std::size_t i) {
      return std::pair(xs.part(series.x[i], plot.log_x), ys.part(series.y[i], plot.log_y));
    };
    const auto drawn = [&](std::size_t i) { return drawable(plot, series.x[i], series.y[i]); };
    for (std::size_t i = 1; i < series.x.size(); ++i) {
      if (!drawn(i - 1) || !drawn(i)) continue;
      const auto [x, y] = at(i - 1);
      const auto [next_x, next_y] = at(i);
      const double step = std::hypot(next_x - x, next_y - y) / kDots;
      for (int dot = 0; dot < kDots; ++dot) {
        const double part = (dot + 0.5) / kDots;
        const double u = x + part * (next_x - x), v = y + part * (next_y - y);
        if (u >= legend.left && u <= legend.left + kLegendWidth &&
            (legend.top ? 1 - v : v) < height)
          length += step;
      }
    }
  }
  return length;
}

/// The legend stands where it covers least of the curves, or below the axes when that is much or it is long.
std::string legend_place(const Plot& plot, const Range& xs, const Range& ys) {
  const auto cover = [&](const LegendPlace& legend) { return covered(plot, xs, ys, legend); };
  const LegendPlace* best = std::ranges::min_element(kLegendPlaces, {}, cover);
  if (plot.series.size() > kMostWithin || cover(*best) > kMayCover)
    return "set key below center reverse Left height 2\n";
  return text("set key inside vertical ", best->words, " height 0\n");
}

/// A little room on both sides, or points at the ends lose half their marker and gnuplot the last tick.
std::string x_range(const Plot& plot, const Range& xs) {
  if (!(xs.low < xs.high)) return "set xrange [*:*]\n";
  const double room = plot.log_x ? std::pow(xs.high / xs.low, 0.02) : 0.02 * (xs.high - xs.low);
  return "set xrange [" + shortest(plot.log_x ? xs.low / room : xs.low - room) + ":" +
         shortest(plot.log_x ? xs.high * room : xs.high + room) + "]\n";
}

std::string panel(const Plot& plot, std::size_t index, const std::vector<std::string>& names) {
  std::ostringstream out;
  std::string bands, curves;
  Range xs, ys;
  for (std::size_t s = 0; s < plot.series.size(); ++s) {
    const Series& series = plot.series[s];
    const std::string block = "$p" + std::to_string(index) + "s" + std::to_string(s);
    out << block << " << END\n";
    bool any = false;
    for (std::size_t i = 0; i < series.x.size(); ++i) {
      if (drawable(plot, series.x[i], series.y[i])) {
        xs.add(series.x[i]);
        ys.add(series.y[i]);
        out << shortest(series.x[i]) << " " << shortest(series.y[i]);
        if (has_band(series))
          out << " " << shortest(series.low[i]) << " " << shortest(series.high[i]);
        out << "\n";
        any = true;
      } else {
        out << "\n";  // a blank line breaks the curve
      }
    }
    out << "END\n";
    if (!any) continue;
    const std::size_t style = static_cast<std::size_t>(
        std::find(names.begin(), names.end(), series.name) - names.begin());
    if (has_band(series))
      bands += text(block, " using 1:3:4 with filledcurves fs transparent solid ", kBandOpacity,
                    " noborder lc rgb '", kPalette[style % kPalette.size()], "' notitle, ");
    curves += (curves.empty() ? "" : ", ") + block + " using 1:2 title " +
              gnuplot_string(label(series)) +
              (series.x.size() > kMostMarkers ? " with lines" : " with linespoints") + " ls " +
              std::to_string(style + 1);
  }
  out << "set title " << gnuplot_string(plot.title) << "\nset xlabel "
      << gnuplot_string(plot.x_label) << "\nset ylabel " << gnuplot_string(plot.y_label)
      << "\nset format y " << gnuplot_string(plot.y_format) << "\nunset logscale\n";
  if (plot.log_x) out << "set logscale x 2\n";
  if (plot.log_y) out << "set logscale y 10\n";
  out << (plot.legend ? legend_place(plot, xs, ys) : "unset key\n") << ticks(plot)
      << x_range(plot, xs);
  // Nothing to draw is an empty frame that says so, not a failure.
  if (curves.empty())
    out << "unset logscale\nset xrange [0:1]\nset yrange [0:1]\nset label 1 'no data' at graph "
           ".5,.5 center\n"
        << "plot NaN notitle\nunset label 1\nset autoscale\n";
  else
    out << "plot " << bands << curves << "\n";  // curves stand before bands
  return out.str();
}

}  // namespace

Drawing line_drawing(const std::vector<Plot>& panels, int columns) {
  if (panels.empty()) return line_drawing({Plot{}}, 1);  // a frame without data
  std::vector<std::string> names;  // in order of appearance: a name keeps its colour in every panel
  for (const Plot& plot : panels)
    for (const Series& series : plot.series) add_once(names, series.name);

  std::ostringstream out;
  out << "set grid lc rgb '" << kGrid << "' lw 1\n";
  // Seventh and later series repeat the colours with another dash and marker.
  for (std::size_t i = 0; i < names.size(); ++i)
    out << "set style line " << i + 1 << " lc rgb '" << kPalette[i % kPalette.size()]
        << "' lw 2 dt " << i / kPalette.size() + 1 << " pt "
        << std::array{7, 5, 9, 11, 13, 6, 4}[i % 7] << " ps 0.7\n";
  std::vector<std::string> drawn;
  for (std::size_t i = 0; i < panels.size(); ++i) drawn.push_back(panel(panels[i], i, names));
  return panels_drawing(out.str(), drawn, columns, kPanelWidth, kPanelHeight, csv(panels));
}

void line_plot(const Plot& plot, const std::string& file) { line_plot(std::vector{plot}, 1, file); }

void line_plot(const std::vector<Plot>& panels, int columns, const std::string& file) {
  write_drawing(line_drawing(panels, columns), file);
}

}  // namespace fastmax::app
