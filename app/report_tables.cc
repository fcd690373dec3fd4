// Tables 1 and 2: accuracies, and what a training step costs, beside the paper's.
#include <algorithm>

#include "app/names.h"
#include "app/report.h"
#include "app/report_words.h"
#include "app/statistics.h"
#include "app/table.h"

namespace fastmax::app {
namespace {

/// Softmax first, then what the paper has, then what only we have.
const std::vector<std::string>& table_attentions() {
  static const std::vector<std::string> names = {"softmax",  "fastmax2", "fastmax1", "fastmax4",
                                                 "informer", "reformer", "linear",   "performer"};
  return names;
}

/// Attentions that the plan has in any of the folders, or the paper in the row.
std::vector<std::string> rows_of(const Results& results, const std::vector<std::string>& folders,
                                 const std::map<std::string, PaperNumbers::Row>& printed) {
  std::vector<std::string> rows;
  for (const std::string& attention : table_attentions()) {
    bool wanted = printed.contains(attention);
    for (const std::string& folder : folders) {
      const auto planned = results.attentions(folder);
      wanted = wanted || std::find(planned.begin(), planned.end(), attention) != planned.end();
    }
    if (wanted) rows.push_back(attention);
  }
  return rows;
}

std::string printed_cell(const std::map<std::string, PaperNumbers::Row>& printed,
                         const std::string& attention, const std::string& task,
                         const char* pattern) {
  const auto row = printed.find(attention);
  if (row == printed.end() || !row->second.contains(task)) return "";
  return " (" + formatted(pattern, row->second.at(task)) + ")";
}

/// "ListOps", or of a set that is not the paper's: "Retrieval (AAN-proxy)".
std::string named_task(const Results& results, const std::string& task) {
  return with_data(results, heading_of(task), task);
}

std::string paper_table(const Results& results) {
  std::vector<Column> columns = {{"attention", Align::kLeft}};
  for (const std::string& task : paper_tasks()) columns.push_back({named_task(results, task)});
  columns.push_back({"mean"});
  Table table(columns);
  const auto& printed = results.paper().accuracy;
  for (const std::string& attention : rows_of(results, {}, printed)) {
    std::vector<std::string> cells = {attention};
    std::vector<double> means;
    for (const std::string& task : paper_tasks()) {
      const auto accuracies = values_at(results.runs(task, attention), "/test/accuracy");
      if (!accuracies.empty()) means.push_back(mean(accuracies));
      cells.push_back(percent_cell(accuracies) + printed_cell(printed, attention, task, "%.2f"));
    }
    cells.push_back((means.size() == paper_tasks().size() ? percent_cell({mean(means)}) : "-") +
                    printed_cell(printed, attention, "average", "%.2f"));
    table.row(std::move(cells));
  }
  return table.markdown();
}

/// What needs no model: the floor under the accuracies.
std::string baselines(const Results& results, const std::vector<std::string>& folders) {
  std::vector<std::string> lines;
  for (const std::string& folder : folders) {
    const auto runs = results.runs_of({folder});
    if (runs.empty() || !runs[0].result.contains("baselines")) continue;
    std::string line = named_task(results, folder) + ": ";
    const char* between = "";
    for (const auto& [name, accuracy] : runs[0].result.at("baselines").items()) {
      line += between + name + " " + formatted("%.1f", 100 * accuracy.get<double>());
      between = ", ";
    }
    lines.push_back(line);
  }
  return lines.empty() ? "" : "Without any model:\n\n" + bullets(lines) + "\n";
}

std::string percent_right(const std::vector<FinishedRun>& runs) {
  return percent_cell(values_at(runs, "/test/accuracy"));
}

std::string bits_a_byte(const std::vector<FinishedRun>& runs) {
  return mean_cell(values_at(runs, "/test/bits_per_byte"), 3);
}

/// Runs of one recipe with different settings side by side: folders and what their columns are called. Rows are what the last has.
std::string settings_table(const Results& results,
                           const std::vector<std::pair<std::string, std::string>>& folders,
                           std::string (*cell)(const std::vector<FinishedRun>&)) {
  std::vector<Column> columns = {{"attention", Align::kLeft}};
  for (const auto& [folder, name] : folders) columns.push_back({name});
  Table table(columns);
  for (const std::string& attention : rows_of(results, {folders.back().first}, {})) {
    std::vector<std::string> cells = {attention};
    for (const auto& [folder, name] : folders) {
      cells.push_back(cell(results.runs(folder, attention)));
    }
    table.row(std::move(cells));
  }
  return table.markdown();
}

// ---- Table 2 ----

/// What is shown of a timing's row; "" hides the cell.
using Cell = std::string (*)(const Results&, const std::string& name, const std::string& attention);

double rate(const Results& results, const std::string& name, const std::string& attention) {
  const auto& row = results.speed(name, attention);
  return row.is_null() ? 0 : row.at("steps_per_second").get<double>();
}

std::string not_timed(const Results& results, const std::string& name,
                      const std::string& attention) {
  return results.out_of_memory(name, attention) ? "out of memory" : kNotRun;
}

std::string rate_cell(const Results& results, const std::string& name,
                      const std::string& attention) {
  const double ours = rate(results, name, attention), softmax = rate(results, name, "softmax");
  if (ours == 0) return not_timed(results, name, attention);
  return short_number(ours) + (softmax > 0 ? " (" + formatted("%.2f", ours / softmax) + "x)" : "");
}

std::string memory_cell(const Results& results, const std::string& name,
                        const std::string& attention) {
  const auto& row = results.speed(name, attention);
  return row.is_null() ? not_timed(results, name, attention)
                       : short_bytes(row.at("peak_memory_bytes").get<double>());
}

std::string paper_rate_cell(const Results& results, const std::string& task,
                            const std::string& attention) {
  const auto& printed = results.paper().speed;
  const auto row = printed.find(attention);
  if (row == printed.end() || !row->second.contains(task)) return "";
  const double steps = row->second.at(task);
  return short_number(steps) + " (" + formatted("%.2f", steps / printed.at("softmax").at(task)) +
         "x)";
}

std::string speed_table(const Results& results, const std::string& prefix,
                        const std::vector<std::string>& attentions, Cell cell) {
  std::vector<Column> columns = {{"attention", Align::kLeft}};
  for (const std::string& task : paper_tasks()) {
    const std::string heading = heading_of(task);
    const bool printed = cell == paper_rate_cell;  // of the paper's own data
    columns.push_back({printed ? heading : with_data(results, heading, prefix + task)});
  }
  Table table(columns);
  for (const std::string& attention : attentions) {
    std::vector<std::string> cells = {attention};
    for (const std::string& task : paper_tasks())
      cells.push_back(cell(results, prefix + task, attention));
    table.row(std::move(cells));
  }
  return table.markdown();
}

}  // namespace

void add_accuracy_tables(const Results& results, Publication& publication) {
  const std::vector<std::string> beginnings = {"text",
                                               "text-rate-4e-3",
                                               "text-rate-4e-3-gelu-0.2",
                                               "text-paper-relu-0.02",
                                               "text-paper",
                                               "retrieval",
                                               "retrieval-relu-0.02",
                                               "retrieval-gelu-0.2",
                                               "pathfinder",
                                               "pathfinder-relu-0.02",
                                               "pathfinder-gelu-0.02"};
  std::vector<std::pair<std::string, std::string>> by_beginning;
  for (const std::string& folder : beginnings) by_beginning.push_back({folder, "`" + folder + "`"});
  const std::vector<std::string> ours = {"mnist", "shakespeare", "shakespeare-without-convolution",
                                         "shakespeare-rotary"};
  std::vector<std::string> all = paper_tasks();
  for (const std::string& folder : beginnings) add_once(all, folder);
  all.insert(all.end(), ours.begin(), ours.end());
  publication.texts["table1.md"] =
      "# Table 1: accuracy\n\n"
      "Percent right on the test part: ours, mean and sample deviation over seeds where there are "
      "several, and in parentheses the "
      "paper's (" +
      results.paper().accuracy_source + ").\n\n" + paper_table(results) + "\n" +
      baselines(results, paper_tasks()) + bullets(results.paper().accuracy_notes) +
      "\n## What a classifier begins with\n\nPercent right on the test part, by the names of the "
      "runs, whose settings are below. The Arena's code has embeddings of 0.02 and a classifier "
      "with units of relu; so have the runs whose names say nothing else, but for `text-paper` and "
      "`pathfinder`, which have 0.2 and gelu, and `retrieval`, which has 0.2.\n\n" +
      settings_table(results, by_beginning, percent_right) +
      "\n## MNIST\n\nPercent right on the test part; the paper gives no number.\n\n" +
      settings_table(results, {{"mnist", "MNIST"}}, percent_right) + "\n" +
      baselines(results, {"mnist"}) +
      "## TinyShakespeare\n\nA language model of bytes, on the last tenth of the plays; the paper "
      "gives no number.\n\n" +
      settings_table(results,
                     {{"shakespeare", "with the convolution: bits a byte"},
                      {"shakespeare-without-convolution", "without: bits a byte"},
                      {"shakespeare-rotary", "without, rotary positions: bits a byte"}},
                     bits_a_byte) +
      "\n## How\n\n" + how_run(results, all);
}

void add_speed_tables(const Results& results, Publication& publication) {
  const auto attentions = rows_of(results, {}, results.paper().accuracy),
             printed = rows_of(results, {}, results.paper().speed);
  std::vector<std::string> names;
  for (const char* prefix : {"paper-", "paper-dropout-", ""}) {
    for (const std::string& task : paper_tasks()) names.push_back(prefix + task);
  }
  publication.texts["table2.md"] =
      "# Table 2: training steps a second, and memory\n\n"
      "In parentheses: times softmax of the same column.\n\n"
      "## Ours, at the paper's sizes\n\nNo attention dropout, which would take softmax off its "
      "fused kernel.\n\n" +
      speed_table(results, "paper-", attentions, rate_cell) + "\nPeak memory:\n\n" +
      speed_table(results, "paper-", attentions, memory_cell) +
      "\n## Ours, with the paper's attention dropout of 0.1\n\n" +
      speed_table(results, "paper-dropout-", printed, rate_cell) + "\n## The paper's\n\n" +
      results.paper().speed_source + ".\n\n" + speed_table(results, "", printed, paper_rate_cell) +
      "\n" + bullets(results.paper().speed_notes) + "\n## Ours, at the sizes of Table 1\n\n" +
      speed_table(results, "", attentions, rate_cell) + "\nPeak memory:\n\n" +
      speed_table(results, "", attentions, memory_cell) + "\n## How\n\n" +
      how_timed(results, names);
}

}  // namespace fastmax::app
