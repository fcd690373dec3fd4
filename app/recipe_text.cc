#include "app/recipe_text.h"

#include <toml++/toml.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <sstream>
#include <vector>

#include "app/error.h"

namespace fastmax::app {

std::string number(double x) {
  std::ostringstream out;
  out.precision(std::numeric_limits<double>::max_digits10);
  if (x == std::floor(x) && std::abs(x) < 0x1p53) {
    out << static_cast<std::int64_t>(x);
  } else {
    // The shortest of the decimals that read back to the same double.
    for (int digits = 1; digits <= std::numeric_limits<double>::max_digits10; ++digits) {
      std::ostringstream shorter;
      shorter.precision(digits);
      shorter << x;
      // Not std::stod, which throws for what is not a normal number.
      if (std::strtod(shorter.str().c_str(), nullptr) == x) return shorter.str();
    }
    out << x;
  }
  return out.str();
}

std::string quoted(const std::string& value) {
  const bool plain = std::none_of(value.begin(), value.end(), [](char c) {
    return c == '"' || c == '\\' || static_cast<unsigned char>(c) < ' ';
  });
  return plain ? '"' + value + '"' : text(toml::value<std::string>(value));
}

std::optional<double> as_number(const std::string& text) {
  char* end = nullptr;
  const double x = std::strtod(text.c_str(), &end);
  if (text.empty() || end != text.c_str() + text.size()) return std::nullopt;
  return x;
}

std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replace = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({replace, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

}  // namespace fastmax::app
