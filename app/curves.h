// Learning curves out of the metrics of runs: what differs in its seed alone becomes one line with a band.
#pragma once
#include <string>
#include <vector>

#include "app/plot.h"
#include "app/recipe.h"
#include "app/run_dir.h"

namespace fastmax::app {

/// Runs of the same recipe with different seeds.
struct SeedGroup {
  std::string name;  ///< its attention and, where that does not tell groups apart, its folder
  Recipe recipe;     ///< of the first run
  std::vector<RunDir> runs;
};

/// In order of appearance. Throws UsageError for what is no run directory, for runs of different tasks, and for a seed that
/// comes twice.
std::vector<SeedGroup> group_by_seed(const std::vector<RunDir>& runs);

/// `x` is "step" or "seconds", `y` "train_loss", "val_loss" or "val_accuracy". The training loss is averaged over successive
/// lines, to about 40 points. With several seeds: their mean, and a band from the smallest to the largest, as far as
/// all of them have come. Throws UsageError when a run has no such number yet.
Series curve(const SeedGroup& group, const std::string& x, const std::string& y);

/// The curves of all groups, with a title that says what a band is if there is one.
Plot curves(const std::vector<SeedGroup>& groups, const std::string& x, const std::string& y);

}  // namespace fastmax::app
