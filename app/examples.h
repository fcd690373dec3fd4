// Labelled token sequences in memory, a byte a token.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace fastmax::app {

/// Token sequences, one after the other, with their answers.
struct Examples {
  std::vector<std::uint8_t> tokens;
  std::vector<std::int64_t> starts{0};  ///< example i: tokens[starts[i]] .. tokens[starts[i + 1]]
  std::vector<std::uint8_t> labels;

  std::int64_t size() const { return static_cast<std::int64_t>(labels.size()); }
  std::span<const std::uint8_t> operator[](std::int64_t i) const {
    return {tokens.data() + starts[i], tokens.data() + starts[i + 1]};
  }
  void add(std::span<const std::uint8_t> sequence, int label);
};

/// The three parts of a data set.
struct Parts {
  Examples train, val, test;
};

}  // namespace fastmax::app
