// Progress of long work on stderr: a bar with rate and remaining time on a terminal, a plain line
// now and then elsewhere.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>

namespace fastmax::app {

class Progress {
 public:
  /// `unit` names what is counted: "steps". Work may go on from `done`.
  Progress(std::string label, std::string unit, std::int64_t total, std::int64_t done = 0);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();

  /// `note` goes beside the bar: "loss 1.63". Cheap enough for every step. With `important` a plain
  /// line appears even if one came a moment ago.
  void update(std::int64_t done, const std::string& note, bool important = false);

 private:
  using Clock = std::chrono::steady_clock;
  void draw(std::int64_t done, const std::string& note, double rate);

  std::string label_, unit_;
  std::int64_t total_, start_;
  bool terminal_, drawn_ = false;
  Clock::time_point began_, last_;
};

}  // namespace fastmax::app
