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
constexpr std::size_t kMostInCorner = 4;  // names in a legend that covers part of the panel
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
          out += "," + shortest(series.low[i]) + "," + shortest(series.high[i]);
        else if (bands)
          out += ",,";
        out += "\n";
      }
  return out;
}

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

/// The legend stands where curves are not: in a corner, as costs rise from left to right and losses fall, or
/// below the axes when it is long.
const char* legend_place(const Plot& plot) {
  if (plot.series.size() > kMostInCorner) return "set key below center reverse Left height 2\n";
  int rising = 0;
  for (const Series& series : plot.series)
    if (!series.y.empty()) rising += series.y.back() >= series.y.front() ? 1 : -1;
  return rising >= 0 ? "set key top left reverse Left height 0\n"
                     : "set key top right noreverse Right height 0\n";
}

/// A little room on both sides, or points at the ends lose half their marker and gnuplot the last tick.
std::string x_range(const Plot& plot) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const Series& series : plot.series) {
    for (std::size_t i = 0; i < series.x.size(); ++i) {
      if (!drawable(plot, series.x[i], series.y[i])) continue;
      low = std::min(low, series.x[i]);
      high = std::max(high, series.x[i]);
    }
  }
  if (!(low < high)) return "set xrange [*:*]\n";
  const double room = plot.log_x ? std::pow(high / low, 0.02) : 0.02 * (high - low);
  return "set xrange [" + shortest(plot.log_x ? low / room : low - room) + ":" +
         shortest(plot.log_x ? high * room : high + room) + "]\n";
}

std::string panel(const Plot& plot, std::size_t index, const std::vector<std::string>& names) {
  std::ostringstream out;
  std::string bands, curves;
  for (std::size_t s = 0; s < plot.series.size(); ++s) {
    const Series& series = plot.series[s];
    const std::string block = "$p" + std::to_string(index) + "s" + std::to_string(s);
    out << block << " << END\n";
    bool any = false;
    for (std::size_t i = 0; i < series.x.size(); ++i) {
      if (drawable(plot, series.x[i], series.y[i])) {
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
  out << (plot.legend ? legend_place(plot) : "unset key\n") << ticks(plot) << x_range(plot);
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
