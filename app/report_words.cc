#include "app/report_words.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "app/error.h"
#include "app/names.h"
#include "app/recipe_difference.h"
#include "app/statistics.h"
#include "app/table.h"

namespace fastmax::app {
namespace fs = std::filesystem;
using nlohmann::ordered_json;
namespace {

/// "1-3" for 1, 2, 3.
std::string range_of(const std::set<std::int64_t>& seeds) {
  const auto span = *seeds.rbegin() - *seeds.begin() + 1;
  if (seeds.size() > 1 && span == static_cast<std::int64_t>(seeds.size()))
    return text(*seeds.begin(), "-", *seeds.rbegin());
  std::vector<std::string> words;
  for (const std::int64_t seed : seeds) words.push_back(std::to_string(seed));
  return listed(words);
}

/// "1-3: softmax, fastmax2; 1: linear".
std::string seeds_of(const std::vector<FinishedRun>& runs) {
  std::vector<std::string> attentions;
  std::map<std::string, std::set<std::int64_t>> seeds;
  for (const FinishedRun& run : runs) {
    if (seeds[run.plan.attention].empty()) attentions.push_back(run.plan.attention);
    seeds[run.plan.attention].insert(run.plan.seed);
  }
  std::vector<std::string> ranges;
  std::map<std::string, std::vector<std::string>> who;
  for (const std::string& attention : attentions) {
    const std::string range = range_of(seeds[attention]);
    if (who[range].empty()) ranges.push_back(range);
    who[range].push_back(attention);
  }
  std::vector<std::string> words;
  for (const std::string& range : ranges) words.push_back(range + ": " + listed(who[range]));
  return listed(words, "; ");
}

/// The recipe and what was set, but for attention and seed.
std::string recipe_cell(const PlannedRun& run) {
  std::string cell = text("`", run.recipe, "`");
  for (const std::string& setting : run.settings) {
    if (setting.rfind("seed=", 0) != 0 && setting.rfind("model.attention=", 0) != 0)
      cell += " `" + setting + "`";
  }
  return cell;
}

/// What differs from the paper's recipe of the task in model, training and data; seeds and bookkeeping apart.
std::string departures(const Results& results, const Recipe& recipe) {
  const fs::path file = results.paper().recipes / (recipe.task + ".toml");
  if (!fs::exists(file)) return "the paper has no such task";
  static const std::set<std::string> kBookkeeping = {
      "seed",          "model.attention", "train.log_every",      "train.checkpoint_seconds",
      "train.threads", "data.path",       "train.evaluate_every", "train.evaluate_examples"};
  std::vector<std::string> found;
  for (const Difference& d : differences(read_recipe(file.string()), recipe)) {
    if (!kBookkeeping.contains(d.path))
      found.push_back(d.path + " " + d.here + " (" + d.there + ")");
  }
  return found.empty() ? "nothing" : listed(found);
}

/// One line of where and with what: of documents that have machine, threads, version and commit.
std::string made_on(const std::vector<const ordered_json*>& documents) {
  std::set<std::string> machines, threads, versions;
  for (const ordered_json* d : documents) {
    machines.insert(d->at("machine").get<std::string>());
    threads.insert(d->at("threads").dump());
    versions.insert("version " + d->at("version").get<std::string>() + " (" +
                    d->at("commit").get<std::string>() + ")");
  }
  const auto list = [](const std::set<std::string>& words) {
    return listed({words.begin(), words.end()}, "; ");
  };
  const bool one = threads == std::set<std::string>{"1"};
  return list(machines) + "; " + list(threads) + (one ? " thread; " : " threads; ") +
         list(versions);
}

}  // namespace

std::string sizes_of(const Recipe& r) {
  return text("N = ", r.data.length, ", ", r.model.layers,
              r.model.layers == 1 ? " layer, " : " layers, ", r.model.heads,
              r.model.heads == 1 ? " head of " : " heads of ", r.model.dim / r.model.heads,
              ", batch ", r.train.batch, ", ", r.train.steps, " steps");
}

const std::vector<std::string>& paper_tasks() {
  static const std::vector<std::string> tasks = {"listops", "text", "retrieval", "image",
                                                 "pathfinder"};
  return tasks;
}

std::string heading_of(const std::string& task) {
  if (task == "listops") return "ListOps";
  if (task == "mnist") return "MNIST";
  std::string name = task;
  if (!name.empty() && name[0] >= 'a' && name[0] <= 'z') name[0] = static_cast<char>(name[0] - 32);
  return name;
}

std::string with_data(const Results& results, const std::string& name, const std::string& folder) {
  const std::string data = results.data_of(folder);
  return data.empty() ? name : name + " (" + data + ")";
}

std::string mean_cell(const std::vector<double>& values, int digits) {
  if (values.empty()) return kNotRun;
  const std::string pattern = text("%.", digits, "f");
  std::string cell = formatted(pattern.c_str(), mean(values));
  if (values.size() > 1) cell += " ± " + formatted(pattern.c_str(), deviation(values));
  return cell;
}

std::string percent_cell(const std::vector<double>& shares) {
  std::vector<double> percents;
  for (const double share : shares) percents.push_back(100 * share);
  return mean_cell(percents, 1);
}

std::vector<double> values_at(const std::vector<FinishedRun>& runs, const std::string& pointer) {
  std::vector<double> values;
  const ordered_json::json_pointer place(pointer);
  for (const FinishedRun& run : runs) values.push_back(run.result.at(place));
  return values;
}

std::string how_run(const Results& results, const std::vector<std::string>& folders) {
  Table table({{"runs", Align::kLeft},
               {"recipe", Align::kLeft},
               {"sizes", Align::kLeft},
               {"seeds", Align::kLeft},
               {"differs from the paper's harness (there)", Align::kLeft}});
  std::vector<const ordered_json*> documents;
  const auto all = results.runs_of(folders);
  for (const FinishedRun& run : all) documents.push_back(&run.result);
  for (const std::string& folder : folders) {
    // A line for what was trained alike; steps may depend on the attention.
    std::vector<std::vector<FinishedRun>> alike;
    for (const FinishedRun& run : results.runs_of({folder})) {
      const auto found = std::find_if(alike.begin(), alike.end(), [&](const auto& runs) {
        return recipe_cell(runs[0].plan) == recipe_cell(run.plan);
      });
      if (found == alike.end()) {
        alike.push_back({run});
      } else {
        found->push_back(run);
      }
    }
    for (const auto& runs : alike) {
      table.row({with_data(results, text("`", folder, "`"), folder), recipe_cell(runs[0].plan),
                 sizes_of(runs[0].recipe), seeds_of(runs), departures(results, runs[0].recipe)});
    }
  }
  if (all.empty()) return "Nothing of this was run yet.\n";
  return "Trained by the commands that `fastmax report --todo` makes of `runs.toml`; what is "
         "reported is the model that was "
         "best on validation. " +
         made_on(documents) + ".\n\n" + table.markdown();
}

std::string how_timed(const Results& results, const std::vector<std::string>& names) {
  Table table({{"timing", Align::kLeft},
               {"recipe", Align::kLeft},
               {"sizes", Align::kLeft},
               {"a batch is made in"},
               {"of the fastest step"}});
  std::vector<const ordered_json*> documents;
  for (const std::string& name : names) {
    const ordered_json& document = results.speed(name);
    if (document.is_null()) continue;
    documents.push_back(&document);
    double fastest = 0;  // steps a second
    for (const ordered_json& row : document.at("rows")) {
      if (!row.at("steps_per_second").is_null())
        fastest = std::max(fastest, row.at("steps_per_second").get<double>());
    }
    const double making = document.at("batch_seconds");
    table.row({with_data(results, text("`", name, "`"), name),
               text("`", document.at("recipe").get<std::string>(), "`"), document.at("sizes"),
               short_number(1e3 * making) + " ms", short_number(100 * making * fastest) + " %"});
  }
  if (documents.empty()) return "Nothing of this was timed yet.\n";
  return "Timed by `fastmax report --speed`, apart from the training runs, which shared the "
         "machine: forward, backward and update, with the same batches for every kind of "
         "attention, "
         "a short one, a middling one and a long one where lengths differ. Kinds of attention took "
         "turns, and each figure is of the mean over the batches of their medians. Batches are "
         "made "
         "while the model trains; the last column is what making one would add if they were not. "
         "Memory is the peak of a step with the longest of these batches, the process itself "
         "apart. " +
         made_on(documents) + ".\n\n" + table.markdown();
}

std::string bullets(const std::vector<std::string>& lines) {
  std::string out;
  for (const std::string& line : lines) out += "- " + line + "\n";
  return out;
}

}  // namespace fastmax::app
