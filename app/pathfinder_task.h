// Pathfinder as a task: a picture in, pixel by pixel or in patches, and whether its two discs are on one path.
#pragma once
#include <memory>

#include "app/task.h"

namespace fastmax::app {

/// From the recipe's data.path, or from where `data make` puts its variant. The first 80 % of the pictures are for training,
/// the next 10 % for validation, the last for testing.
std::unique_ptr<Task> load_pathfinder(const Recipe& recipe);

}  // namespace fastmax::app
