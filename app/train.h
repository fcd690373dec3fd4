// Training: one run from its recipe to its result, interruptible anywhere.
#pragma once
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "app/optimiser.h"
#include "app/profile.h"
#include "app/recipe.h"
#include "app/task.h"

namespace fastmax::app {

/// Trains in `folder` (see run_dir.h), going on from its checkpoint if `resume`, and returns
/// result.json. A finished run is left as it is. `label` stands before the progress bar. Where the time of
/// the steps of this call goes is added to `profile`, if there is one.
///
/// Throws UsageError before any work when the folder holds a run and `resume` is false, or a run of
/// another recipe; Interrupted on SIGINT and SIGTERM, after a checkpoint; WorkError when the loss
/// is no longer finite.
nlohmann::ordered_json train(Recipe recipe, const std::filesystem::path& folder, bool resume,
                             const std::string& label, Profile* profile = nullptr);

/// What a recipe's `train` keys say of the optimiser.
AdamWConfig optimiser_config(const Recipe& recipe);

/// The learning rate of step 0, 1, ..: a linear rise over `warmup` steps, then a linear fall.
double learning_rate(const Recipe::TrainKeys& keys, std::int64_t step);

/// Adam's beta1 of step 0, 1, ..: to beta1_peak at the last step of the warm-up and back, in straight lines.
double beta1(const Recipe::TrainKeys& keys, std::int64_t step);

}  // namespace fastmax::app
