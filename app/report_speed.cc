#include "app/report_speed.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "app/error.h"
#include "app/evaluate.h"
#include "app/files.h"
#include "app/info.h"
#include "app/names.h"
#include "app/optimiser.h"
#include "app/progress.h"
#include "app/recipe.h"
#include "app/report_words.h"
#include "app/run_dir.h"
#include "app/signals.h"
#include "app/statistics.h"
#include "app/step_cost.h"
#include "app/subprocess.h"
#include "app/task.h"
#include "app/version.h"

namespace fastmax::app {
namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
namespace {

constexpr int kRounds = 3;

/// A model of the recipe with its optimiser and its data.
class Trainee {
 public:
  Trainee(const Recipe& recipe, Task& task)
      : task_(task),
        rate_(recipe.train.learning_rate),
        model_(model_config(recipe), static_cast<std::uint64_t>(recipe.seed)),
        optimiser_(model_.parameters(), {}, model_.rates()) {}

  void step() {
    const Tensors batch = to_tensors(task_.train_batch(step_++));
    const at::Tensor logits = model_.forward(batch.tokens, batch.key_weight, /*training=*/true);
    cross_entropy(logits, batch.targets).backward();
    optimiser_.step(rate_);
  }

 private:
  Task& task_;
  std::int64_t step_ = 0;
  double rate_;
  Model model_;
  AdamW optimiser_;
};

/// Pages in the code of a step, whose memory is nobody's, on two sequences.
void warm_up(const Recipe& recipe, Task& task) {
  const Tensors batch = to_tensors(task.train_batch(0));
  const std::int64_t few = std::min<std::int64_t>(2, batch.tokens.size(0));
  const Model model(model_config(recipe), 0);
  model
      .forward(batch.tokens.narrow(0, 0, few),
               batch.key_weight.defined() ? batch.key_weight.narrow(0, 0, few) : at::Tensor(), true)
      .sum()
      .backward();
}

Recipe recipe_of(const PlannedSpeed& speed, const std::string& attention) {
  std::vector<std::string> settings = speed.settings;
  settings.push_back("model.attention=" + attention);
  return read_recipe(speed.recipe, settings);
}

Json measure_point(const PlannedSpeed& speed, const std::string& attention, double seconds) {
  const Json request = {{"recipe", write_recipe(recipe_of(speed, attention))},
                        {"seconds", seconds}};
  const Finished child = run_program({own_path(), "speed-point", request.dump()}, false);
  const Json answer = Json::parse(child.output, nullptr, /*allow_exceptions=*/false);
  if (StopRequest::pending())
    throw Interrupted(StopRequest::pending(),
                      "stopped; the same command goes on with what is missing");
  if (child.exit_code == 137) return {{"note", "killed: out of memory?"}};
  if (child.exit_code != 0 || !answer.is_object())
    throw WorkError(text("a step of ", speed.name, " with ", attention, " ended with exit code ",
                         child.exit_code));
  return answer;
}

bool complete(const fs::path& file, const PlannedSpeed& speed) {
  if (!fs::exists(file)) return false;
  const Json document =
      Json::parse(read_file(file, "a timing"), nullptr, /*allow_exceptions=*/false);
  if (!document.is_object() || !document.contains("rows"))
    throw UsageError(file.string() + ": expected a timing of `fastmax report --speed`");
  return std::all_of(
      speed.attentions.begin(), speed.attentions.end(), [&](const std::string& name) {
        return std::any_of(document["rows"].begin(), document["rows"].end(),
                           [&](const Json& row) { return row["attention"] == name; });
      });
}

Json measure(const PlannedSpeed& speed, double seconds) {
  const auto total = static_cast<std::int64_t>(kRounds * speed.attentions.size());
  Progress bar(speed.name, "points", total);
  std::int64_t done = 0;
  std::map<std::string, std::vector<double>> rate, memory, steps;
  std::map<std::string, std::string> failed;
  for (int round = 0; round < kRounds; ++round) {
    for (const std::string& attention : speed.attentions) {
      bar.update(done++, attention, true);
      if (failed.contains(attention)) continue;
      const Json point = measure_point(speed, attention, seconds);
      if (point.contains("note")) {
        failed[attention] = point.at("note");
        continue;
      }
      rate[attention].push_back(point.at("steps_per_second"));
      memory[attention].push_back(point.at("peak_memory_bytes"));
      steps[attention].push_back(point.at("steps"));
    }
  }
  bar.update(total, "done", true);
  Json rows = Json::array();
  for (const std::string& attention : speed.attentions) {
    if (failed.contains(attention)) {
      rows.push_back(
          {{"attention", attention}, {"steps_per_second", nullptr}, {"note", failed[attention]}});
      continue;
    }
    rows.push_back({{"attention", attention},
                    {"steps", static_cast<std::int64_t>(kRounds * mean(steps[attention]))},
                    {"steps_per_second", median(rate[attention])},
                    {"peak_memory_bytes", static_cast<std::int64_t>(median(memory[attention]))}});
  }
  return {{"name", speed.name},
          {"recipe", speed.recipe},
          {"settings", speed.settings},
          {"sizes", sizes_of(recipe_of(speed, speed.attentions[0]))},
          {"threads", 1},
          {"machine", machine_name()},
          {"version", version()},
          {"commit", commit()},
          {"rows", rows}};
}

}  // namespace

std::vector<std::string> measure_speeds(const std::vector<PlannedSpeed>& speeds,
                                        const fs::path& results,
                                        const std::vector<std::string>& only, double seconds) {
  std::vector<std::string> names, written;
  for (const PlannedSpeed& speed : speeds) names.push_back(speed.name);
  for (const std::string& name : only) require_name("--only", names, name);
  const StopRequest stoppable;
  for (const PlannedSpeed& speed : speeds) {
    const bool asked =
        only.empty() || std::find(only.begin(), only.end(), speed.name) != only.end();
    const fs::path file = speed_file(results, speed.name);
    if (!asked || complete(file, speed)) continue;
    make_folder(file.parent_path());
    write_file(file, measure(speed, seconds).dump(2) + "\n");
    written.push_back(file.string());
  }
  return written;
}

void add_speed_point(CLI::App& app) {
  auto request = std::make_shared<std::string>();
  CLI::App* point =
      app.add_subcommand("speed-point", "One point, for `report --speed` itself")->group("");
  point->add_option("request", *request)->required();
  point->callback([request] {
    const Json json = Json::parse(*request);
    const Recipe recipe = parse_recipe(json.at("recipe").get<std::string>(), "the recipe");
    at::set_num_threads(1);
    const std::unique_ptr<Task> task = load_task(recipe);
    warm_up(recipe, *task);
    const StepCost cost = measure_steps(
        [&]() -> std::function<void()> {
          const auto trainee = std::make_shared<Trainee>(recipe, *task);
          return [trainee] { trainee->step(); };
        },
        json.at("seconds"));
    std::cout << cost.json().dump() << "\n";
  });
}

}  // namespace fastmax::app
