#include "app/run_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "app/checkpoint.h"
#include "app/error.h"
#include "app/files.h"
#include "app/json_file.h"
#include "app/task.h"

namespace fastmax::app {
namespace {

constexpr const char* kResult = "the result of a run";

nlohmann::ordered_json line_form() {
  return {{"step", 0},        {"seconds", 0.5},      {"train_loss", 0.5}, {"steps_per_second", 0.5},
          {"val_loss?", 0.5}, {"val_accuracy?", 0.5}};
}

nlohmann::ordered_json result_form() {
  const nlohmann::ordered_json score = {{"loss", 0.5}, {"accuracy", 0.5}, {"bits_per_byte?", 0.5}};
  return {{"task", ""},
          {"attention", ""},
          {"seed", 0},
          {"steps", 0},
          {"val", score},
          {"test", score},
          {"steps_per_second", 0.5},
          {"peak_memory_bytes", 0},
          {"parameters", 0},
          {"threads", 0},
          {"machine", ""},
          {"version", ""},
          {"commit", ""},
          {"baselines?", {{"*", 0.5}}},
          {"data?", ""}};
}

}  // namespace

void RunDir::require_started() const {
  if (!started()) {
    throw UsageError("expected a run directory, " + path_.string() + " has no recipe.toml");
  }
}

std::vector<nlohmann::ordered_json> RunDir::read_metrics() const {
  std::vector<nlohmann::ordered_json> lines;
  const std::string bytes = read_file(metrics(), "the metrics of a run");
  std::string_view left = bytes;
  for (std::size_t end; (end = left.find('\n')) != std::string_view::npos;) {
    const std::string place = text(metrics().string(), ":", lines.size() + 1);
    lines.push_back(parse_json(left.substr(0, end), place, line_form()));
    left.remove_prefix(end + 1);
  }
  return lines;
}

nlohmann::ordered_json RunDir::read_result() const {
  return read_json(result(), kResult, result_form());
}

std::string RunDir::data_name() const {
  return finished() ? read_json(result(), kResult, {{"data?", ""}}).value("data", "") : "";
}

RunLock::RunLock(const RunDir& run)
    : descriptor_(::open(run.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (descriptor_ < 0) {
    throw WorkError("cannot open " + run.path().string() + ": " + std::strerror(errno));
  }
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    ::close(descriptor_);
    throw UsageError("expected a run directory that nobody is writing, another process trains in " +
                     run.path().string());
  }
}

RunLock::~RunLock() { ::close(descriptor_); }

void make_run_dir(const RunDir& run, const Recipe& recipe) {
  const std::filesystem::path parent = run.path().parent_path();
  if (!parent.empty()) make_folder(parent);
  NewFolder folder(run.path());
  const RunDir made(folder.path());
  make_folder(made.checkpoint().parent_path());
  write_file(made.recipe(), write_recipe(recipe));
  write_file(made.metrics(), "");
  if (!folder.commit()) {
    throw UsageError("expected a new folder for the run, another process just made " +
                     run.path().string());
  }
}

ModelConfig model_config(const Recipe& recipe) {
  const TaskShape shape = task_shape(recipe);
  return {.attention = recipe.model.attention,
          .layers = recipe.model.layers,
          .heads = recipe.model.heads,
          .dim = recipe.model.dim,
          .mlp = recipe.model.mlp,
          .dropout = recipe.model.dropout,
          .embedding_std = recipe.model.embedding_std,
          .scale = recipe.model.scale,
          .normalize = recipe.model.normalize,
          .attention_dropout = recipe.model.attention_dropout,
          .attention_dropout_mode = recipe.model.attention_dropout_mode,
          .scale_learnable = recipe.model.scale_learnable,
          .convolution = recipe.model.convolution,
          .positions = recipe.model.positions,
          .vocabulary = shape.vocabulary,
          .values = shape.values,
          .length = recipe.data.length,
          .classes = shape.classes,
          .pairs = shape.pairs,
          .pool_padded = recipe.model.pool == "padded",
          .class_token = recipe.model.pool == "class",
          .gelu_classifier = recipe.model.classifier == "gelu",
          .authors_block = recipe.model.block == "authors"};
}

Trained load_run(const std::filesystem::path& path) {
  const RunDir run(path);
  run.require_started();
  if (!std::filesystem::exists(run.weights())) {
    throw UsageError("expected a trained run, " + path.string() +
                     " has no model.safetensors yet (it comes with the first evaluation)");
  }
  Trained trained{.recipe = read_recipe(run.recipe().string()), .model = nullptr};
  trained.model = std::make_unique<Model>(model_config(trained.recipe), /*seed=*/0);
  load_weights(run.weights(), *trained.model);
  return trained;
}

}  // namespace fastmax::app
