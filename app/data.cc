// `fastmax data`: the data sets of the tasks: which exist, where they are, how they come there.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "app/commands.h"
#include "app/data_make.h"
#include "app/data_sets.h"
#include "app/error.h"
#include "app/fetch.h"
#include "app/files.h"
#include "app/made_set.h"
#include "app/names.h"
#include "app/recipe_options.h"
#include "app/table.h"
#include "app/variants.h"

namespace fastmax::app {
namespace fs = std::filesystem;
namespace {

struct DataOptions {
  std::string task, data_dir, from;
  bool json = false, any_hash = false;
};

void fetch_command(const DataOptions& options) {
  require_name("TASK", task_names(), options.task);
  if (options.task == "textfile") {
    throw UsageError(
        "expected a task whose data is downloaded, textfile learns any file you have: "
        "there is nothing to fetch");
  }
  const DataSet* set = find_data_set(options.task);
  if (!set) {
    throw UsageError("expected a task whose data is downloaded, " + options.task +
                     " is made here by `fastmax data make " + options.task +
                     "`: there is nothing to fetch");
  }
  const fs::path place = data_folder(options.data_dir);
  auto source = fetch(*set, place, {.from = options.from, .any_hash = options.any_hash});
  source["folder"] = (place / set->task).string();
  if (options.json) {
    std::cout << source.dump(2) << "\n";
  } else {
    std::cout << source.at("data").get<std::string>()
              << (source.at("known_copy").get<bool>() ? "" : ", another copy than the known one")
              << ", in " << (place / set->task).string() << "\n";
  }
}

void list(const DataOptions& options) {
  const fs::path place = data_folder(options.data_dir);
  nlohmann::ordered_json sets = nlohmann::ordered_json::array();
  Table table({{"data", Align::kLeft}, {"state", Align::kLeft}, {"comes from", Align::kLeft}});
  for (const std::string task : {"listops", "pathfinder"}) {
    for (const std::string& variant : variants_of(task)) {
      const fs::path folder = variant_folder(place, task, variant);
      const bool there = fs::exists(folder / kDescription);
      const std::string how = making_command(task, variant);
      sets.push_back({{"task", task},
                      {"variant", variant},
                      {"folder", folder.string()},
                      {"there", there},
                      {"from", how}});
      table.row({task + " (" + variant + ")", there ? folder.string() : "not made yet", how});
    }
  }
  for (const DataSet& set : data_sets()) {
    const fs::path folder = place / set.task;
    const bool there = fs::exists(folder / kSourceFile);
    const std::string how = "fastmax data fetch " + set.task;
    sets.push_back(
        {{"task", set.task}, {"folder", folder.string()}, {"there", there}, {"from", how}});
    table.row({set.task, there ? folder.string() : "not fetched yet", how});
  }
  for (const std::string task : {"mqar", "needle"}) {
    const fs::path folder = place / task;
    const bool there = fs::exists(folder / kDescription);
    const std::string how = "fastmax data make " + task;
    sets.push_back({{"task", task}, {"folder", folder.string()}, {"there", there}, {"from", how}});
    table.row({task, there ? folder.string() : "made while it trains", how});
  }
  sets.push_back({{"task", "textfile"}, {"there", true}, {"from", "--set data.path=FILE"}});
  table.row({"textfile", "any file", "--set data.path=FILE"});
  if (options.json) {
    std::cout << nlohmann::ordered_json{{"data_dir", place.string()}, {"sets", sets}}.dump(2)
              << "\n";
  } else {
    std::cout << table.terminal(colour_wanted(1));
  }
}

}  // namespace

void add_data(CLI::App& app) {
  auto options = std::make_shared<DataOptions>();
  CLI::App* data = app.add_subcommand("data", "list, make or fetch data sets");
  data->require_subcommand(1);

  CLI::App* listing = data->add_subcommand("list", "what exists and what is there");
  listing->callback([options] { list(*options); });

  add_data_make(*data);

  CLI::App* fetching = data->add_subcommand("fetch", "download a data set");
  fetching->add_option("TASK", options->task, "text, retrieval, image, mnist or shakespeare")
      ->required();
  fetching->add_option(
      "--from", options->from,
      "the archive, a folder that has it, or its address (default: its publisher's)");
  fetching->add_flag("--accept-any-hash", options->any_hash,
                     "take an archive that is not the known one");
  fetching->callback([options] { fetch_command(*options); });

  for (CLI::App* command : {listing, fetching}) {
    add_data_dir(*command, options->data_dir);
    command->add_flag("--json", options->json, "print one JSON document");
  }
}

}  // namespace fastmax::app
