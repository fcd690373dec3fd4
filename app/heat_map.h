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

/// Panels in rows of `columns`. Each has its own range of colours, and a bar that says which: from 0, or the smallest entry if that
/// is negative, up to the 99th percentile of the entries that are not 0. Larger ones look like it: the first row of a causal
/// map is one weight of 1, beside which nothing else would show. `csv` is the data as its maker wants it.
Drawing heat_drawing(const std::vector<HeatMap>& panels, int columns, std::string csv);

}  // namespace fastmax::app
