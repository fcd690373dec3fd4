// The two ways a command fails. main.cc turns them into one line on stderr and an exit code; the
// core's fastmax::Error counts as wrong usage too.
#pragma once
#include <sstream>
#include <stdexcept>
#include <string>

namespace fastmax::app {

/// Wrong usage or input: the text says what was expected and what was given. Exit code 2.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The work itself failed: no space left, a program that is missing, a file that vanished. Exit code 1.
struct WorkError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A command that stopped early on request, after leaving everything resumable. Not an error: the
/// text says how to go on. Exit code 128 + signal.
struct Interrupted : std::runtime_error {
  Interrupted(int signal, const std::string& text) : std::runtime_error(text), signal(signal) {}
  int signal;
};

/// The parts, written one after the other.
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace fastmax::app
