// `fastmax export`: runs in the form that other programs show. TensorBoard's own package writes its files, so this part needs a
// Python.
#include <CLI/CLI.hpp>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>

#include "app/commands.h"
#include "app/error.h"
#include "app/run_dir.h"
#include "app/subprocess.h"

namespace fastmax::app {
namespace fs = std::filesystem;
namespace {

struct ExportOptions {
  std::vector<std::string> runs;
  std::string out = "runs/tensorboard";
};

/// $FASTMAX_PYTHON, else the checkout's, else python3. Throws WorkError without one.
std::string find_python() {
  if (const char* chosen = std::getenv("FASTMAX_PYTHON"); chosen && *chosen) return chosen;
  const fs::path own = fs::path(own_path()).parent_path() / "../.venv/bin/python";
  if (fs::exists(own)) return own.lexically_normal().string();
  const std::string any = find_program("python3");
  if (any.empty())
    throw WorkError(
        "export tensorboard needs Python with the packages fastmax and tensorboard: there is no "
        "python3 in PATH, and FASTMAX_PYTHON names none");
  return any;
}

void require_packages(const std::string& python) {
  const Finished found = run_program(
      {python, "-c",
       "import importlib.util as u\n"
       "print(*[p for p in ('fastmax', 'tensorboard') if u.find_spec(p) is None], end='')"},
      true);
  if (found.exit_code != 0)
    throw WorkError(text("export tensorboard needs Python, and ", python, " ended with exit code ",
                         found.exit_code, ": ", found.output));
  if (!found.output.empty())
    throw WorkError(text("export tensorboard needs the Python packages fastmax and tensorboard, ",
                         python, " lacks: ", found.output,
                         " (install them there, or name another Python in FASTMAX_PYTHON)"));
}

void run(const ExportOptions& options) {
  std::vector<std::string> words = {find_python(), "-m", "fastmax.tensorboard", "--out",
                                    options.out};
  for (const std::string& folder : options.runs) {
    const RunDir dir(folder);
    dir.require_started();
    if (dir.read_metrics().empty())
      throw UsageError(text(dir.metrics().string(), ": expected metrics, got none yet"));
    words.push_back(folder);
  }
  require_packages(words[0]);
  const Finished done = run_program(words, true);
  if (done.exit_code != 0)
    throw WorkError(
        text("export tensorboard ended with exit code ", done.exit_code, ": ", done.output));
  std::cout << done.output;
}

}  // namespace

void add_export(CLI::App& app) {
  auto options = std::make_shared<ExportOptions>();
  CLI::App* command = app.add_subcommand("export", "runs in the form that other programs show");
  command->require_subcommand(1);
  CLI::App* tensorboard =
      command->add_subcommand("tensorboard", "metrics as TensorBoard reads them; needs Python");
  tensorboard->add_option("RUN_DIR", options->runs, "what `fastmax train` wrote")->required();
  tensorboard->add_option("--out", options->out, "where to, a folder a run")
      ->type_name("DIR")
      ->capture_default_str();
  tensorboard->callback([options] { run(*options); });
}

}  // namespace fastmax::app
