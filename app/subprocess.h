// Running another program and reading what it prints.
#pragma once
#include <string>
#include <vector>

namespace fastmax::app {

struct Finished {
  int exit_code = 0;   ///< 128 + signal when a signal ended it, as shells have it
  std::string output;  ///< of stdout
};

/// Runs argv[0], looked up in PATH, to its end. With `errors` its stderr joins `output`; without,
/// it goes where ours goes. Throws WorkError when it cannot be started.
Finished run_program(const std::vector<std::string>& argv, bool errors);

/// The first executable `name` in PATH, or "".
std::string find_program(const std::string& name);

/// The program that is running, for starting itself again.
std::string own_path();

/// A word as a shell command has it: in quotes where it needs them.
std::string shell_word(const std::string& word);

}  // namespace fastmax::app
