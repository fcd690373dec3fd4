#include "app/scaling.h"

#include <ATen/Parallel.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "app/bench.h"
#include "app/commands.h"
#include "app/error.h"
#include "app/files.h"
#include "app/info.h"
#include "app/names.h"
#include "app/option_check.h"
#include "app/plot.h"
#include "app/progress.h"
#include "app/recipe_check.h"
#include "app/scaling_point.h"
#include "app/signals.h"
#include "app/version.h"

namespace fastmax::app {
namespace {

using Json = nlohmann::ordered_json;

const Json* find(const Json& rows, const std::string& attention, std::int64_t N) {
  for (const Json& row : rows)
    if (row["attention"] == attention && row["N"] == N && !row["steps_per_second"].is_null())
      return &row;
  return nullptr;
}

Table table_of(const Json& rows, const ScalingConfig& config) {
  std::vector<Column> columns = {{"tokens"}};
  for (const char* unit : {" steps/s", " memory"})
    for (const std::string& attention : config.attention) columns.push_back({attention + unit});
  Table table(columns);
  for (const std::int64_t N : config.lengths) {
    std::vector<std::string> cells = {short_length(N)};
    const Json* baseline = find(rows, "softmax", N);
    for (const std::string& attention : config.attention) {
      const Json* row = find(rows, attention, N);
      std::string cell = row ? short_number((*row)["steps_per_second"].get<double>()) : "-";
      if (row && baseline && row != baseline)
        cell += text(" (",
                     short_number((*row)["steps_per_second"].get<double>() /
                                  (*baseline)["steps_per_second"].get<double>()),
                     "x)");
      cells.push_back(cell);
    }
    for (const std::string& attention : config.attention) {
      const Json* row = find(rows, attention, N);
      cells.push_back(row ? short_bytes((*row)["peak_memory_bytes"].get<double>()) : "-");
    }
    table.row(std::move(cells));
  }
  return table;
}

void draw(const Json& rows, const ScalingConfig& config, const std::filesystem::path& file) {
  Plot speed{.title = "training: forward, backward, update; batch 1",
             .x_label = "tokens N",
             .y_label = "steps a second",
             .log_x = true,
             .log_y = true};
  Plot memory{.title = "peak memory of training",
              .x_label = "tokens N",
              .y_label = "bytes",
              .log_x = true,
              .log_y = true,
              .y_format = "%.0s %cB",
              .legend = false};
  for (const std::string& attention : config.attention) {
    Series steps{attention, {}, {}}, bytes{attention, {}, {}};
    for (const std::int64_t N : config.lengths) {
      const Json* row = find(rows, attention, N);
      if (!row) continue;
      for (Series* series : {&steps, &bytes}) series->x.push_back(static_cast<double>(N));
      steps.y.push_back((*row)["steps_per_second"]);
      bytes.y.push_back((*row)["peak_memory_bytes"]);
    }
    speed.series.push_back(steps);
    memory.series.push_back(bytes);
  }
  line_plot({speed, memory}, 2, file.string());
}

}  // namespace

Table run_scaling(const ScalingConfig& config, const std::filesystem::path& folder) {
  for (const std::string& name : config.attention) {
    require_name("--attention", trainable_attention_names(), name);
    with_attention(config.recipe, name);
  }
  require_plot((folder / "scaling.svg").string());
  make_folder(folder);
  const StopRequest stoppable;
  Json rows = Json::array();
  bool any = false;
  {
    const auto total = static_cast<std::int64_t>(config.attention.size() * config.lengths.size());
    Progress bar("scaling", "points", total);
    for (const std::int64_t N : config.lengths) {
      for (const std::string& attention : config.attention) {
        bar.update(static_cast<std::int64_t>(rows.size()), text(attention, " N=", short_length(N)),
                   true);
        rows.push_back(measure_point(with_attention(config.recipe, attention), N, config.threads,
                                     config.seconds));
        StopRequest::stop_if_pending(
            "stopped before all lengths were measured: nothing is written");
        any = any || !rows.back()["steps_per_second"].is_null();
      }
    }
    bar.update(total, "done", true);
  }
  if (!any)
    throw WorkError(text("no length could be measured: ", rows[0]["note"].get<std::string>()));
  const Json document = {{"machine", machine_name()},
                         {"version", version()},
                         {"commit", commit()},
                         {"threads", config.threads ? config.threads : at::get_num_threads()},
                         {"recipe", write_recipe(config.recipe)},
                         {"batch", 1},
                         {"rows", rows}};
  write_file(folder / "scaling.json", document.dump(2) + "\n");
  draw(rows, config, folder / "scaling.svg");
  return table_of(rows, config);
}

void add_scaling(CLI::App& app) {
  struct Arguments {
    ScalingConfig config;
    std::string recipe, lengths = "1k,2k,..16k", out = ".";
    std::vector<std::string> settings;
  };
  auto a = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand(
      "scaling", "Measure training steps a second and peak memory against length");
  command->add_option("recipe", a->recipe,
                      "RECIPE.toml whose model is measured; default: 2 layers, 2 heads, dim 64");
  command->add_option("--set", a->settings, "key.path=value, changes the recipe");
  command->add_option("--attention", a->config.attention, "Attention names")
      ->delimiter(',')
      ->capture_default_str();
  command
      ->add_option("--lengths", a->lengths,
                   "Tokens: 1k = 1024; A,B,..C goes on with the ratio B / A up to C")
      ->capture_default_str();
  command->add_option("--threads", a->config.threads, "Threads; 0: all cores")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command->add_option("--seconds", a->config.seconds, "Time for the steps of a point")
      ->check(between(0, 3600))
      ->capture_default_str();
  command->add_option("--out", a->out, "Folder for scaling.json, scaling.svg and scaling.csv")
      ->capture_default_str();
  command->callback([a] {
    a->config.lengths = parse_lengths(a->lengths);
    if (!a->recipe.empty()) {
      a->config.recipe = read_recipe(a->recipe, a->settings);
    } else if (!a->settings.empty()) {
      throw UsageError("--set changes a recipe: expected RECIPE.toml before it, got none");
    }
    std::cout << run_scaling(a->config, a->out).terminal(colour_wanted(STDOUT_FILENO));
  });
  add_scaling_point(app);
}

}  // namespace fastmax::app
