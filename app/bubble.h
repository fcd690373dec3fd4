// Bubble plots: a circle for each thing, whose area is a third number.
#pragma once
#include <string>
#include <vector>

#include "app/drawing.h"

namespace fastmax::app {

struct Bubble {
  std::string name, label;        ///< in the csv, and in the picture
  double x = 0, y = 0, area = 0;  ///< x and area above 0
};

/// x is logarithmic; labels stand above the circles, or beside or below them where they would meet another.
/// The largest circle always has the same size.
Drawing bubble_drawing(const std::string& title, const std::string& x_label,
                       const std::string& y_label, const std::string& area_label,
                       const std::vector<Bubble>& bubbles);

}  // namespace fastmax::app
