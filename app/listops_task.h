// ListOps as a task: a whole expression in, its value out.
#pragma once
#include <filesystem>
#include <memory>

#include "app/task.h"

namespace fastmax::app {

/// Where a variant ("lra", "short") is kept below the data folder.
std::filesystem::path listops_folder(const std::filesystem::path& data_folder,
                                     const std::string& variant);

/// From the recipe's data.path, or from where `data make` puts its variant.
std::unique_ptr<Task> load_listops(const Recipe& recipe);

}  // namespace fastmax::app
