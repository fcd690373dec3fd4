#include "app/demo.h"

#include <c10/core/GradMode.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>

#include "app/commands.h"
#include "app/compare.h"
#include "app/error.h"
#include "app/files.h"
#include "app/json_file.h"
#include "app/listops_data.h"
#include "app/model.h"
#include "app/progress.h"
#include "app/recipe.h"
#include "app/run_dir.h"
#include "app/scaling.h"
#include "app/signals.h"
#include "app/table.h"
#include "app/task.h"

namespace fastmax::app {
namespace fs = std::filesystem;
namespace {

const std::vector<std::string> kAttentions = {"softmax", "fastmax2", "fastmax1"};
constexpr std::int64_t kLongestShort = 64;            // tokens of any expression of the short set
constexpr std::size_t kShortest = 10, kLongest = 24;  // tokens of an expression that is shown

struct DemoOptions {
  std::string out = "runs/demo";
  int threads = 0;
};

// A chapter's heading, bold where that is possible.
void heading(const std::string& title) {
  const bool bold = colour_wanted(1);
  std::cout << "\n" << (bold ? "\033[1m" : "") << title << (bold ? "\033[0m" : "") << "\n\n";
}

bool worth_showing(std::span<const std::uint8_t> tokens) {
  return tokens.size() >= kShortest && tokens.size() <= kLongest;
}

// The data, and a few of its questions.
void make_data(const fs::path& folder) {
  const listops::Options options = listops::short_trees();
  {
    Progress progress("making the data", "trees", options.train + options.val + options.test);
    listops::make(options, folder, [&](std::int64_t done) {
      StopRequest::stop_if_pending("stopped while making the data");
      progress.update(done, "");
    });
  }
  listops::Generator generator(options);
  for (int shown = 0; shown < 3;) {
    const auto tokens = generator.next();
    if (!worth_showing(tokens)) continue;
    std::cout << "  " << listops::readable(tokens) << "  =  " << listops::evaluate(tokens) << "\n";
    ++shown;
  }
  std::cout << "\n"
            << options.train << " of them to learn from, " << options.test
            << " to be tested on, made by the built-in generator.\n";
}

// What each model says to a few expressions that none has seen.
Table answers(const fs::path& out, const fs::path& data) {
  const Examples test = listops::read_tsv(data / listops::kFiles[2], kLongestShort);
  std::vector<Column> columns = {{"an expression of the test", Align::kLeft}, {"value"}};
  std::vector<Model> models;
  for (const std::string& attention : kAttentions) {
    columns.push_back({attention});
    models.push_back(std::move(*load_run(out / (attention + "-seed1")).model));
  }
  const c10::AutoGradMode no_gradient(false);
  Table table(columns);
  for (std::int64_t i = 0, shown = 0; i < test.size() && shown < 6; ++i) {
    if (!worth_showing(test[i])) continue;
    const std::vector<std::int64_t> tokens(test[i].begin(), test[i].end());
    const at::Tensor batch = at::tensor(tokens).unsqueeze(0);
    std::vector<std::string> row = {listops::readable(test[i]), std::to_string(test.labels[i])};
    for (const Model& model : models) {
      const auto said = model.forward(batch, {}, /*training=*/false).argmax().item<std::int64_t>();
      row.push_back(std::to_string(said) + (said == test.labels[i] ? "  ✓" : "  ✗"));
    }
    table.row(std::move(row));
    ++shown;
  }
  return table;
}

void print_files(const fs::path& out) {
  heading("Written to " + out.string());
  Table files({{"", Align::kLeft}, {"", Align::kLeft}});
  files.row({"table.md, table.json", "the comparison"});
  files.row({"loss.svg", "loss and accuracy while training"});
  files.row({"scaling.svg, scaling.json, scaling.md", "speed and memory against length"});
  for (const std::string& attention : kAttentions) {
    files.row({attention + "-seed1/", "the run: recipe, metrics, checkpoint, weights, result"});
  }
  files.row({"data/", "the expressions"});
  std::cout << files.terminal(colour_wanted(1));
}

void show_again(const fs::path& out) {
  const auto comparison = read_json(out / "table.json", "a table", comparison_form());
  std::cout << "The demo has run before; these are its results.\n";
  heading("What the models learnt");
  std::cout << comparison_table(comparison).terminal(colour_wanted(1));
  heading("How the cost grows with the length of a sequence");
  std::cout << read_file(out / "scaling.md", "a table");
  print_files(out);
  std::cout << "\nTo start afresh: remove " << out.string() << ", or give another --out.\n";
}

void run(const DemoOptions& options) {
  const fs::path out = options.out;
  if (fs::exists(out / "table.json") && fs::exists(out / "scaling.md")) return show_again(out);

  const StopRequest listening;  // between its parts too
  Recipe recipe = parse_recipe(demo_recipe(), "recipes/listops_short.toml");
  recipe.data.path = task_folder(out / "data", recipe).string();
  if (options.threads > 0) recipe.train.threads = options.threads;
  const Model model(model_config(recipe), /*seed=*/0);

  heading("ListOps: what is the value of a nested list?");
  make_data(recipe.data.path);

  heading("One transformer, three kinds of attention");
  std::cout << recipe.model.layers << " layers of width " << recipe.model.dim << ", "
            << recipe.model.heads << " heads, " << model.parameter_count() << " weights, "
            << recipe.train.steps << " steps of " << recipe.train.batch
            << " expressions; only the attention differs:\n"
            << "  softmax    weighs a token by exp(s), s = q.k / sqrt(D)\n"
            << "  fastmax2   by 1 + s + s^2 / 2, s = q^.k^ of the standardised q and k\n"
            << "  fastmax1   by 1 + s, s = q^.k^ / D\n\n"
            << std::flush;
  const auto comparison = compare(recipe, kAttentions, {recipe.seed}, out);
  std::cout << "\n"
            << comparison_table(comparison).terminal(colour_wanted(1)) << "\n"
            << answers(out, recipe.data.path).terminal(colour_wanted(1)) << std::flush;

  heading("How the cost grows with the length of a sequence");
  std::cout << "Training steps of the same model on one sequence of N tokens.\n\n" << std::flush;
  const Table scaling = run_scaling({.recipe = recipe, .threads = options.threads}, out);
  write_file(out / "scaling.md", scaling.markdown());
  std::cout << "\n" << scaling.terminal(colour_wanted(1));
  print_files(out);
}

}  // namespace

void add_demo(CLI::App& app) {
  auto options = std::make_shared<DemoOptions>();
  CLI::App* command = app.add_subcommand(
      "demo", "train one small transformer with softmax, fastmax2 and fastmax1, and compare");
  command->add_option("--out", options->out, "where to")->type_name("DIR")->capture_default_str();
  command->add_option("--threads", options->threads, "cores to use (default: all)")
      ->check(CLI::Range(1, 4096));
  command->callback([options] {
    try {
      run(*options);
    } catch (const Interrupted& e) {
      throw Interrupted(e.signal, "stopped; the same command goes on from here");
    }
  });
}

}  // namespace fastmax::app
