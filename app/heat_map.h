// Matrices as pictures: a square for each entry, darkest for the smallest.
#pragma once
#include <string>
#include <vector>

#include "app/drawing.h"

namespace fastmax::app {

/// rows[n][m], with n downwards and m to the right.
struct HeatMap {
  std::string title, x_label, y_label;
  std::vector<std::vector<float>> rows;
};

/// Panels in rows of `columns`. Each has its own range of colours, from its smallest entry (or 0, if that is smaller) to its
/// largest, and a bar that says which. `csv` is the data as its maker wants it.
Drawing heat_drawing(const std::vector<HeatMap>& panels, int columns, std::string csv);

}  // namespace fastmax::app
