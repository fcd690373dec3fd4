// mqar and needle as tasks of a causal model; recall_data.h says which sequences it sees.
#pragma once
#include <memory>

#include "app/recall.h"
#include "app/task.h"

namespace fastmax::app {

/// mqar and needle.
bool is_recall(const std::string& task);

recall::Options recall_options(const Recipe& recipe);

/// Tokens of a sequence of training step `step`: data.length_from in the first half of the steps, then, in stages of even
/// numbers of steps, twice as many each time up to data.length.
std::int64_t training_length(const Recipe& recipe, std::int64_t step);

std::unique_ptr<Task> load_recall(const Recipe& recipe);

}  // namespace fastmax::app
