#include "app/report_results.h"

#include <algorithm>

#include "app/error.h"
#include "app/files.h"
#include "app/json_file.h"
#include "app/names.h"
#include "app/report_speed.h"
#include "app/toml_text.h"

namespace fastmax::app {
namespace fs = std::filesystem;
using nlohmann::ordered_json;
namespace {

const ordered_json kNothing;

/// figure3.json: what plots and the page take of a document of `fastmax bench`.
ordered_json bench_form() {
  const ordered_json row = {{"method", ""},     {"order", 0},
                            {"causal", false},  {"B", 0},
                            {"H", 0},           {"N", 0},
                            {"D", 0},           {"threads", 0},
                            {"direction", ""},  {"workspace_bytes", 0},
                            {"saved_bytes", 0}, {"ms", nullptr}};
  const ordered_json skipped = {{"method", ""}, {"D", 0}, {"N", 0}, {"why", ""}};
  return {{"machine", ""},
          {"torch", ""},
          {"version", ""},
          {"commit", ""},
          {"clock", ""},
          {"rows", ordered_json::array({row})},
          {"skipped", ordered_json::array({skipped})}};
}

ordered_json read_if_there(const fs::path& file, const ordered_json& form) {
  return fs::exists(file) ? read_json(file, "results", form) : ordered_json();
}

class PaperReader {
 public:
  explicit PaperReader(const fs::path& file)
      : file_(file), root_(parse_toml(read_file(file, "the paper's numbers"), file.string())) {}

  PaperNumbers read() const {
    return {.recipes = recipes(),
            .accuracy_source = string("accuracy.source"),
            .speed_source = string("steps_per_second.source"),
            .accuracy = rows("accuracy"),
            .speed = rows("steps_per_second"),
            .accuracy_notes = strings("notes.accuracy"),
            .speed_notes = strings("notes.steps_per_second")};
  }

 private:
  [[noreturn]] void fail(const std::string& path, const char* expected) const {
    throw UsageError(text(file_.string(), ": ", path, ": expected ", expected));
  }
  std::string string(const std::string& path) const {
    const auto found = root_.at_path(path).value<std::string>();
    if (!found) fail(path, "a string");
    return *found;
  }
  fs::path recipes() const {
    const fs::path folder = (file_.parent_path() / string("recipes")).lexically_normal();
    if (!fs::is_directory(folder))
      throw UsageError(text(file_.string(),
                            ": recipes: expected the folder of the paper's recipes, ",
                            "there is none at ", folder.string()));
    return folder;
  }
  std::vector<std::string> strings(const std::string& path) const {
    std::vector<std::string> all;
    const toml::array* found = root_.at_path(path).as_array();
    if (!found) fail(path, "a list of strings");
    for (const toml::node& node : *found) {
      if (!node.is_string()) fail(path, "a list of strings");
      all.push_back(*node.value<std::string>());
    }
    return all;
  }
  std::map<std::string, PaperNumbers::Row> rows(const std::string& path) const {
    std::map<std::string, PaperNumbers::Row> all;
    const toml::table* found = root_.at_path(path).as_table();
    if (!found) fail(path, "a table");
    for (const auto& [attention, row] : *found) {
      if (!row.is_table()) continue;  // its source
      for (const auto& [task, value] : *row.as_table()) {
        if (!value.is_number()) fail(path, "numbers");
        all[std::string(attention.str())][std::string(task.str())] = *value.value<double>();
      }
    }
    return all;
  }

  fs::path file_;
  toml::table root_;
};

FinishedRun read_finished(const PlannedRun& run) {
  FinishedRun finished{.plan = run,
                       .recipe = read_recipe(run.dir.recipe().string()),
                       .result = run.dir.read_result()};
  const std::pair<const char*, std::pair<std::string, std::string>> facts[] = {
      {"attention", {run.attention, finished.recipe.model.attention}},
      {"seed", {std::to_string(run.seed), std::to_string(finished.recipe.seed)}}};
  for (const auto& [key, values] : facts) {
    if (values.first == values.second) continue;
    throw UsageError(text(run.dir.recipe().string(), ": ", key, ": expected ", values.first,
                          ", as the folder says, got ", values.second));
  }
  return finished;
}

}  // namespace

std::vector<RunDir> dirs_of(const std::vector<FinishedRun>& runs) {
  std::vector<RunDir> dirs;
  for (const FinishedRun& run : runs) dirs.push_back(run.plan.dir);
  return dirs;
}

Results::Results(const fs::path& folder)
    : folder_(folder),
      plan_(read_plan(folder)),
      paper_(PaperReader(folder / "paper.toml").read()),
      bench_(read_if_there(folder / "figure3.json", bench_form())) {
  if (!bench_.is_null() && bench_.at("rows").empty())
    throw UsageError((folder / "figure3.json").string() + ": rows: expected some, got none");
  for (const PlannedRun& run : plan_.runs) {
    if (run.dir.finished()) finished_.push_back(read_finished(run));
  }
  std::stable_sort(finished_.begin(), finished_.end(),
                   [](const auto& a, const auto& b) { return a.plan.seed < b.plan.seed; });
  for (const PlannedSpeed& speed : plan_.speeds) {
    speed_[speed.name] = read_if_there(speed_file(folder, speed.name), speed_form());
  }
}

std::vector<FinishedRun> Results::runs(const std::string& folder,
                                       const std::string& attention) const {
  std::vector<FinishedRun> all;
  for (const FinishedRun& run : finished_) {
    if (run.plan.folder == folder && run.plan.attention == attention) all.push_back(run);
  }
  return all;
}

std::vector<FinishedRun> Results::runs_of(const std::vector<std::string>& folders) const {
  std::vector<FinishedRun> all;
  for (const std::string& folder : folders) {
    for (const FinishedRun& run : finished_) {
      if (run.plan.folder == folder) all.push_back(run);
    }
  }
  return all;
}

std::vector<std::string> Results::attentions(const std::string& folder) const {
  std::vector<std::string> all;
  for (const PlannedRun& run : plan_.runs) {
    if (run.folder == folder) add_once(all, run.attention);
  }
  return all;
}

std::vector<std::string> Results::folders(const std::string& prefix) const {
  std::vector<std::string> all = folders_of(plan_.runs);
  std::erase_if(all, [&](const std::string& folder) { return folder.rfind(prefix, 0) != 0; });
  return all;
}

std::string Results::data_of(const std::string& name) const {
  for (const FinishedRun& run : runs_of({name})) {
    if (run.result.contains("data")) return run.result.at("data");
  }
  const ordered_json& timing = speed(name);
  return timing.is_object() ? timing.value("data", "") : "";
}

const ordered_json& Results::speed(const std::string& name) const {
  const auto found = speed_.find(name);
  return found == speed_.end() ? kNothing : found->second;
}

const ordered_json& Results::row_of(const std::string& name, const std::string& attention) const {
  const ordered_json& document = speed(name);
  if (document.is_null()) return kNothing;
  for (const ordered_json& row : document.at("rows")) {
    if (row.at("attention") == attention) return row;
  }
  return kNothing;
}

const ordered_json& Results::speed(const std::string& name, const std::string& attention) const {
  return out_of_memory(name, attention) ? kNothing : row_of(name, attention);
}

bool Results::out_of_memory(const std::string& name, const std::string& attention) const {
  const ordered_json& row = row_of(name, attention);
  return !row.is_null() && row.at("steps_per_second").is_null();
}

}  // namespace fastmax::app
