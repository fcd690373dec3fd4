// `fastmax plot`: learning curves of runs in one picture.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "app/commands.h"
#include "app/curves.h"

namespace fastmax::app {
namespace {

struct PlotOptions {
  std::vector<std::string> runs;
  std::string out, x = "step", y = "train_loss";
};

void run(const PlotOptions& options) {
  require_plot(options.out);
  std::vector<RunDir> runs;
  for (const std::string& folder : options.runs) runs.emplace_back(folder);
  line_plot(curves(group_by_seed(runs), options.x, options.y), options.out);
  std::cout << "written to " << options.out << ", with its data as csv beside\n";
}

}  // namespace

void add_plot(CLI::App& app) {
  auto options = std::make_shared<PlotOptions>();
  CLI::App* command = app.add_subcommand(
      "plot", "learning curves of runs; those that differ in their seed alone become one");
  command->add_option("RUN_DIR", options->runs, "what `fastmax train` wrote")->required();
  command->add_option("--out", options->out, "FILE.svg or FILE.png, with its data as csv beside")
      ->type_name("FILE")
      ->required();
  command->add_option("--x", options->x, "step or seconds")
      ->check(CLI::IsMember({"step", "seconds"}))
      ->capture_default_str();
  command->add_option("--y", options->y, "train_loss, val_loss or val_accuracy")
      ->check(CLI::IsMember({"train_loss", "val_loss", "val_accuracy"}))
      ->capture_default_str();
  command->callback([options] { run(*options); });
}

}  // namespace fastmax::app
