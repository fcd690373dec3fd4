// `fastmax data`: the data sets of the tasks: which exist, where they are, how they come there.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "app/commands.h"
#include "app/data_sets.h"
#include "app/error.h"
#include "app/fetch.h"
#include "app/files.h"
#include "app/listops_data.h"
#include "app/listops_task.h"
#include "app/names.h"
#include "app/progress.h"
#include "app/recipe_options.h"
#include "app/table.h"

namespace fastmax::app {
namespace fs = std::filesystem;
namespace {

struct DataOptions {
  std::string task, data_dir, from;
  listops::Options listops = listops::lra();
  bool short_variant = false, json = false, any_hash = false;
};

std::string percent(double share) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.1f %%", 100 * share);
  return buffer;
}

void print(const nlohmann::ordered_json& s) {
  Table table({{"", Align::kLeft}, {"", Align::kLeft}});
  const auto& length = s.at("length");
  table.row({"examples", s.at("examples").dump()});
  table.row({"length min / mean / median / p90 / max",
             text(length.at("min"), " / ", short_number(length.at("mean")), " / ",
                  length.at("median"), " / ", length.at("p90"), " / ", length.at("max"))});
  table.row({"draws for one tree that is kept", short_number(s.at("draws_per_tree"))});
  std::string labels;
  for (const auto& share : s.at("labels")) labels += (labels.empty() ? "" : "  ") + percent(share);
  table.row({"answers 0 .. 9", labels});
  double digits = 0, operators = 0;
  for (const auto& [token, share] : s.at("tokens").items()) {
    if (token == "]") continue;
    (token[0] == '[' ? operators : digits) += share.get<double>();
  }
  table.row(
      {"tokens: a digit, an operator, ]", text(percent(digits / 10), ", ", percent(operators / 4),
                                               ", ", percent(s.at("tokens").at("]")))});
  table.row({"always the commonest answer is right", percent(s.at("majority"))});
  table.row({"knowing only the first operator", percent(s.at("root_operator"))});
  std::cout << table.terminal(colour_wanted(1));
}

nlohmann::ordered_json read_description(const fs::path& folder) {
  const fs::path file = folder / listops::kDescription;
  auto json = nlohmann::ordered_json::parse(read_file(file, "a data set's description"), nullptr,
                                            /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("statistics")) {
    throw UsageError("expected a data set's description, " + file.string() + " is damaged");
  }
  return json;
}

void make(const DataOptions& options) {
  require_name("TASK", task_names(), options.task);
  if (options.task == "textfile") {
    throw UsageError(
        "expected a task with data of its own, textfile learns any file: fastmax train "
        "recipes/textfile.toml --set data.path=FILE");
  }
  if (find_data_set(options.task)) {
    throw UsageError("expected a task whose data is made here, that of " + options.task +
                     " is downloaded: fastmax data fetch " + options.task);
  }
  const fs::path folder =
      listops_folder(data_folder(options.data_dir), options.short_variant ? "short" : "lra");
  if (fs::exists(folder)) {
    if (!listops::made_with(folder, options.listops)) {
      throw UsageError(
          "expected no other data set in " + folder.string() +
          ", it has one made with other options: remove it or choose another --data-dir");
    }
    std::fprintf(stderr, "%s is there already\n", folder.c_str());
  } else {
    const std::int64_t all = options.listops.train + options.listops.val + options.listops.test;
    Progress progress("listops", "trees", all);
    listops::make(options.listops, folder,
                  [&](std::int64_t done, std::int64_t) { progress.update(done, ""); });
  }
  auto description = read_description(folder);
  description["folder"] = folder.string();
  if (options.json) {
    std::cout << description.dump(2) << "\n";
  } else {
    print(description.at("statistics"));
    std::cout << "in " << folder.string() << "\n";
  }
}

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
    std::cout << set->title
              << (source.at("known_copy").get<bool>() ? "" : ", another copy than the known one")
              << ", in " << (place / set->task).string() << "\n";
  }
}

void list(const DataOptions& options) {
  const fs::path place = data_folder(options.data_dir);
  nlohmann::ordered_json sets = nlohmann::ordered_json::array();
  Table table({{"data", Align::kLeft}, {"state", Align::kLeft}, {"comes from", Align::kLeft}});
  for (const std::string variant : {"lra", "short"}) {
    const fs::path folder = listops_folder(place, variant);
    const bool there = fs::exists(folder / listops::kDescription);
    const std::string how =
        std::string("fastmax data make listops") + (variant == "short" ? " --short" : "");
    sets.push_back({{"task", "listops"},
                    {"variant", variant},
                    {"folder", folder.string()},
                    {"there", there},
                    {"from", how}});
    table.row({"listops (" + variant + ")", there ? folder.string() : "not made yet", how});
  }
  for (const DataSet& set : data_sets()) {
    const fs::path folder = place / set.task;
    const bool there = fs::exists(folder / kSourceFile);
    const std::string how = "fastmax data fetch " + set.task;
    sets.push_back(
        {{"task", set.task}, {"folder", folder.string()}, {"there", there}, {"from", how}});
    table.row({set.task, there ? folder.string() : "not fetched yet", how});
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

  CLI::App* making = data->add_subcommand("make", "make a data set with the built-in generator");
  making->add_option("TASK", options->task, "listops")->required();
  auto& o = options->listops;
  making->add_flag(
      "--short", options->short_variant,
      "ListOps of 9 to 64 tokens, learnt in minutes (default: the Arena's, 501 to 1999)");
  const auto count = CLI::Range(std::int64_t{1}, std::int64_t{100'000'000});
  auto* depth = making->add_option("--max-depth", o.max_depth, "a tree's largest depth");
  auto* args = making->add_option("--max-args", o.max_args, "a list's largest number of arguments");
  auto* least = making->add_option("--min-length", o.min_length, "trees are longer than this");
  auto* most = making->add_option("--max-length", o.max_length, "trees are shorter than this");
  auto* train = making->add_option("--train", o.train, "training examples")->check(count);
  auto* val = making->add_option("--val", o.val, "validation examples")->check(count);
  auto* test = making->add_option("--test", o.test, "test examples")->check(count);
  depth->check(CLI::Range(1, 100));
  args->check(CLI::Range(2, 1000));
  least->check(CLI::Range(0, 1 << 24));
  most->check(CLI::Range(2, 1 << 24));
  making->add_option("--seed", o.seed, "another seed, other trees");
  making->callback([=] {
    if (options->short_variant) {  // its values where the command line has none
      const listops::Options s = listops::short_trees();
      auto& mine = options->listops;
      if (!depth->count()) mine.max_depth = s.max_depth;
      if (!args->count()) mine.max_args = s.max_args;
      if (!least->count()) mine.min_length = s.min_length;
      if (!most->count()) mine.max_length = s.max_length;
      if (!train->count()) mine.train = s.train;
      if (!val->count()) mine.val = s.val;
      if (!test->count()) mine.test = s.test;
    }
    make(*options);
  });

  CLI::App* fetching = data->add_subcommand("fetch", "download a data set");
  fetching->add_option("TASK", options->task, "text, retrieval, image, mnist or shakespeare")
      ->required();
  fetching->add_option(
      "--from", options->from,
      "the archive, a folder that has it, or its address (default: its publisher's)");
  fetching->add_flag("--accept-any-hash", options->any_hash,
                     "take an archive that is not the known one");
  fetching->callback([options] { fetch_command(*options); });

  for (CLI::App* command : {listing, making, fetching}) {
    add_data_dir(*command, options->data_dir);
    command->add_flag("--json", options->json, "print one JSON document");
  }
}

}  // namespace fastmax::app
