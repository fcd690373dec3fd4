#include "app/recipe_difference.h"

#include <sstream>

namespace fastmax::app {

std::vector<Difference> differences(const Recipe& there, const Recipe& here) {
  std::istringstream a(write_recipe(there)), b(write_recipe(here));
  std::vector<Difference> found;
  std::string group;
  for (std::string x, y; std::getline(a, x) && std::getline(b, y);) {
    if (x.rfind('[', 0) == 0) group = x.substr(1, x.size() - 2) + ".";
    if (x == y) continue;
    const auto value = [](const std::string& line) { return line.substr(line.find(" = ") + 3); };
    found.push_back({group + x.substr(0, x.find(" = ")), value(x), value(y)});
  }
  return found;
}

}  // namespace fastmax::app
