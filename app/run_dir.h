// A run directory: everything a training run leaves, in files that scripts rely on.
//
//   recipe.toml          the recipe, fully resolved; trains the same model again
//   metrics.jsonl        one JSON object a line: step, seconds, train_loss, ...
//   checkpoint/          the last state, enough to go on bit for bit
//   model.safetensors    the weights that did best on validation
//   result.json          written last: a run with it is finished
#pragma once
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "app/model.h"
#include "app/recipe.h"

namespace fastmax::app {

class RunDir {
 public:
  /// FOLDER, or FOLDER/ as a shell completes it.
  explicit RunDir(const std::filesystem::path& path)
      : path_(path.has_filename() ? path : path.parent_path()) {}

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path recipe() const { return path_ / "recipe.toml"; }
  std::filesystem::path metrics() const { return path_ / "metrics.jsonl"; }
  std::filesystem::path checkpoint() const { return path_ / "checkpoint" / "last.safetensors"; }
  std::filesystem::path weights() const { return path_ / "model.safetensors"; }
  std::filesystem::path result() const { return path_ / "result.json"; }

  /// Throws UsageError when this is no run directory.
  void require_started() const;
  bool started() const { return std::filesystem::exists(recipe()); }
  bool finished() const { return std::filesystem::exists(result()); }

  /// The lines of metrics.jsonl; a last line that broke off is left out. Throws UsageError, as read_result does, where the
  /// file is damaged.
  std::vector<nlohmann::ordered_json> read_metrics() const;
  nlohmann::ordered_json read_result() const;
  /// What must be said of the data of a finished run (Task::data_name); "": nothing.
  std::string data_name() const;

 private:
  std::filesystem::path path_;
};

/// A run directory before its first step; it appears whole. Throws UsageError when another process was first.
void make_run_dir(const RunDir& run, const Recipe& recipe);

/// Held while a run writes: a second process that wants the same directory is refused (UsageError).
class RunLock {
 public:
  explicit RunLock(const RunDir& run);
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;
  ~RunLock();

 private:
  int descriptor_;
};

/// The model a recipe describes.
ModelConfig model_config(const Recipe& recipe);

/// A run's recipe and its best model.
struct Trained {
  Recipe recipe;
  std::unique_ptr<Model> model;
};
/// Throws UsageError when `path` is no run directory or has no weights yet.
Trained load_run(const std::filesystem::path& path);

}  // namespace fastmax::app
