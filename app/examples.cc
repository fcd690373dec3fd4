#include "app/examples.h"

namespace fastmax::app {

void Examples::add(std::span<const std::uint8_t> sequence, int label) {
  tokens.insert(tokens.end(), sequence.begin(), sequence.end());
  starts.push_back(static_cast<std::int64_t>(tokens.size()));
  labels.push_back(static_cast<std::uint8_t>(label));
}

}  // namespace fastmax::app
