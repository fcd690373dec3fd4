// ListOps as a task: a whole expression in, its value out.
#pragma once
#include <memory>

#include "app/task.h"

namespace fastmax::app {

/// From the recipe's data.path, or from where `data make` puts its variant.
std::unique_ptr<Task> load_listops(const Recipe& recipe);

}  // namespace fastmax::app
