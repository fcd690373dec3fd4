// `fastmax eval`: a run's best model on the validation or test part.
#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "app/commands.h"
#include "app/error.h"
#include "app/evaluate.h"
#include "app/run_dir.h"
#include "app/signals.h"
#include "app/table.h"

namespace fastmax::app {
namespace {

struct EvalOptions {
  std::string run, split = "test";
  int threads = 0;
  bool json = false;
};

void run(const EvalOptions& options) {
  const Split split = parse_split(options.split);
  const Trained trained = load_run(options.run);
  const std::unique_ptr<Task> task = load_task(trained.recipe);
  if (options.threads > 0) at::set_num_threads(options.threads);
  const StopRequest listening;
  const auto score = evaluate(*trained.model, *task, split);
  if (!score) throw Interrupted(StopRequest::pending(), "stopped before the end, no result");
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
  command->add_option("--threads", options->threads, "cores to use (default: all)")
      ->check(CLI::Range(1, 4096));
  command->add_flag("--json", options->json, "print the result as JSON");
  command->callback([options] { run(*options); });
}

}  // namespace fastmax::app
