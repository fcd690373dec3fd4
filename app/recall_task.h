// mqar and needle as tasks of a causal model; recall_data.h says which sequences it sees.
#pragma once
#include <memory>

#include "app/recall.h"
#include "app/task.h"

namespace fastmax::app {

/// mqar and needle.
bool is_recall(const std::string& task);

recall::Options recall_options(const Recipe& recipe);

/// Tokens of a sequence of training step `step`: data.length_from first, twice as many after each of even intervals, up to
/// data.length.
std::int64_t training_length(const Recipe& recipe, std::int64_t step);

std::unique_ptr<Task> load_recall(const Recipe& recipe);

}  // namespace fastmax::app
