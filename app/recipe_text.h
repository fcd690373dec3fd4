// Numbers and words as a recipe has them.
#pragma once
#include <cstddef>
#include <optional>
#include <string>

namespace fastmax::app {

/// The shortest decimal that reads back to the same double.
std::string number(double x);

/// The number that the whole text is, if it is one.
std::optional<double> as_number(const std::string& text);

/// A TOML basic string; toml++ itself would choose the rarer single quotes.
std::string quoted(const std::string& value);

/// Levenshtein distance, for "did you mean".
std::size_t edit_distance(const std::string& a, const std::string& b);

}  // namespace fastmax::app
