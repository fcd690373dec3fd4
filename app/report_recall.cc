// Beside the paper: recall, and contexts that are long.
#include "app/curves.h"
#include "app/names.h"
#include "app/report.h"
#include "app/report_words.h"
#include "app/statistics.h"
#include "app/table.h"

namespace fastmax::app {
namespace {

constexpr double kLearnt = 0.98;

/// The first evaluation at which the run answered 98 % right; 0: none.
std::int64_t steps_to_learn(const FinishedRun& run) {
  for (const auto& line : run.plan.dir.read_metrics()) {
    if (line.contains("val_accuracy") && line.at("val_accuracy").get<double>() >= kLearnt)
      return line.at("step");
  }
  return 0;
}

/// "300, 400 (97.4 %), no (87.4 %)" over seeds: the accuracy of a best model that has less on more sequences.
std::string learnt_cell(const std::vector<FinishedRun>& runs) {
  if (runs.empty()) return kNotRun;
  std::string cell;
  for (const FinishedRun& run : runs) {
    const std::int64_t steps = steps_to_learn(run);
    const double accuracy = run.result["val"]["accuracy"];
    cell += cell.empty() ? "" : ", ";
    cell += steps > 0 ? std::to_string(steps) : "no";
    if (accuracy < kLearnt) cell += formatted(" (%.1f %%)", 100 * accuracy);
  }
  return cell;
}

std::vector<std::string> recall_folders(const Results& results) {
  std::vector<std::string> folders = results.folders("mqar"), needles = results.folders("needle");
  folders.insert(folders.end(), needles.begin(), needles.end());
  return folders;
}

}  // namespace

void add_recall(const Results& results, Publication& publication) {
  const auto folders = recall_folders(results);
  std::vector<std::string> attentions;
  for (const std::string& folder : folders) {
    for (const std::string& attention : results.attentions(folder)) add_once(attentions, attention);
  }
  std::vector<Column> columns = {{"", Align::kLeft}};
  for (const std::string& attention : attentions) columns.push_back({attention});
  Table table(columns);
  std::vector<Plot> panels;
  for (const std::string& folder : folders) {
    std::vector<std::string> cells = {folder};
    for (const std::string& attention : attentions)
      cells.push_back(learnt_cell(results.runs(folder, attention)));
    table.row(std::move(cells));
    const auto runs = results.runs_of({folder});
    if (runs.empty()) continue;
    panels.push_back(curves(group_by_seed(dirs_of(runs)), "step", "val_accuracy"));
    panels.back().title = folder;
  }
  if (!panels.empty()) publication.add("recall.svg", line_drawing(panels, 2));
  publication.texts["recall.md"] =
      "# Recall\n\n"
      "Steps, for each seed, until 98 % of the answers are right on the validation sequences that "
      "are looked at while training, 200, of `needle-4k` 64; in parentheses what the best model "
      "has on about 1,000 of them, where that is less. `mqar-P`: P pairs of keys and "
      "values, then keys whose values are asked for. `needle-N`: one fact among N tokens; "
      "`-growing`: sequences of 256 tokens first, which double in even shares of the steps until "
      "they have N. The paper has no such task.\n\n" +
      table.markdown() + (panels.empty() ? "" : "\n![Accuracy by step](recall.svg)\n") +
      "\n## How\n\n" + how_run(results, folders);
}

void add_long_context(const Results& results, Publication& publication) {
  const auto folders = results.folders("long-");
  Table table({{"run", Align::kLeft},
               {"attention", Align::kLeft},
               {"tokens"},
               {"test loss"},
               {"bits a byte"},
               {"test accuracy"},
               {"seconds a step"},
               {"softmax's"}});
  const auto step_cell = [&](const std::string& folder, const std::string& attention) {
    const auto& row = results.speed(folder, attention);
    return row.is_null() ? std::string(kNotRun)
                         : short_seconds(1 / row.at("steps_per_second").get<double>());
  };
  for (const std::string& folder : folders) {
    for (const std::string& attention : results.attentions(folder)) {
      const auto runs = results.runs(folder, attention);
      const auto cell = [&](const char* key, const char* pattern, double factor) {
        if (runs.empty()) return std::string(kNotRun);
        if (!runs[0].result["test"].contains(key)) return std::string();
        return formatted(pattern, factor * mean(values_at(runs, std::string("/test/") + key)));
      };
      table.row({folder, attention,
                 runs.empty() ? kNotRun : short_length(runs[0].recipe.data.length),
                 cell("loss", "%.3f", 1), cell("bits_per_byte", "%.3f", 1),
                 cell("accuracy", "%.1f %%", 100), step_cell(folder, attention),
                 step_cell(folder, "softmax")});
    }
  }
  publication.texts["long_context.md"] =
      "# Long contexts\n\nTraining over contexts that softmax cannot afford here. The last columns "
      "are a step of training, measured apart, with this attention and "
      "with softmax in the same model.\n\n" +
      table.markdown() + "\n## How\n\n" + how_run(results, folders) + "\n" +
      how_timed(results, folders);
}

}  // namespace fastmax::app
