// Training steps a second for the published tables, measured apart from the runs, which share the machine.
//
// speed/NAME.json: {"name", "recipe", "settings", "sizes", "threads", "machine", "version", "commit",
//                   "batch_seconds", "data", "rows": [{"attention", "steps", "seconds", "timed", "steps_per_second",
//                   "peak_memory_bytes"}]}
// "steps" are the training steps whose batches were timed, the same for all, "seconds" what a step with each of them takes, "timed" how
// many steps in all; "batch_seconds" is what making a batch takes, "data" what results must say of the data.
// A point whose process was killed has steps_per_second null, and a "note".
#pragma once
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "app/report_plan.h"

namespace CLI {
class App;
}

namespace fastmax::app {

/// The form (json_file.h) of speed/NAME.json.
nlohmann::ordered_json speed_form();

/// Measures what is not there yet of `speeds` (those in `only`, if it names any): one thread, real batches, each point in
/// a process of its own. The attentions of a recipe take turns with the same batches (sampled_batches.h), in up to three rounds of about
/// `seconds` each; one that would take longer than 40 seconds in all has fewer, at least one. Medians over the rounds count. Returns
/// the files written. Throws UsageError for a name that is not planned, WorkError when a step fails, Interrupted
/// on Ctrl-C, which keeps what is complete.
std::vector<std::string> measure_speeds(const std::vector<PlannedSpeed>& speeds,
                                        const std::filesystem::path& results,
                                        const std::vector<std::string>& only, double seconds);

/// The hidden command `speed-point`: the child's side.
void add_speed_point(CLI::App& app);

}  // namespace fastmax::app
