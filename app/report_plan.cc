#include "app/report_plan.h"

#include <set>

#include "app/error.h"
#include "app/files.h"
#include "app/names.h"
#include "app/subprocess.h"
#include "app/toml_text.h"

namespace fastmax::app {
namespace fs = std::filesystem;
namespace {

class Reader {
 public:
  explicit Reader(const fs::path& results) : results_(results), file_(results / "runs.toml") {
    root_ = parse_toml(read_file(file_, "the list of runs"), file_.string());
  }

  ReportPlan read() {
    for (const auto& [key, node] : root_) {
      const bool runs = key.str() == "runs";
      if (!node.is_array() || !(runs || key.str() == "speed"))
        fail(node, "expected nothing but [[runs]] and [[speed]]");
      for (const toml::node& entry : *node.as_array()) {
        if (!entry.is_table()) fail(entry, text(key.str(), ": expected tables"));
        runs ? add_runs(*entry.as_table()) : add_speed(*entry.as_table());
      }
    }
    return std::move(plan_);
  }

 private:
  [[noreturn]] void fail(const toml::node& node, const std::string& what) const {
    throw UsageError(text(file_.string(), ":", node.source().begin.line, ": ", what));
  }

  template <class T>
  T value(const toml::table& entry, const char* key, const char* kind) const {
    const auto found = entry[key].value_exact<T>();
    if (!found) fail(entry, text(key, ": expected ", kind));
    return *found;
  }

  template <class T>
  std::vector<T> values(const toml::table& entry, const char* key, const char* kind) const {
    std::vector<T> all;
    const toml::array* found = entry[key].as_array();
    if (!found || found->empty()) fail(entry, text(key, ": expected a list of ", kind));
    for (const toml::node& node : *found) {
      const auto item = node.value_exact<T>();
      if (!item) fail(node, text(key, ": expected ", kind));
      all.push_back(*item);
    }
    return all;
  }

  void refuse_others(const toml::table& entry, const std::set<std::string_view>& keys) const {
    for (const auto& [key, node] : entry) {
      if (!keys.contains(key.str())) fail(node, text(key.str(), ": unknown key"));
    }
  }

  std::vector<std::string> settings(const toml::table& entry) const {
    if (!entry.contains("set")) return {};
    return values<std::string>(entry, "set", "\"key=value\"");
  }

  std::vector<std::string> attentions(const toml::table& entry) const {
    const auto names = values<std::string>(entry, "attention", "names");
    for (const std::string& name : names) {
      require_name(text(file_.string(), ":", entry.source().begin.line, ": attention"),
                   trainable_attention_names(), name);
    }
    return names;
  }

  void add_speed(const toml::table& entry) {
    refuse_others(entry, {"name", "recipe", "attention", "set"});
    PlannedSpeed speed{.name = value<std::string>(entry, "name", "a name"),
                       .recipe = value<std::string>(entry, "recipe", "a file"),
                       .attentions = attentions(entry),
                       .settings = settings(entry)};
    if (!names_.insert("speed " + speed.name).second)
      fail(entry, speed.name + ": expected once, listed twice");
    plan_.speeds.push_back(std::move(speed));
  }

  void add_runs(const toml::table& entry) {
    refuse_others(entry, {"folder", "recipe", "attention", "seeds", "set", "maps"});
    const auto folder = value<std::string>(entry, "folder", "a name");
    const auto recipe = value<std::string>(entry, "recipe", "a file");
    const bool maps = entry.contains("maps") && value<bool>(entry, "maps", "true or false");
    const auto kinds = attentions(entry);
    for (const std::int64_t seed : values<std::int64_t>(entry, "seeds", "whole numbers")) {
      for (const std::string& attention : kinds) {
        const std::string name = folder + "/" + attention + "-seed" + std::to_string(seed);
        if (!names_.insert(name).second) fail(entry, name + ": expected once, listed twice");
        PlannedRun run{.folder = folder,
                       .attention = attention,
                       .seed = seed,
                       .recipe = recipe,
                       .settings = settings(entry),
                       .maps = maps,
                       .dir = RunDir(results_ / "runs" / name)};
        run.settings.push_back("model.attention=" + attention);
        run.settings.push_back("seed=" + std::to_string(seed));
        plan_.runs.push_back(std::move(run));
      }
    }
  }

  fs::path results_, file_;
  toml::table root_;
  std::set<std::string> names_;
  ReportPlan plan_;
};

}  // namespace

ReportPlan read_plan(const fs::path& results) { return Reader(results).read(); }

std::vector<std::string> folders_of(const std::vector<PlannedRun>& plan) {
  std::vector<std::string> folders;
  for (const PlannedRun& run : plan) add_once(folders, run.folder);
  return folders;
}

fs::path maps_file(const PlannedRun& run) { return run.dir.path() / "maps.csv"; }

fs::path speed_file(const fs::path& results, const std::string& name) {
  return results / "speed" / (name + ".json");
}

std::vector<std::string> commands_to_do(const std::vector<PlannedRun>& plan) {
  const std::string program =
      shell_word(fs::path(own_path()).lexically_proximate(fs::current_path()));
  std::vector<std::string> commands;
  for (const PlannedRun& run : plan) {
    const std::string folder = shell_word(run.dir.path().string());
    std::string train;
    if (!run.dir.finished()) {
      if (!fs::exists(run.recipe))
        throw UsageError(
            text("expected to be called where the recipes of runs.toml are, there is no ",
                 run.recipe, " in ", fs::current_path().string()));
      train = program + " train " + shell_word(run.recipe) + " --threads 1";
      for (const std::string& setting : run.settings) train += " --set " + shell_word(setting);
      train += " --resume --out " + folder;
    }
    std::string maps;
    if (run.maps && !fs::exists(maps_file(run)))
      maps = program + " maps " + folder + " --out " + shell_word(maps_file(run).string());
    if (!train.empty() || !maps.empty())
      commands.push_back(train + (train.empty() || maps.empty() ? "" : " && ") + maps);
  }
  return commands;
}

}  // namespace fastmax::app
