// `fastmax eval`: a run's best model on the validation or test part.
#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "app/checkpoint.h"
#include "app/commands.h"
#include "app/error.h"
#include "app/evaluate.h"
#include "app/files.h"
#include "app/run_dir.h"
#include "app/signals.h"
#include "app/table.h"

namespace fastmax::app {
namespace fs = std::filesystem;
namespace {

struct EvalOptions {
  std::string run, split = "test", logits;
  int threads = 0;
  bool json = false;
};

// Before the work, which may be long.
void require_logits_file(const fs::path& file, const fs::path& weights) {
  if (file.extension() != ".safetensors") {
    throw UsageError(text("--logits: expected FILE.safetensors, got '", file.string(), "'"));
  }
  require_folder_of("--logits", file);
  if (fs::exists(file) && fs::exists(weights) && fs::equivalent(file, weights)) {
    throw UsageError(
        text("--logits: expected another file than the run's weights, got '", file.string(), "'"));
  }
}

struct Answers {
  std::vector<at::Tensor> logits, targets;

  void add(const Tensors& batch, const at::Tensor& of_batch) {
    logits.push_back(of_batch);
    targets.push_back(batch.targets.view(of_batch.sizes().slice(0, of_batch.dim() - 1)));
  }

  void write(const fs::path& file) const {
    const at::Tensor scores = at::cat(logits), labels = at::cat(targets);
    write_safetensors(file, {array_of("logits", scores), array_of("targets", labels)});
  }
};

void run(const EvalOptions& options) {
  const bool keep = !options.logits.empty();
  if (keep) require_logits_file(options.logits, RunDir(options.run).weights());
  const Split split = parse_split(options.split);
  const Trained trained = load_run(options.run);
  const std::unique_ptr<Task> task = load_task(trained.recipe);
  if (options.threads > 0) at::set_num_threads(options.threads);
  const StopRequest listening;
  Answers answers;
  const auto score = evaluate(*trained.model, *task, split, /*limit=*/0,
                              [&](const Tensors& batch, const at::Tensor& logits) {
                                if (keep) answers.add(batch, logits);
                              });
  if (!score) throw Interrupted(StopRequest::pending(), "stopped before the end, no result");
  if (keep) answers.write(options.logits);
  auto result = to_json(*score, trained.recipe.task, options.split);
  if (!task->data_name().empty()) result["data"] = task->data_name();
  if (options.json) {
    std::cout << result.dump(2) << "\n";
    return;
  }
  Table table({{"", Align::kLeft}, {"", Align::kLeft}});
  for (const auto& [key, value] : result.items()) {
    table.row({key, value.is_number_float() ? short_number(value)
                    : value.is_string()     ? value.get<std::string>()
                                            : value.dump()});
  }
  std::cout << table.terminal(colour_wanted(1));
}

}  // namespace

void add_eval(CLI::App& app) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App* command = app.add_subcommand("eval", "evaluate a run's best model");
  command->add_option("RUN_DIR", options->run, "what `fastmax train` wrote")->required();
  command->add_option("--split", options->split, "val or test")->capture_default_str();
  command
      ->add_option("--logits", options->logits,
                   "also write the logits and labels of all examples to FILE.safetensors")
      ->type_name("FILE");
  command->add_option("--threads", options->threads, "cores to use (default: all)")
      ->check(CLI::Range(1, 4096));
  command->add_flag("--json", options->json, "print the result as JSON");
  command->callback([options] { run(*options); });
}

}  // namespace fastmax::app
