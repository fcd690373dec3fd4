// `fastmax train`: one run, from a recipe to a run directory.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "app/commands.h"
#include "app/model.h"
#include "app/recipe_options.h"
#include "app/run_dir.h"
#include "app/table.h"
#include "app/train.h"

namespace fastmax::app {
namespace {

struct TrainOptions {
  RecipeOptions recipe;
  std::string out;
  bool resume = false, json = false, profile = false;
};

void print(const nlohmann::ordered_json& result, const std::string& folder) {
  const auto& test = result.at("test");
  Table table({{"", Align::kLeft}, {"", Align::kLeft}});
  if (test.contains("bits_per_byte")) {
    table.row({"test loss", short_number(test.at("loss"))});
    table.row({"bits per byte", short_number(test.at("bits_per_byte"))});
  }
  table.row({"test accuracy", percent(test.at("accuracy"))});
  table.row({"steps per second", short_number(result.at("steps_per_second"))});
  table.row({"peak memory", short_bytes(result.at("peak_memory_bytes"))});
  table.row({"parameters", std::to_string(result.at("parameters").get<std::int64_t>())});
  if (result.contains("data")) table.row({"data", result.at("data")});
  table.row({"written to", folder});
  std::cout << table.terminal(colour_wanted(1));
}

void run(const TrainOptions& options) {
  const Recipe recipe = options.recipe.read();
  const std::string folder = options.out.empty()
                                 ? "runs/" + recipe.task + "-" + recipe.model.attention + "-seed" +
                                       std::to_string(recipe.seed)
                                 : options.out;
  Profile profile;
  auto result = train(recipe, folder, options.resume, recipe.model.attention,
                      options.profile ? &profile : nullptr);
  const bool profiled = profile.steps() > 0;  // none of a run that was finished before
  if (options.json) {
    if (profiled) result["profile"] = profile.json();
    std::cout << result.dump(2) << "\n";
  } else {
    print(result, folder);
    if (profiled) std::cout << "\n" << profile.table().terminal(colour_wanted(1));
  }
}

}  // namespace

void add_train(CLI::App& app) {
  auto options = std::make_shared<TrainOptions>();
  CLI::App* command = app.add_subcommand("train", "train a model as a recipe says");
  options->recipe.add_to(*command);
  command
      ->add_option("--out", options->out,
                   "the run directory (default: runs/TASK-ATTENTION-seedSEED)")
      ->type_name("DIR");
  command->add_flag("--resume", options->resume, "go on with the run that is there");
  command->add_flag("--profile", options->profile, "print what the time of a step is spent on");
  command->add_flag("--json", options->json, "print the result as JSON");
  command->callback([options] { run(*options); });
}

}  // namespace fastmax::app
