#include "app/recipe_options.h"

#include <CLI/CLI.hpp>

#include "app/error.h"
#include "app/files.h"
#include "app/recall_task.h"
#include "app/task.h"

namespace fastmax::app {

void RecipeOptions::add_to(CLI::App& command) {
  command.add_option("RECIPE", positional, "the recipe, for example recipes/listops_short.toml")
      ->required();
  command.add_option("--set", settings, "change one key of the recipe: --set train.steps=200")
      ->allow_extra_args(false)
      ->type_name("KEY=VALUE");
  command.add_option("--threads", threads, "cores to use (default: the recipe's, else all)")
      ->check(CLI::Range(1, 4096));
  add_data_dir(command, data_dir);
}

Recipe RecipeOptions::read() const {
  std::string file;
  std::vector<std::string> all = settings;
  for (const std::string& argument : positional) {
    if (argument.find('=') != std::string::npos && !std::filesystem::exists(argument)) {
      all.push_back(argument);
    } else if (file.empty()) {
      file = argument;
    } else {
      throw UsageError("expected one recipe, got " + file + " and " + argument);
    }
  }
  if (file.empty()) throw UsageError("expected a recipe, got only settings");
  Recipe recipe = read_recipe(file, all);
  if (threads > 0) recipe.train.threads = threads;
  // Asked for by name, the place belongs into the recipe: the run finds its data again.
  const bool has_place = recipe.task != "textfile" && !is_recall(recipe.task);
  if (!data_dir.empty() && has_place && recipe.data.path.empty()) {
    recipe.data.path =
        std::filesystem::absolute(task_folder(data_folder(data_dir), recipe)).string();
  }
  return recipe;
}

void add_data_dir(CLI::App& command, std::string& data_dir) {
  command
      .add_option("--data-dir", data_dir,
                  "where data sets are kept (default: $FASTMAX_DATA, else ~/.cache/fastmax)")
      ->type_name("DIR");
}

}  // namespace fastmax::app
