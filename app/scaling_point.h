// One point of `scaling`, measured in a process of its own: the program starts itself again with
// the hidden command `scaling-point`, so that peak memory is this point's and nothing an earlier one left.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "app/recipe.h"

namespace CLI {
class App;
}

namespace fastmax::app {

/// {"attention", "N", "steps", "steps_per_second", "peak_memory_bytes", "tokens_per_second"} of
/// training the recipe's model at N tokens on one random example, steps repeated for about `seconds`. A point that
/// fails has steps_per_second null and a "note".
nlohmann::ordered_json measure_point(const Recipe& recipe, std::int64_t N, int threads,
                                     double seconds);

/// The hidden command: the child's side.
void add_scaling_point(CLI::App& app);

}  // namespace fastmax::app
