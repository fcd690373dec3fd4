#include "app/data_make.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "app/data_sets.h"
#include "app/error.h"
#include "app/files.h"
#include "app/listops_data.h"
#include "app/names.h"
#include "app/pathfinder_data.h"
#include "app/progress.h"
#include "app/recall_data.h"
#include "app/recall_task.h"
#include "app/recipe_options.h"
#include "app/signals.h"
#include "app/table.h"
#include "app/variants.h"

namespace fastmax::app {
namespace fs = std::filesystem;
namespace {

struct MakeOptions {
  std::string task, data_dir;
  bool short_variant = false, inter = false, easy = false, json = false;
  // What the command line leaves at -1 takes the task's own value.
  int max_depth = -1, max_args = -1, min_length = -1, max_length = -1;
  std::int64_t length = 0, pairs = 0, keys = 0;
  std::int64_t train = -1, val = -1, test = -1, pictures = pathfinder::kArenasPictures;
  std::uint64_t seed = 0;
};

template <class T, class U>
void take(T& value, U asked) {
  if (asked >= 0) value = static_cast<T>(asked);
}

// Shows how far it is, and stops on request.
std::function<void(std::int64_t)> watched(Progress& progress) {
  return [&progress](std::int64_t done) {
    progress.update(done, "");
    StopRequest::stop_if_pending("stopped, nothing is left of what was made");
  };
}

void print_listops(const nlohmann::ordered_json& s) {
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

nlohmann::ordered_json make_listops(const MakeOptions& options) {
  listops::Options mine = options.short_variant ? listops::short_trees() : listops::lra();
  take(mine.max_depth, options.max_depth);
  take(mine.max_args, options.max_args);
  take(mine.min_length, options.min_length);
  take(mine.max_length, options.max_length);
  take(mine.train, options.train);
  take(mine.val, options.val);
  take(mine.test, options.test);
  mine.seed = options.seed;
  const fs::path folder = variant_folder(data_folder(options.data_dir), "listops",
                                         options.short_variant ? "short" : "lra");
  Progress progress("listops", "trees", mine.train + mine.val + mine.test);
  auto description = listops::make(mine, folder, watched(progress));
  description["folder"] = folder.string();
  return description;
}

nlohmann::ordered_json make_recall(const MakeOptions& options) {
  const recall::Options mine = recall::with_defaults({.task = options.task,
                                                      .length = options.length,
                                                      .pairs = options.pairs,
                                                      .keys = options.keys});
  if (const auto found = recall::contradiction(mine)) {
    throw UsageError(text("--", found->first, ": ", found->second));
  }
  recall::Counts counts{10'000, recall::evaluation_count(mine), recall::evaluation_count(mine)};
  take(counts.train, options.train);
  take(counts.val, options.val);
  take(counts.test, options.test);
  const fs::path folder = data_folder(options.data_dir) / options.task;
  Progress progress(options.task, "sequences", counts.train + counts.val + counts.test);
  auto description = recall::make(mine, options.seed, counts, folder, watched(progress));
  description["folder"] = folder.string();
  return description;
}

nlohmann::ordered_json make_pathfinder(const MakeOptions& options) {
  if (options.inter && options.easy) throw UsageError("expected --inter or --easy, got both");
  const std::string variant = options.inter ? "inter" : options.easy ? "easy" : "hard";
  const fs::path folder = variant_folder(data_folder(options.data_dir), "pathfinder", variant);
  Progress progress("pathfinder", "pictures", options.pictures);
  auto description = pathfinder::make(pathfinder::variant(variant), options.seed, options.pictures,
                                      folder, watched(progress));
  description["folder"] = folder.string();
  return description;
}

void print_pathfinder(const nlohmann::ordered_json& s) {
  Table table({{"", Align::kLeft}, {"", Align::kLeft}});
  table.row({"pictures", s.at("pictures").dump()});
  table.row({"grey levels: mean, deviation",
             text(short_number(s.at("mean")), ", ", short_number(s.at("deviation")))});
  table.row({"pixels that are 0, that are at least 200",
             text(percent(s.at("black")), ", ", percent(s.at("bright")))});
  table.row({"pictures with both discs on one path", percent(s.at("connected"))});
  table.row({"pairs of paths that became whole", percent(s.at("accepted"))});
  std::cout << table.terminal(colour_wanted(1));
}

void print_recall(const nlohmann::ordered_json& statistics) {
  Table table({{"", Align::kLeft}, {"", Align::kLeft}});
  for (const auto& [name, value] : statistics.items()) {
    table.row({name, value.is_number_float() ? percent(value) : value.dump()});
  }
  std::cout << table.terminal(colour_wanted(1));
}

// An option whose group is of other tasks says nothing here.
void refuse_options_of_others(const CLI::App& command, const std::string& task) {
  for (const CLI::Option* option : command.get_options()) {
    const std::string& group = option->get_group();
    const bool of_a_task = std::any_of(task_names().begin(), task_names().end(), [&](auto& name) {
      return group.find(name) != std::string::npos;
    });
    if (option->count() > 0 && of_a_task && group.find(task) == std::string::npos) {
      throw UsageError(option->get_name() + ": expected with " + group + ", got " + task);
    }
  }
}

void make(const MakeOptions& options, const CLI::App& command) {
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
  refuse_options_of_others(command, options.task);
  const bool recall = is_recall(options.task), pathfinder = options.task == "pathfinder";
  const auto description = recall       ? make_recall(options)
                           : pathfinder ? make_pathfinder(options)
                                        : make_listops(options);
  if (options.json) {
    std::cout << description.dump(2) << "\n";
    return;
  }
  (recall       ? print_recall
   : pathfinder ? print_pathfinder
                : print_listops)(description.at("statistics"));
  std::cout << "in " << description.at("folder").get<std::string>() << "\n";
}

}  // namespace

void add_data_make(CLI::App& data) {
  auto options = std::make_shared<MakeOptions>();
  CLI::App* making = data.add_subcommand("make", "make a data set with the built-in generator");
  making->add_option("TASK", options->task, "listops, pathfinder, mqar or needle")->required();
  auto& o = *options;
  making
      ->add_option("--seed", o.seed,
                   "another seed, other examples; of mqar and needle, other ones to train on")
      ->check(CLI::Range(std::int64_t{0}, kLargestSeed));
  add_data_dir(*making, o.data_dir);
  making->add_flag("--json", o.json, "print one JSON document");

  const auto of = [&](const std::string& tasks, CLI::Option* option) { option->group(tasks); };
  const auto count = CLI::Range(std::int64_t{1}, std::int64_t{100'000'000});
  const std::string with_parts = "listops, mqar, needle";
  of(with_parts, making->add_option("--train", o.train, "training examples")->check(count));
  of(with_parts, making->add_option("--val", o.val, "validation examples")->check(count));
  of(with_parts, making->add_option("--test", o.test, "test examples")->check(count));
  of("pathfinder", making
                       ->add_option("--pictures", o.pictures,
                                    "how many, of which a tenth for validation and one for "
                                    "testing (default: 200000)")
                       ->check(count));
  of("pathfinder", making->add_flag("--inter", o.inter, "paths of 9 dashes (default: 14)"));
  of("pathfinder", making->add_flag("--easy", o.easy, "paths of 6 dashes"));
  of("listops", making->add_flag("--short", o.short_variant,
                                 "9 to 64 tokens, learnt in minutes (default: the Arena's, 501 to "
                                 "1999)"));
  of("listops", making->add_option("--max-depth", o.max_depth, "a tree's largest depth")
                    ->check(CLI::Range(1, 100)));
  of("listops", making->add_option("--max-args", o.max_args, "a list's largest number of arguments")
                    ->check(CLI::Range(2, 1000)));
  of("listops", making->add_option("--min-length", o.min_length, "trees are longer than this")
                    ->check(CLI::Range(0, 1 << 24)));
  of("listops", making->add_option("--max-length", o.max_length, "trees are shorter than this")
                    ->check(CLI::Range(2, 1 << 24)));
  of("mqar, needle", making->add_option("--length", o.length, "tokens of a sequence")
                         ->check(CLI::Range(1, 1 << 24)));
  of("mqar", making->add_option("--pairs", o.pairs, "keys with a value in a sequence")
                 ->check(CLI::Range(1, 1 << 20)));
  of("mqar", making->add_option("--keys", o.keys, "different keys")->check(CLI::Range(1, 1 << 20)));
  making->callback([options, making] { make(*options, *making); });
}

}  // namespace fastmax::app
