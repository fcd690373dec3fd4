// The same recipe with one attention after the other, each with the same seeds.
#pragma once
#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "app/recipe.h"
#include "app/table.h"

namespace fastmax::app {

/// Trains OUT/ATTENTION-seedSEED for each of them, keeping runs that are finished and going on with
/// those that are not, and writes OUT/table.md, table.json and loss.svg. Returns table.json:
///
///   {"task", "data", "baselines": {NAME: accuracy}, "rows": [{"attention", "seeds", "accuracy_mean",
///    "accuracy_std", "loss_mean", "steps_per_second", "peak_memory_bytes",
///    "speedup_over_softmax"}]}
///
/// "data" is there where the results must say it (Task::data_name). Accuracy and loss are the test part's; the standard deviation is the sample's, 0 for one seed;
/// speed and memory are medians over the seeds.
nlohmann::ordered_json compare(const Recipe& recipe, const std::vector<std::string>& attentions,
                               const std::vector<std::int64_t>& seeds,
                               const std::filesystem::path& out);

/// Its form (json_file.h).
nlohmann::ordered_json comparison_form();

/// The same as a table to read.
Table comparison_table(const nlohmann::ordered_json& comparison);

}  // namespace fastmax::app
