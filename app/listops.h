// ListOps: nested operations on lists of digits; the answer is one digit. The Long Range Arena's task.
//
//   [MAX 4 3 [MIN 2 3 ] 1 0 [MED 1 5 8 9 2 ] ]  ->  5
//
// A tree grows from depth 1: a node is a digit with probability 3/4, and always at max_depth; else
// an operator of {MIN, MAX, MED, SM} with 2 .. max_args children. It is kept when min_length <
// length < max_length, counting tokens without parentheses, and when it is new. MED is the floor of
// the median, SM the sum modulo 10.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "app/random.h"

namespace fastmax::app::listops {

/// Token ids: 0 pads; 1 .. 10 the digits 0 .. 9; 11 .. 14 the operators; 15 the closing bracket.
inline constexpr int kMin = 11, kMax = 12, kMed = 13, kSum = 14, kEnd = 15, kVocabulary = 16;
inline constexpr int kClasses = 10;

struct Options {
  int max_depth = 10, max_args = 10;
  int min_length = 500, max_length = 2000;  ///< both exclusive
  std::int64_t train = 96000, val = 2000, test = 2000;
  std::uint64_t seed = 0;
};
/// The Long Range Arena's, or trees of 9 to 64 tokens that a small model learns in minutes.
Options lra();
Options short_trees();

/// The value of an expression; -1 when it is not one.
int evaluate(std::span<const std::uint8_t> tokens);

/// "[MAX 4 3 [MIN 2 3 ] ]".
std::string readable(std::span<const std::uint8_t> tokens);
/// The Arena's text, a list folded to the left: "( ( ( ( [MIN 2 ) 3 ) ] )" for [MIN 2 3 ].
std::string to_text(std::span<const std::uint8_t> tokens);
/// The inverse; parentheses are dropped. Throws std::invalid_argument saying what is wrong.
std::vector<std::uint8_t> from_text(std::string_view text);

/// A stream of trees that pass, all different: the same for the same options.
class Generator {
 public:
  explicit Generator(const Options& options);
  /// The next tree's tokens, valid until the next call. Throws UsageError when there are no more.
  std::span<const std::uint8_t> next();
  std::int64_t draws() const { return draws_; }

 private:
  void grow(int depth);

  Options options_;
  Random random_;
  std::vector<std::uint8_t> tokens_;
  std::unordered_set<std::uint64_t> seen_;  ///< hashes of the trees given out
  std::int64_t draws_ = 0;
};

}  // namespace fastmax::app::listops
