#include "app/recall.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "app/error.h"
#include "app/task.h"

namespace fastmax::app::recall {
namespace {

bool is_mqar(const Options& options) { return options.task == "mqar"; }

std::int64_t draw(Random& random, std::int64_t n) {
  return static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(n)));
}

Sequence mqar(const Options& options, Random& random) {
  const std::int64_t P = options.pairs, K = options.keys;
  std::vector<std::int64_t> keys(K), values(P);
  std::iota(keys.begin(), keys.end(), 0);
  Sequence s;
  for (std::int64_t i = 0; i < P; ++i) {  // the first P places of a shuffle
    std::swap(keys[i], keys[i + draw(random, K - i)]);
    values[i] = K + draw(random, kValues);
    s.tokens.insert(s.tokens.end(), {keys[i], values[i]});
  }
  s.targets.assign(2 * P, kNotAsked);
  while (static_cast<std::int64_t>(s.tokens.size()) < options.length) {
    const std::int64_t i = draw(random, P);
    s.tokens.push_back(keys[i]);
    s.targets.push_back(values[i]);
  }
  return s;
}

Sequence needle(const Options& options, Random& random) {
  Sequence s;
  s.tokens.resize(options.length);
  s.targets.assign(options.length, kNotAsked);
  for (std::int64_t& token : s.tokens) token = draw(random, kWords);
  const std::int64_t mark = draw(random, options.length - 2);
  s.tokens[mark] = kMark;
  s.tokens.back() = kAsk;
  s.targets.back() = s.tokens[mark + 1];
  return s;
}

// How often, at the best, a guess from what the sequence has is right: mqar's values are all that it has, so one of them; of
// the haystack's words the commonest.
double informed(const Options& options, const Sequence& s, std::int64_t target) {
  if (is_mqar(options)) {
    std::int64_t same = 0;
    for (std::int64_t i = 1; i < 2 * options.pairs; i += 2) same += s.tokens[i] == target;
    return static_cast<double>(same) / static_cast<double>(options.pairs);
  }
  std::array<std::int64_t, kWords + 2> counts{};
  for (const std::int64_t token : s.tokens) ++counts[token];
  return std::max_element(counts.begin(), counts.end()) - counts.begin() == target;
}

}  // namespace

Options with_defaults(Options options) {
  if (options.length == 0) options.length = is_mqar(options) ? 64 : 256;
  if (is_mqar(options) && options.pairs == 0) options.pairs = 8;
  if (is_mqar(options) && options.keys == 0) options.keys = 128;
  return options;
}

std::optional<std::pair<std::string, std::string>> contradiction(const Options& o) {
  if (!is_mqar(o)) {
    if (o.length < 3) {
      return {
          {"length", text("expected at least 3, a mark, a word and the question, got ", o.length)}};
    }
    return std::nullopt;
  }
  if (o.keys < o.pairs) {
    return {{"keys", text("expected at least as many as pairs = ", o.pairs, ", got ", o.keys)}};
  }
  if (o.length <= 2 * o.pairs) {
    return {{"length",
             text("expected more than the ", 2 * o.pairs, " tokens of the pairs, got ", o.length)}};
  }
  return std::nullopt;
}

std::int64_t vocabulary(const Options& options) {
  return is_mqar(options) ? options.keys + kValues : kWords + 2;
}

Sequence generate(const Options& options, Random random) {
  return is_mqar(options) ? mqar(options, random) : needle(options, random);
}

std::vector<std::pair<std::string, double>> baselines(const Options& options,
                                                      const std::vector<Sequence>& sequences) {
  double right = 0, asked = 0;
  for (const Sequence& s : sequences) {
    for (const std::int64_t target : s.targets) {
      if (target == kNotAsked) continue;
      right += informed(options, s, target);
      ++asked;
    }
  }
  if (is_mqar(options)) {
    return {{"any value", 1.0 / kValues}, {"any value of the sequence", right / asked}};
  }
  return {{"any word", 1.0 / kWords}, {"the commonest word of the haystack", right / asked}};
}

}  // namespace fastmax::app::recall
