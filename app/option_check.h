// What an option of the command line must be.
#pragma once
#include <CLI/CLI.hpp>
#include <string>

#include "app/error.h"
#include "app/recipe_text.h"

namespace fastmax::app {

/// A number from `low` to `high`, which NaN is not, though CLI::Range takes it.
inline CLI::Validator between(double low, double high) {
  const std::string range = text("a number from ", low, " to ", high);
  const auto complaint = [=](const std::string& given) {
    const auto x = as_number(given);
    return x && *x >= low && *x <= high ? "" : text("expected ", range, ", got '", given, "'");
  };
  return {complaint, range};
}

}  // namespace fastmax::app
