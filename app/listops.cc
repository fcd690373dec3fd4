#include "app/listops.h"

#include <algorithm>
#include <array>
#include <stdexcept>

#include "app/error.h"

namespace fastmax::app::listops {
namespace {

constexpr std::array<std::string_view, kVocabulary> kSpelling = {
    "", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "[MIN", "[MAX", "[MED", "[SM", "]"};

constexpr double kNode = 0.25;  // probability that a tree grows a list
// So many draws in a row without a new tree mean that there are none left.
constexpr std::int64_t kPatience = 10'000'000;

bool is_digit(std::uint8_t token) { return token >= 1 && token <= 10; }
bool is_operator(std::uint8_t token) { return token >= kMin && token <= kSum; }

int apply(int operation, std::span<int> arguments) {
  switch (operation) {
    case kMin:
      return *std::min_element(arguments.begin(), arguments.end());
    case kMax:
      return *std::max_element(arguments.begin(), arguments.end());
    case kMed: {
      std::sort(arguments.begin(), arguments.end());
      const std::size_t half = arguments.size() / 2;
      return arguments.size() % 2 ? arguments[half] : (arguments[half - 1] + arguments[half]) / 2;
    }
    default: {
      int sum = 0;
      for (const int x : arguments) sum += x;
      return sum % 10;
    }
  }
}

std::uint64_t hash(std::span<const std::uint8_t> tokens) {  // FNV-1a
  std::uint64_t h = 0xcbf29ce484222325;
  for (const std::uint8_t token : tokens) h = (h ^ token) * 0x100000001b3;
  return h;
}

// One tree from tokens[at] on, folded to the left; returns where it ends.
std::size_t fold(std::span<const std::uint8_t> tokens, std::size_t at, std::string& out) {
  if (!is_operator(tokens[at])) {
    out += kSpelling[tokens[at]];
    return at + 1;
  }
  const std::size_t begin = out.size();
  out += kSpelling[tokens[at++]];
  std::size_t open = 1;
  for (; tokens[at] != kEnd; ++open) {
    out += ' ';
    at = fold(tokens, at, out);
    out += " )";
  }
  out += " ] )";
  std::string parentheses;
  for (std::size_t i = 0; i < open; ++i) parentheses += "( ";
  out.insert(begin, parentheses);
  return at + 1;
}

}  // namespace

Options lra() { return {}; }

Options short_trees() {
  return {.max_depth = 6,
          .max_args = 5,
          .min_length = 8,
          .max_length = 65,
          .train = 50000,
          .val = 2000,
          .test = 2000};
}

int evaluate(std::span<const std::uint8_t> tokens) {
  struct Open {
    int operation;
    std::size_t first;  // where its arguments begin in `values`
  };
  std::vector<Open> open;
  std::vector<int> values;
  for (const std::uint8_t token : tokens) {
    if (open.empty() && !values.empty()) return -1;  // something after the end
    if (is_digit(token)) {
      values.push_back(token - 1);
    } else if (is_operator(token)) {
      open.push_back({token, values.size()});
    } else {
      if (token != kEnd || open.empty() || values.size() == open.back().first) return -1;
      const Open list = open.back();
      open.pop_back();
      const int value = apply(list.operation, std::span(values).subspan(list.first));
      values.resize(list.first);
      values.push_back(value);
    }
  }
  return open.empty() && values.size() == 1 ? values[0] : -1;
}

std::string readable(std::span<const std::uint8_t> tokens) {
  std::string out;
  for (const std::uint8_t token : tokens) (out += out.empty() ? "" : " ") += kSpelling[token];
  return out;
}

std::string to_text(std::span<const std::uint8_t> tokens) {
  std::string out;
  fold(tokens, 0, out);
  return out;
}

std::vector<std::uint8_t> from_text(std::string_view text) {
  std::vector<std::uint8_t> tokens;
  while (!text.empty()) {
    const std::size_t space = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, space);
    text.remove_prefix(std::min(space + 1, text.size()));
    if (word.empty() || word == "(" || word == ")") continue;
    const auto found = std::find(kSpelling.begin(), kSpelling.end(), word);
    if (found == kSpelling.end()) {
      throw std::invalid_argument("expected a digit, [MIN, [MAX, [MED, [SM or ], got \"" +
                                  std::string(word.substr(0, 20)) + "\"");
    }
    tokens.push_back(static_cast<std::uint8_t>(found - kSpelling.begin()));
  }
  return tokens;
}

Generator::Generator(const Options& options)
    : options_(options), random_(options.seed, /*stream=*/0x6c6973746f7073) {
  if (options.min_length + 1 >= options.max_length) {
    throw UsageError(text("expected that a length exists between min_length = ", options.min_length,
                          " and max_length = ", options.max_length, ", both exclusive"));
  }
}

void Generator::grow(int depth) {
  // A tree that is already too long will be refused: do not finish it.
  if (static_cast<int>(tokens_.size()) >= options_.max_length) return;
  if (depth >= options_.max_depth || random_.uniform() >= kNode) {
    tokens_.push_back(static_cast<std::uint8_t>(1 + random_.below(10)));
    return;
  }
  const std::uint64_t children =
      2 + random_.below(static_cast<std::uint64_t>(options_.max_args) - 1);
  tokens_.push_back(static_cast<std::uint8_t>(kMin + random_.below(4)));
  for (std::uint64_t i = 0; i < children; ++i) grow(depth + 1);
  tokens_.push_back(kEnd);
}

std::span<const std::uint8_t> Generator::next() {
  for (std::int64_t tries = 0; tries < kPatience; ++tries) {
    tokens_.clear();
    grow(1);
    ++draws_;
    const int length = static_cast<int>(tokens_.size());
    if (length > options_.min_length && length < options_.max_length &&
        seen_.insert(hash(tokens_)).second) {
      return tokens_;
    }
  }
  throw UsageError(text("expected that enough different trees exist with max_depth ",
                        options_.max_depth, ", max_args ", options_.max_args, " and ",
                        options_.min_length, " < length < ", options_.max_length, ", found only ",
                        seen_.size()));
}

}  // namespace fastmax::app::listops
