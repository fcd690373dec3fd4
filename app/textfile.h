// Any file as a language task: predict the next byte. The vocabulary is all 256 bytes, so every
// file and every prompt has one and bits per byte compare across files.
//
// The first 90 % are for training, the last 10 % for validation. A file has no third part: `test`
// is the validation part again, always whole. `shakespeare` is this task with a file that is fetched.
#pragma once
#include <memory>

#include "app/task.h"

namespace fastmax::app {

std::unique_ptr<Task> load_textfile(const Recipe& recipe);

}  // namespace fastmax::app
