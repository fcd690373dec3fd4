// `fastmax report`: the published results, from the committed ones.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "app/commands.h"
#include "app/report_plan.h"

namespace fastmax::app {
namespace {

struct ReportOptions {
  std::string results = "docs/results";
  bool todo = false;
};

void run(const ReportOptions& options) {
  const std::vector<PlannedRun> plan = read_plan(options.results);
  for (const std::string& command : commands_to_do(plan)) std::cout << command << "\n";
}

}  // namespace

void add_report(CLI::App& app) {
  auto options = std::make_shared<ReportOptions>();
  CLI::App* command = app.add_subcommand("report", "the published results from the committed ones");
  command->add_option("--results", options->results, "where both are")
      ->type_name("DIR")
      ->capture_default_str();
  command
      ->add_flag("--todo", options->todo, "print the commands that make the runs that are missing")
      ->required();
  command->callback([options] { run(*options); });
}

}  // namespace fastmax::app
