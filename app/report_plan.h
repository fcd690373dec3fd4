// The runs that the published results rest on, as docs/results/runs.toml lists them:
//
//   [[runs]]
//   folder = "listops"                 # under docs/results/runs
//   recipe = "recipes/listops.toml"
//   attention = ["softmax", "fastmax2", "fastmax1"]
//   seeds = [1, 2, 3]
//   set = ["model.scale=1/sqrt(D)"]    # as --set; may be left out
//   maps = true                        # their attention maps are published too; false if left out
//
//   [[speed]]
//   name = "paper-listops"             # measured into speed/NAME.json
//   recipe = "recipes/paper/listops.toml"
//   attention = ["softmax", "fastmax2", "fastmax1"]
//   set = ["model.attention_dropout=0"]
//
// A run is trained with one thread into FOLDER/ATTENTION-seedS. Of it recipe.toml, metrics.jsonl, result.json and
// maps.csv are committed; its weights and checkpoint are not.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "app/recipe.h"
#include "app/run_dir.h"

namespace fastmax::app {

struct PlannedRun {
  std::string folder, attention;
  std::int64_t seed = 1;
  std::string recipe;                 ///< its file
  std::vector<std::string> settings;  ///< attention and seed among them
  bool maps = false;
  RunDir dir;
};

/// Training steps a second of one recipe, to be measured apart from the runs.
struct PlannedSpeed {
  std::string name, recipe;
  std::vector<std::string> attentions, settings;
};

struct ReportPlan {
  std::vector<PlannedRun> runs;
  std::vector<PlannedSpeed> speeds;
};

/// What `results`/runs.toml lists. Runs are in the order in which they are to be made: all kinds of attention with the first
/// seed of an entry, then with the next. Throws UsageError naming the file, the line and what was expected.
ReportPlan read_plan(const std::filesystem::path& results);

/// Their distinct folders, in order.
std::vector<std::string> folders_of(const std::vector<PlannedRun>& plan);

/// Where the maps of a run are kept, for they need its weights to be drawn.
std::filesystem::path maps_file(const PlannedRun& run);

/// speed/NAME.json.
std::filesystem::path speed_file(const std::filesystem::path& results, const std::string& name);

/// Shell commands that make what is missing, one a line and in order. They may run side by side, a line that was interrupted
/// goes on where it stopped, and what is done is not listed.
std::vector<std::string> commands_to_do(const std::vector<PlannedRun>& plan);

}  // namespace fastmax::app
