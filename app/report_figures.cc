// Figures 2, 3, 5 and 6: dropout; time and memory against length; accuracy, speed and memory at once; loss by step and by
// seconds.
#include <algorithm>
#include <cmath>
#include <map>

#include "app/bench_report.h"
#include "app/bubble.h"
#include "app/curves.h"
#include "app/error.h"
#include "app/names.h"
#include "app/report.h"
#include "app/report_words.h"
#include "app/statistics.h"
#include "app/table.h"

namespace fastmax::app {
namespace {

/// A page with one picture; what is missing is said in its place.
std::string page(const std::string& title, const std::string& picture, const std::string& caption,
                 const std::string& how) {
  const std::string shown = picture.empty() ? "Not run.\n" : "![" + title + "](" + picture + ")\n";
  return "# " + title + "\n\n" + shown + "\n" + caption + "\n\n## How\n\n" + how;
}

std::string mode_of(const FinishedRun& run) {
  const std::string& attention = run.recipe.model.attention;
  if (attention == "softmax") return "softmax, its weights";
  return attention + ", " + run.recipe.model.attention_dropout_mode;
}

}  // namespace

void add_dropout_figure(const Results& results, Publication& publication) {
  const auto folders = results.folders("dropout-");
  const auto runs = results.runs_of(folders);
  // Loss of the best model by mode and rate. Rate 0 is the same for all modes of an attention.
  std::map<std::string, std::map<double, std::vector<double>>> losses;
  for (const FinishedRun& run : runs) {
    if (run.recipe.model.attention_dropout > 0) losses[mode_of(run)];
  }
  for (const FinishedRun& run : runs) {
    const double rate = run.recipe.model.attention_dropout, loss = run.result["val"]["loss"];
    for (auto& [mode, by_rate] : losses) {
      const bool own =
          rate > 0 ? mode == mode_of(run) : mode.rfind(run.recipe.model.attention + ",", 0) == 0;
      if (own) by_rate[rate].push_back(loss);
    }
  }
  Plot plot{.title = "TinyShakespeare, the best model of a run",
            .x_label = "rate of dropout in attention",
            .y_label = "validation loss (nats)"};
  for (const auto& [mode, by_rate] : losses) {
    Series series{.name = mode, .x = {}, .y = {}};
    for (const auto& [rate, all] : by_rate) {
      series.x.push_back(rate);
      series.y.push_back(mean(all));
    }
    plot.series.push_back(series);
  }
  if (!losses.empty()) publication.add("figure2.svg", line_drawing({plot}, 1));
  publication.texts["figure2.md"] =
      page("Figure 2: dropout", losses.empty() ? "" : "figure2.svg",
           "Validation loss against the rate. `standard` drops features, `quadratic` features of "
           "degree 2, both in the numerator only, `token` whole queries and keys, in numerator and "
           "denominator alike (docs/math.md); softmax drops its weights. The paper gives "
           "neither task nor sizes of its figure; the "
           "dropout of the rest of the model is off here. A point is one run, or the mean of "
           "several seeds: differences of a "
           "hundredth are within what another seed does.",
           how_run(results, folders));
}

void add_length_figure(const Results& results, Publication& publication) {
  const auto& bench = results.bench();
  std::string how =
      "Nothing of this was timed yet: `fastmax bench --out docs/results/figure3.json` does it.\n";
  if (!bench.is_null()) {
    publication.add("figure3.svg", line_drawing(plots_of(bench.at("rows")), 2));
    const auto& row = bench.at("rows").at(0);
    how =
        "`fastmax bench --out docs/results/figure3.json`, every answer checked against float64 "
        "before it was timed: " +
        bench.at("machine").get<std::string>() + "; torch " + bench.at("torch").get<std::string>() +
        "; version " + bench.at("version").get<std::string>() + " (" +
        bench.at("commit").get<std::string>() + "); batch " + row.at("B").dump() + ", heads " +
        row.at("H").dump() + "; " + bench.at("clock").get<std::string>() + ".\n";
    if (!bench.at("skipped").empty())
      how += "\nLeft out, for the time or the memory that they would take:\n\n";
    for (const auto& skipped : bench.at("skipped")) {
      how += "- " + skipped.at("method").get<std::string>() + ", D = " + skipped.at("D").dump() +
             ", N = " + skipped.at("N").dump() + ": " + skipped.at("why").get<std::string>() + "\n";
    }
  }
  publication.texts["figure3.md"] =
      page("Figure 3: time and memory against length", bench.is_null() ? "" : "figure3.svg",
           "One call of attention, forward. The paper timed one head on an RTX A6000 up to 10 "
           "million tokens; here it is a CPU, where memory "
           "ends where the line of softmax does.",
           how);
}

void add_bubble_figure(const Results& results, Publication& publication) {
  std::vector<Bubble> bubbles;
  std::vector<std::string> names, missing;
  // Tasks that have runs and a timing of every attention shown: one average for all.
  std::vector<std::string> tasks;
  for (const std::string& task : paper_tasks()) {
    const bool there = !results.runs_of({task}).empty() && !results.speed(task).is_null();
    (there ? tasks : missing).push_back(task);
  }
  for (const std::string& task : tasks) names.push_back(with_data(results, heading_of(task), task));
  for (const char* const attention :
       {"softmax", "fastmax2", "fastmax1", "linear", "performer", "reformer", "informer"}) {
    std::vector<double> accuracy, speed, memory;
    for (const std::string& task : tasks) {
      const auto found = values_at(results.runs(task, attention), "/test/accuracy");
      const auto &row = results.speed(task, attention), &base = results.speed(task, "softmax");
      if (found.empty() || row.is_null() || base.is_null()) break;
      accuracy.push_back(100 * mean(found));
      speed.push_back(std::log(row.at("steps_per_second").get<double>() /
                               base.at("steps_per_second").get<double>()));
      memory.push_back(row.at("peak_memory_bytes"));
    }
    if (tasks.empty() || accuracy.size() < tasks.size()) continue;
    bubbles.push_back({.name = attention,
                       .label = text(attention, ", ", short_bytes(mean(memory))),
                       .x = std::exp(mean(speed)),
                       .y = mean(accuracy),
                       .area = mean(memory)});
  }
  if (!bubbles.empty()) {
    publication.add("figure5.svg",
                    bubble_drawing("Mean over " + listed(names), "training speed, times softmax",
                                   "mean accuracy (%)", "peak memory (bytes)", bubbles));
  }
  std::string caption =
      "Further right is faster, higher is more accurate, and the area of a circle is peak memory. "
      "Speed is the geometric mean over the tasks "
      "of steps a second over softmax's, memory and accuracy are arithmetic means. The paper's "
      "figure is of a GPU, steps a "
      "second, and its harness.";
  for (const std::string& task : missing)
    caption +=
        " " + with_data(results, heading_of(task), task) + " is not in it: not run or not timed.";
  publication.texts["figure5.md"] =
      page("Figure 5: accuracy, speed and memory", bubbles.empty() ? "" : "figure5.svg", caption,
           how_run(results, tasks) + "\n" + how_timed(results, tasks));
}

void add_loss_figure(const Results& results, Publication& publication) {
  // The paper's two tasks, and ours at the paper's length, where wall-clock time is the question.
  const std::vector<std::string> folders = {"image", "retrieval", "listops-paper", "text-paper"};
  std::vector<Plot> panels;
  std::vector<std::string> missing;
  for (const std::string& folder : folders) {
    std::vector<FinishedRun> runs;
    for (const char* attention : {"softmax", "fastmax2", "fastmax1"}) {
      const auto found = results.runs(folder, attention);
      runs.insert(runs.end(), found.begin(), found.end());
    }
    if (runs.empty()) {
      missing.push_back("`" + folder + "` is not run.");
      continue;
    }
    const auto groups = group_by_seed(dirs_of(runs));
    Plot steps = curves(groups, "step", "train_loss"), seconds = steps;
    const std::string name = with_data(results, folder, folder);
    steps.title = name + " by step";
    seconds.title = name + " by time";
    seconds.x_label = "seconds of training";
    seconds.legend = false;
    seconds.series.clear();
    for (std::size_t i = 0; i < groups.size(); ++i) {
      const auto& row = results.speed(folder, groups[i].recipe.model.attention);
      if (row.is_null()) {
        missing.push_back("`" + folder + "` by time lacks " + groups[i].recipe.model.attention +
                          ": not timed.");
        continue;
      }
      Series series = steps.series[i];
      for (double& x : series.x) x /= row.at("steps_per_second").get<double>();
      seconds.series.push_back(series);
    }
    panels.push_back(steps);
    panels.push_back(seconds);
  }
  if (!panels.empty()) publication.add("figure6.svg", line_drawing(panels, 2));
  std::string caption =
      "Training loss, on the left by steps and on the right by seconds. Seconds are steps over the "
      "steps a second that were measured apart "
      "(below), because the training runs shared the machine with others. Several seeds are a line "
      "of means with a band from "
      "the lowest to the highest.";
  for (const std::string& what : missing) caption += " " + what;
  publication.texts["figure6.md"] =
      page("Figure 6: training loss by step and by time", panels.empty() ? "" : "figure6.svg",
           caption, how_run(results, folders) + "\n" + how_timed(results, folders));
}

}  // namespace fastmax::app
