// Line plots drawn by gnuplot, with their data beside them as csv.
#pragma once
#include <string>
#include <vector>

#include "app/drawing.h"

namespace fastmax::app {

/// x and y have the same length. A point that cannot be drawn (not finite, or not positive on a
/// logarithmic axis) is left out and breaks the line.
struct Series {
  std::string name;
  std::vector<double> x, y;
  std::vector<double> low = {}, high = {};  ///< a band around the line, as long as it; empty: none
  std::string note = {};                    ///< behind the name where that is written, "3 seeds"
};

struct Plot {
  std::string title = {}, x_label = {}, y_label = {};
  bool log_x = false, log_y = false;
  std::string y_format = "%g";  ///< gnuplot's: "%.0s %cB" prints 2000000 as "2 MB"
  bool legend = true;
  std::vector<Series> series = {};
};

/// Draws into `file` as write_drawing() does, the csv with one line a point. The palette is safe for colour-blind eyes.
void line_plot(const Plot& plot, const std::string& file);

/// Panels in rows of `columns`, all in one file. A name has the same colour in every panel.
void line_plot(const std::vector<Plot>& panels, int columns, const std::string& file);
Drawing line_drawing(const std::vector<Plot>& panels, int columns);

}  // namespace fastmax::app
