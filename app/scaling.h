// How training cost grows with the length of a sequence: steps a second and peak memory of one
// model under each attention, from a thousand tokens up.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "app/recipe.h"
#include "app/table.h"

namespace fastmax::app {

struct ScalingConfig {
  /// Its model is measured, with the attention and the length of each point.
  Recipe recipe = parse_recipe("task = \"image\"", "the default recipe");
  std::vector<std::string> attention = {"softmax", "fastmax2", "fastmax1"};
  std::vector<std::int64_t> lengths = {1024, 2048, 4096, 8192, 16384};
  int threads = 0;     ///< 0: as torch chooses
  double seconds = 3;  ///< of steps a point; one step is measured however long it takes
};

/// Measures every point, each in a process of its own so that its peak memory is its own, and
/// writes scaling.json, scaling.svg and scaling.csv into `folder`. Progress goes to stderr. Returns
/// the table to print. Throws UsageError for an attention that is unknown or that the recipe cannot have, WorkError when
/// nothing could be measured, Interrupted on Ctrl-C.
Table run_scaling(const ScalingConfig& config, const std::filesystem::path& folder);

}  // namespace fastmax::app
