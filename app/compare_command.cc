// `fastmax compare`: one recipe, several kinds of attention, one table.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "app/commands.h"
#include "app/compare.h"
#include "app/error.h"
#include "app/names.h"
#include "app/recipe_options.h"

namespace fastmax::app {
namespace {

struct CompareOptions {
  RecipeOptions recipe;
  std::vector<std::string> attention;
  std::vector<std::int64_t> seeds;
  std::string out;
  bool json = false;
};

template <class T>
void refuse_repeats(std::vector<T> items, const std::string& option) {
  std::sort(items.begin(), items.end());
  const auto twice = std::adjacent_find(items.begin(), items.end());
  if (twice != items.end()) {
    throw UsageError(text(option, ": expected different ones, got ", *twice, " twice"));
  }
}

void run(const CompareOptions& options) {
  for (const std::string& name : options.attention) {
    require_name("--attention", trainable_attention_names(), name);
  }
  refuse_repeats(options.attention, "--attention");
  refuse_repeats(options.seeds, "--seeds");
  const Recipe recipe = options.recipe.read();
  const std::string out = options.out.empty() ? "runs/compare-" + recipe.task : options.out;
  const auto seeds = options.seeds.empty() ? std::vector<std::int64_t>{recipe.seed} : options.seeds;
  const auto comparison = compare(recipe, options.attention, seeds, out);
  if (options.json) {
    std::cout << comparison.dump(2) << "\n";
  } else {
    std::cout << comparison_table(comparison).terminal(colour_wanted(1)) << "\nwritten to " << out
              << ": table.md, table.json, loss.svg, and a folder a run\n";
  }
}

}  // namespace

void add_compare(CLI::App& app) {
  auto options = std::make_shared<CompareOptions>();
  CLI::App* command =
      app.add_subcommand("compare", "train one recipe with several kinds of attention");
  options->recipe.add_to(*command);
  command->add_option("--attention", options->attention, "softmax,fastmax2,fastmax1")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->required();
  command->add_option("--seeds", options->seeds, "1,2,3 (default: the recipe's)")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(std::int64_t{0}, kLargestSeed));
  command->add_option("--out", options->out, "where to (default: runs/compare-TASK)")
      ->type_name("DIR");
  command->add_flag("--json", options->json, "print table.json");
  command->callback([options] { run(*options); });
}

}  // namespace fastmax::app
