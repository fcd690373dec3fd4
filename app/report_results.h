// What the published tables and figures are made from: the committed runs, the speeds and calls that were timed apart, and the
// paper's numbers.
//
//   runs.toml                     which runs and timings there should be (report_plan.h)
//   runs/FOLDER/ATTENTION-seedS/  those that there are
//   speed/NAME.json               training steps a second (report_speed.h)
//   figure3.json                  `fastmax bench --out`
//   paper.toml                    what the paper prints
#pragma once
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "app/recipe.h"
#include "app/report_plan.h"

namespace fastmax::app {

/// A run that is there.
struct FinishedRun {
  PlannedRun plan;
  Recipe recipe;  ///< as resolved when it ran
  nlohmann::ordered_json result;
};

/// Where they are.
std::vector<RunDir> dirs_of(const std::vector<FinishedRun>& runs);

/// What the paper prints for each attention and task.
struct PaperNumbers {
  using Row = std::map<std::string, double>;
  std::filesystem::path
      recipes;  ///< the folder of its harness; paper.toml says where it is from there
  std::string accuracy_source, speed_source;
  std::map<std::string, Row> accuracy, speed;
  std::vector<std::string> accuracy_notes, speed_notes;
};

class Results {
 public:
  /// Throws UsageError naming the file that is missing or damaged, or a run whose recipe is not the plan's.
  explicit Results(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const { return folder_; }
  const std::vector<PlannedRun>& plan() const { return plan_.runs; }
  const std::vector<FinishedRun>& finished() const { return finished_; }
  const PaperNumbers& paper() const { return paper_; }

  /// Of a folder and an attention, by seed; both may have none.
  std::vector<FinishedRun> runs(const std::string& folder, const std::string& attention) const;
  /// All of them in the folders.
  std::vector<FinishedRun> runs_of(const std::vector<std::string>& folders) const;
  /// Planned attentions of a folder in order of appearance.
  std::vector<std::string> attentions(const std::string& folder) const;
  /// Planned folders that begin with `prefix`, in order.
  std::vector<std::string> folders(const std::string& prefix) const;

  /// speed/NAME.json, or null.
  const nlohmann::ordered_json& speed(const std::string& name) const;
  /// Its row of an attention, or null.
  const nlohmann::ordered_json& speed(const std::string& name, const std::string& attention) const;
  /// It was to be timed, and its process was killed: more memory than the machine has.
  bool out_of_memory(const std::string& name, const std::string& attention) const;
  /// What must be said of the data of a folder or of a timing of this name; "": its task says it.
  std::string data_of(const std::string& name) const;
  /// figure3.json, or null.
  const nlohmann::ordered_json& bench() const { return bench_; }

 private:
  /// As speed(), with or without a rate.
  const nlohmann::ordered_json& row_of(const std::string& name, const std::string& attention) const;

  std::filesystem::path folder_;
  ReportPlan plan_;
  std::vector<FinishedRun> finished_;
  PaperNumbers paper_;
  std::map<std::string, nlohmann::ordered_json> speed_;
  nlohmann::ordered_json bench_;
};

}  // namespace fastmax::app
