#include "app/compare.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "app/curves.h"
#include "app/error.h"
#include "app/files.h"
#include "app/names.h"
#include "app/plot.h"
#include "app/recipe_check.h"
#include "app/run_dir.h"
#include "app/signals.h"
#include "app/statistics.h"
#include "app/task.h"
#include "app/train.h"

namespace fastmax::app {
namespace fs = std::filesystem;
using nlohmann::ordered_json;
namespace {

const std::string kStopped = "stopped; the same command goes on from here";

RunDir run_dir(const fs::path& out, const std::string& attention, std::int64_t seed) {
  return RunDir(out / (attention + "-seed" + std::to_string(seed)));
}

ordered_json row_of(const std::string& attention, const std::vector<std::int64_t>& seeds,
                    const std::vector<ordered_json>& results) {
  std::vector<double> accuracy, loss, speed, memory;
  for (const ordered_json& result : results) {
    accuracy.push_back(result.at("test").at("accuracy"));
    loss.push_back(result.at("test").at("loss"));
    speed.push_back(result.at("steps_per_second"));
    memory.push_back(result.at("peak_memory_bytes"));
  }
  return {{"attention", attention},
          {"seeds", seeds},
          {"accuracy_mean", mean(accuracy)},
          {"accuracy_std", deviation(accuracy)},
          {"loss_mean", mean(loss)},
          {"steps_per_second", median(speed)},
          {"peak_memory_bytes", static_cast<std::int64_t>(median(memory))},
          {"speedup_over_softmax", nullptr}};
}

// Two panels: the training loss, and what the evaluations found.
void draw(const fs::path& out, const std::vector<std::string>& attentions,
          const std::vector<std::int64_t>& seeds, bool classifier, const fs::path& file) {
  std::vector<RunDir> runs;
  for (const std::string& attention : attentions)
    for (const std::int64_t seed : seeds) runs.push_back(run_dir(out, attention, seed));
  const auto groups = group_by_seed(runs);
  std::vector<Plot> panels = {curves(groups, "step", "train_loss"),
                              curves(groups, "step", classifier ? "val_accuracy" : "val_loss")};
  panels[1].legend = false;
  line_plot(panels, 2, file.string());
}

}  // namespace

ordered_json comparison_form() {
  const ordered_json row = {{"attention", ""},        {"seeds", {0}},
                            {"accuracy_mean", 0.5},   {"accuracy_std", 0.5},
                            {"loss_mean", 0.5},       {"steps_per_second", 0.5},
                            {"peak_memory_bytes", 0}, {"speedup_over_softmax", nullptr}};
  return {{"task", ""},
          {"data?", ""},
          {"baselines", {{"*", 0.5}}},
          {"rows", ordered_json::array({row})}};
}

Table comparison_table(const ordered_json& comparison) {
  const bool classifier = !is_language(comparison.at("task"));
  const std::string data = comparison.value("data", "");
  Table table({{data.empty() ? "attention" : "attention (" + data + ")", Align::kLeft},
               {classifier ? "test accuracy" : "test loss"},
               {classifier ? "test loss" : "bits per byte"},
               {"steps/s"},
               {"against softmax"},
               {"peak memory"}});
  for (const ordered_json& row : comparison.at("rows")) {
    const double loss = row.at("loss_mean");
    std::string accuracy = percent(row.at("accuracy_mean").get<double>());
    if (row.at("seeds").size() > 1) {
      accuracy += formatted(" ± %.1f", 100 * row.at("accuracy_std").get<double>());
    }
    const ordered_json& speedup = row.at("speedup_over_softmax");
    table.row({row.at("attention"), classifier ? accuracy : formatted("%.3f", loss),
               classifier ? formatted("%.3f", loss) : formatted("%.3f", loss / std::log(2.0)),
               short_number(row.at("steps_per_second")),
               speedup.is_null() ? "" : formatted("%.2fx", speedup.get<double>()),
               short_bytes(row.at("peak_memory_bytes"))});
  }
  if (!comparison.at("baselines").empty()) {
    table.rule();
    for (const auto& [name, accuracy] : comparison.at("baselines").items()) {
      table.row({name, percent(accuracy.get<double>()), "", "", "", ""}, Tone::kFaint);
    }
  }
  return table;
}

ordered_json compare(const Recipe& recipe, const std::vector<std::string>& attentions,
                     const std::vector<std::int64_t>& seeds, const fs::path& out) {
  const fs::path plot = out / "loss.svg";
  require_plot(plot.string());
  for (const std::string& attention : attentions) with_attention(recipe, attention);
  const auto task = load_task(recipe);  // damaged data stops it all before the first run
  ordered_json comparison = {{"task", recipe.task}};
  if (!task->data_name().empty()) comparison["data"] = task->data_name();
  comparison["baselines"] = ordered_json::object();
  for (const auto& [name, accuracy] : task->baselines()) comparison["baselines"][name] = accuracy;

  const StopRequest listening;  // between the runs too
  std::size_t width = 0;
  for (const std::string& attention : attentions) width = std::max(width, attention.size());
  ordered_json rows = ordered_json::array();
  for (const std::string& attention : attentions) {
    std::vector<ordered_json> results;
    for (const std::int64_t seed : seeds) {
      Recipe mine = with_attention(recipe, attention);
      mine.seed = seed;
      const RunDir dir = run_dir(out, attention, seed);
      std::string label = attention + std::string(width - attention.size(), ' ');
      if (seeds.size() > 1) label += "  seed " + std::to_string(seed);
      if (dir.finished()) std::fprintf(stderr, "%s  finished before, kept\n", label.c_str());
      try {
        results.push_back(train(mine, dir.path(), /*resume=*/true, label));
      } catch (const Interrupted& e) {
        throw Interrupted(e.signal, kStopped);
      }
      StopRequest::stop_if_pending(kStopped);
    }
    rows.push_back(row_of(attention, seeds, results));
  }
  for (const ordered_json& base : rows) {
    if (base.at("attention") != "softmax") continue;
    const double softmax = base.at("steps_per_second");
    for (ordered_json& row : rows) {
      row["speedup_over_softmax"] = row.at("steps_per_second").get<double>() / softmax;
    }
    break;
  }
  comparison["rows"] = rows;
  write_file(out / "table.json", comparison.dump(2) + "\n");
  write_file(out / "table.md", comparison_table(comparison).markdown());
  draw(out, attentions, seeds, !is_language(recipe.task), plot);
  return comparison;
}

}  // namespace fastmax::app
