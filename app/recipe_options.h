// The options that every command with a recipe shares.
#pragma once
#include <string>
#include <vector>

#include "app/recipe.h"

namespace CLI {
class App;
}

namespace fastmax::app {

struct RecipeOptions {
  std::vector<std::string> positional;  ///< RECIPE.toml, and key.path=value for who forgets --set
  std::vector<std::string> settings;
  std::string data_dir;
  int threads = 0;

  void add_to(CLI::App& command);
  Recipe read() const;
};

/// --data-dir, whose meaning data_folder() explains.
void add_data_dir(CLI::App& command, std::string& data_dir);

}  // namespace fastmax::app
