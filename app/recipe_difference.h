// In which keys two recipes differ.
#pragma once
#include <string>
#include <vector>

#include "app/recipe.h"

namespace fastmax::app {

struct Difference {
  std::string path, there, here;  ///< "train.steps", and the values as TOML
};

/// In the order of a recipe's file.
std::vector<Difference> differences(const Recipe& there, const Recipe& here);

}  // namespace fastmax::app
