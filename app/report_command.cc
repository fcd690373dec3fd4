// `fastmax report`: the published results, from the committed ones.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "app/commands.h"
#include "app/error.h"
#include "app/option_check.h"
#include "app/report.h"
#include "app/report_plan.h"
#include "app/report_speed.h"

namespace fastmax::app {
namespace {

struct ReportOptions {
  std::string results = "docs/results";
  bool todo = false, check = false, speed = false;
  std::vector<std::string> only;
  double seconds = 2;
};

void run(const ReportOptions& options) {
  if (options.todo) {
    for (const std::string& command : commands_to_do(read_plan(options.results).runs))
      std::cout << command << "\n";
    return;
  }
  if (options.speed) {
    for (const std::string& file : measure_speeds(read_plan(options.results).speeds,
                                                  options.results, options.only, options.seconds))
      std::cout << file << "\n";
    return;
  }
  const Results results(options.results);
  const Publication publication = make_publication(results);
  if (options.check) {
    if (const auto mismatch = first_mismatch(publication, options.results)) {
      throw WorkError(
          "a published file does not follow from the results (`fastmax report` writes it): " +
          *mismatch);
    }
    return;
  }
  for (const std::string& name : publish(publication, options.results))
    std::cout << options.results << "/" << name << "\n";
}

}  // namespace

void add_report(CLI::App& app) {
  auto options = std::make_shared<ReportOptions>();
  CLI::App* command =
      app.add_subcommand("report", "the published tables and figures, from the committed results");
  command->add_option("--results", options->results, "where both are")
      ->type_name("DIR")
      ->capture_default_str();
  CLI::Option* check = command->add_flag("--check", options->check,
                                         "write nothing, fail if a published file does not follow");
  CLI::Option* todo = command->add_flag("--todo", options->todo,
                                        "print the commands that make the runs that are missing");
  CLI::Option* speed =
      command->add_flag("--speed", options->speed,
                        "measure the training speeds that are missing, on a quiet machine");
  todo->excludes(check)->excludes(speed);
  speed->excludes(check);
  command->add_option("--only", options->only, "of the speeds, these names")
      ->delimiter(',')
      ->needs(speed);
  command
      ->add_option("--seconds", options->seconds, "of steps, for each attention and round of three")
      ->check(between(1e-3, 3600))
      ->capture_default_str();
  command->callback([options] { run(*options); });
  add_speed_point(app);
}

}  // namespace fastmax::app
