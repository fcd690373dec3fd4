#include "app/report_speed.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "app/clock.h"
#include "app/error.h"
#include "app/evaluate.h"
#include "app/files.h"
#include "app/info.h"
#include "app/json_file.h"
#include "app/names.h"
#include "app/progress.h"
#include "app/recipe.h"
#include "app/report_words.h"
#include "app/run_dir.h"
#include "app/sampled_batches.h"
#include "app/signals.h"
#include "app/statistics.h"
#include "app/step_cost.h"
#include "app/subprocess.h"
#include "app/task.h"
#include "app/train.h"
#include "app/version.h"

namespace fastmax::app {
namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Batch, B, N, tokens, values, lengths, targets, mask_zero)

namespace {

constexpr int kRounds = 3;
constexpr double kLongest = 40;  // seconds; no round is begun that would bring an attention beyond

/// A model of the recipe with its optimiser and batches.
class Trainee {
 public:
  Trainee(const Recipe& recipe, const std::vector<Batch>& batches)
      : batches_(batches),
        rate_(recipe.train.learning_rate),
        model_(model_config(recipe), static_cast<std::uint64_t>(recipe.seed)),
        optimiser_(model_.parameters(), optimiser_config(recipe), model_.rates()) {}

  void step(std::size_t i) {
    const Tensors batch = to_tensors(batches_[i]);
    const at::Tensor logits = model_.forward(batch.tokens, batch.key_weight, /*training=*/true);
    cross_entropy(logits, batch.targets).backward();
    optimiser_.step(rate_);
  }

 private:
  const std::vector<Batch>& batches_;
  double rate_;
  Model model_;
  AdamW optimiser_;
};

/// Pages in the code of a step, whose memory is nobody's, on two sequences.
void warm_up(const Recipe& recipe, const Batch& first) {
  const Tensors batch = to_tensors(first);
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

/// The batches of a timing where its processes find them, as long as this lives.
class BatchFile {
 public:
  explicit BatchFile(const std::vector<Batch>& batches)
      : path_(fs::temp_directory_path() / text("fastmax-batches-", ::getpid(), ".json")) {
    write_file(path_, nlohmann::json(batches).dump());
  }
  BatchFile(const BatchFile&) = delete;
  BatchFile& operator=(const BatchFile&) = delete;
  ~BatchFile() {
    std::error_code gone;
    fs::remove(path_, gone);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

Json measure_point(const PlannedSpeed& speed, const std::string& attention, const fs::path& batches,
                   double seconds) {
  const Json request = {{"recipe", write_recipe(recipe_of(speed, attention))},
                        {"batches", batches.string()},
                        {"seconds", seconds}};
  const Finished child = run_program({own_path(), "speed-point", request.dump()}, false);
  const Json answer = Json::parse(child.output, nullptr, /*allow_exceptions=*/false);
  StopRequest::stop_if_pending("stopped; the same command goes on with what is missing");
  if (child.exit_code == 137) return {{"note", "killed: out of memory?"}};
  if (child.exit_code != 0 || !answer.is_object())
    throw WorkError(text("a step of ", speed.name, " with ", attention, " ended with exit code ",
                         child.exit_code));
  return answer;
}

bool complete(const fs::path& file, const PlannedSpeed& speed) {
  if (!fs::exists(file)) return false;
  const Json document = read_json(file, "a timing", speed_form());
  return std::all_of(
      speed.attentions.begin(), speed.attentions.end(), [&](const std::string& name) {
        return std::any_of(document["rows"].begin(), document["rows"].end(),
                           [&](const Json& row) { return row["attention"] == name; });
      });
}

/// What the rounds found of an attention.
struct Found {
  std::vector<std::vector<double>> seconds;  ///< [batch][round]
  std::vector<double> memory;
  std::int64_t steps = 0;
  double spent = 0;    ///< seconds, processes and warm-ups included
  std::string failed;  ///< why there is no more

  bool has_time() const {
    const double rounds = static_cast<double>(memory.size());
    return memory.empty() || spent + spent / rounds <= kLongest;
  }
  void add(const Json& point) {
    const std::vector<double> medians = point.at("seconds");
    seconds.resize(medians.size());
    for (std::size_t i = 0; i < medians.size(); ++i) seconds[i].push_back(medians[i]);
    memory.push_back(point.at("peak_memory_bytes"));
    steps += point.at("steps").get<std::int64_t>();
  }
  StepCost cost() const {
    StepCost cost{.steps = steps,
                  .seconds = {},
                  .peak_memory_bytes = static_cast<std::int64_t>(median(memory))};
    for (const auto& rounds : seconds) cost.seconds.push_back(median(rounds));
    return cost;
  }
};

Json measure(const PlannedSpeed& speed, double seconds) {
  const std::unique_ptr<Task> task = load_task(recipe_of(speed, speed.attentions[0]));
  const SampledBatches sampled = sample_batches(*task);
  const BatchFile file(sampled.batches);
  const auto total = static_cast<std::int64_t>(kRounds * speed.attentions.size());
  Progress bar(speed.name, "points", total);
  std::int64_t done = 0;
  std::map<std::string, Found> all;
  for (int round = 0; round < kRounds; ++round) {
    for (const std::string& attention : speed.attentions) {
      bar.update(done++, attention, true);
      Found& found = all[attention];
      if (!found.failed.empty() || !found.has_time()) continue;
      const auto began = Clock::now();
      const Json point = measure_point(speed, attention, file.path(), seconds);
      found.spent += seconds_since(began);
      if (point.contains("note")) {
        found.failed = point.at("note");
      } else {
        found.add(point);
      }
    }
  }
  bar.update(total, "done", true);
  Json rows = Json::array();
  for (const std::string& attention : speed.attentions) {
    const Found& found = all[attention];
    if (!found.failed.empty()) {
      rows.push_back(
          {{"attention", attention}, {"steps_per_second", nullptr}, {"note", found.failed}});
      continue;
    }
    const StepCost cost = found.cost();
    rows.push_back({{"attention", attention},
                    {"steps", sampled.steps},
                    {"seconds", cost.seconds},
                    {"timed", cost.steps},
                    {"steps_per_second", cost.steps_per_second()},
                    {"peak_memory_bytes", cost.peak_memory_bytes}});
  }
  Json timing = {{"name", speed.name},
                 {"recipe", speed.recipe},
                 {"settings", speed.settings},
                 {"sizes", sizes_of(recipe_of(speed, speed.attentions[0]))},
                 {"threads", 1},
                 {"machine", machine_name()},
                 {"version", version()},
                 {"commit", commit()},
                 {"batch_seconds", sampled.seconds}};
  if (!task->data_name().empty()) timing["data"] = task->data_name();
  timing["rows"] = rows;
  return timing;
}

}  // namespace

Json speed_form() {
  const Json row = {{"attention", ""}, {"steps_per_second", nullptr}, {"peak_memory_bytes?", 0}};
  return {{"recipe", ""},         {"sizes", ""},   {"threads", 0},
          {"machine", ""},        {"version", ""}, {"commit", ""},
          {"batch_seconds", 0.5}, {"data?", ""},   {"rows", Json::array({row})}};
}

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
    const auto batches = nlohmann::json::parse(read_file(json.at("batches").get<std::string>(),
                                                         "the batches of a timing"))
                             .get<std::vector<Batch>>();
    warm_up(recipe, batches[0]);
    const StepCost cost = measure_steps(
        [&]() -> std::function<void(std::size_t)> {
          const auto trainee = std::make_shared<Trainee>(recipe, batches);
          return [trainee](std::size_t i) { trainee->step(i); };
        },
        batches.size(), json.at("seconds"));
    Json answer = cost.json();
    answer["seconds"] = cost.seconds;
    std::cout << answer.dump() << "\n";
  });
}

}  // namespace fastmax::app
