// Two tasks of looking something up, made by generators: they tell attention that finds from attention that averages.
//
//   mqar    multi-query associative recall (Arora et al. 2023): P pairs of a key and its value, then keys only, and at each of
//           those places the value of its key is asked for.
//             k1 v1 k2 v2 .. kP vP | q q q q ..    q is one of k1 .. kP, again and again
//   needle  one fact in a long haystack of words: the word behind the one mark, asked for at the end.
//             w w w w mark w w w .. w ask
//
// Words of the haystack and the answer are of one kind, and each value of a sequence may be an answer, so that a mean over the
// sequence says little.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "app/random.h"

namespace fastmax::app::recall {

inline constexpr std::int64_t kValues =
    128;  ///< of mqar: tokens K .. K + 127; its keys are 0 .. K - 1
inline constexpr std::int64_t kWords = 16;  ///< of needle: tokens 0 .. 15
inline constexpr std::int64_t kMark = kWords, kAsk = kWords + 1;

struct Options {
  std::string task;         ///< "mqar" or "needle"
  std::int64_t length = 0;  ///< tokens of a sequence
  std::int64_t pairs = 0;   ///< mqar's: P, at most keys and less than length / 2
  std::int64_t keys = 0;    ///< mqar's: K different keys
};

/// The length and, of mqar, pairs and keys where nobody says them.
Options with_defaults(Options options);
/// What does not go together: an option's name and "expected .., got ..".
std::optional<std::pair<std::string, std::string>> contradiction(const Options& options);

/// Token ids are 0 .. vocabulary - 1.
std::int64_t vocabulary(const Options& options);

struct Sequence {
  std::vector<std::int64_t> tokens;   ///< [length]
  std::vector<std::int64_t> targets;  ///< [length]: the token asked for, kNotAsked elsewhere
};

/// A pure function of options and the random stream.
Sequence generate(const Options& options, Random random);

/// What guessing gets on these sequences: any value or word, and one of those that the sequence has.
std::vector<std::pair<std::string, double>> baselines(const Options& options,
                                                      const std::vector<Sequence>& sequences);

}  // namespace fastmax::app::recall
