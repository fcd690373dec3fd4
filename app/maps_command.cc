// `fastmax maps`: attention maps of a run's best model.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <memory>

#include "app/commands.h"
#include "app/error.h"
#include "app/files.h"
#include "app/maps.h"
#include "app/run_dir.h"

namespace fastmax::app {
namespace {

struct MapsOptions {
  std::string run, split = "test", out;
  std::int64_t layer = -1, head = -1, example = 0;
};

void run(const MapsOptions& options) {
  const bool csv_alone = std::filesystem::path(options.out).extension() == ".csv";
  if (!csv_alone) require_plot(options.out);
  const Split split = parse_split(options.split);
  const Trained trained = load_run(options.run);
  const std::unique_ptr<Task> task = load_task(trained.recipe);
  const auto maps = attention_maps(*trained.model, one_sequence(*task, split, options.example),
                                   options.layer, options.head);
  if (csv_alone) {
    write_file(options.out, maps_csv(maps));
  } else {
    write_drawing(maps_drawing(maps), options.out);
  }
  std::cout << "sequence " << options.example << " of the " << options.split << " part, "
            << maps[0].weights.size(0) << " tokens: " << maps.size()
            << (maps.size() == 1 ? " map" : " maps") << " written to " << options.out << "\n";
}

}  // namespace

void add_maps(CLI::App& app) {
  auto options = std::make_shared<MapsOptions>();
  CLI::App* command =
      app.add_subcommand("maps", "attention maps of a run's best model, as they were applied");
  command->add_option("RUN_DIR", options->run, "what `fastmax train` wrote")->required();
  command->add_option("--layer", options->layer, "from 0 (default: all)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--head", options->head, "from 0 (default: all)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--example", options->example, "which sequence, from 0, in order of length")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--split", options->split, "val or test")->capture_default_str();
  command
      ->add_option("--out", options->out,
                   "FILE.png or FILE.svg with its csv beside, or FILE.csv alone")
      ->type_name("FILE")
      ->required();
  command->callback([options] { run(*options); });
}

}  // namespace fastmax::app
