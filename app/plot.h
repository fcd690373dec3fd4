// Line plots drawn by gnuplot, with their data beside them as csv.
#pragma once
#include <string>
#include <vector>

namespace fastmax::app {

/// x and y have the same length. A point that cannot be drawn (not finite, or not positive on a
/// logarithmic axis) is left out and breaks the line.
struct Series {
  std::string name;
  std::vector<double> x, y;
};

struct Plot {
  std::string title, x_label, y_label;
  bool log_x = false, log_y = false;
  std::string y_format = "%g";  ///< gnuplot's: "%.0s %cB" prints 2000000 as "2 MB"
  bool legend = true;
  std::vector<Series> series = {};
};

/// Draws into `file`, whose ending picks the kind: .svg or .png; the data goes beside it as .csv,
/// one line a point. Both appear complete or not at all. Axes and text are neutral, the background
/// is transparent and the palette is safe for colour-blind eyes, so that one file suits light and
/// dark pages. Throws UsageError for another ending, WorkError when gnuplot is missing or fails.
void line_plot(const Plot& plot, const std::string& file);

/// Panels in rows of `columns`, all in one file. A series has the same colour in every panel.
void line_plot(const std::vector<Plot>& panels, int columns, const std::string& file);

/// Throws what line_plot would, before the work whose result it is to draw.
void require_plot(const std::string& file);

}  // namespace fastmax::app
