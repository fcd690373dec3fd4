// Where the time of training steps goes, part by part: `fastmax train --profile`.
//
// torch announces every operator that it runs, forward and backward. The outermost ones count, for
// the part of the model that their name tells, or that a mark around them does; what no operator accounts for is bookkeeping, torch's
// and the program's own. Softmax with dropout of its weights is a chain of ordinary operators in torch:
// backward, they count as projections and adds.
#pragma once
#include <ATen/record_function.h>

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "app/clock.h"
#include "app/table.h"

namespace fastmax::app {

/// What RECORD_FUNCTION calls an attention that is a chain of ordinary operators: they count as attention, forward and backward.
inline constexpr const char* kAttentionMark = "fastmax::chain";

class Profile {
 public:
  Profile() = default;
  Profile(const Profile&) = delete;
  Profile& operator=(const Profile&) = delete;
  ~Profile() { stop(); }

  /// What this thread runs between them is a step, whose batch took `data_seconds` before.
  void begin(double data_seconds);
  void end();

  std::int64_t steps() const { return steps_; }
  /// {"steps", "milliseconds" a step, "parts": {name: share of it}}, the largest share first.
  nlohmann::ordered_json json() const;
  Table table() const;

 private:
  void stop();
  std::vector<std::pair<std::string, double>> parts() const;  // their seconds, over all steps

  at::CallbackHandle handle_ = at::INVALID_CALLBACK_HANDLE;
  Clock::time_point began_;
  std::map<std::string, double> operators_;  // seconds, by name
  std::int64_t steps_ = 0;
  double seconds_ = 0, data_seconds_ = 0;
};

}  // namespace fastmax::app
