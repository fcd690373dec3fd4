#include "app/scaling_point.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "app/error.h"
#include "app/evaluate.h"
#include "app/model.h"
#include "app/optimiser.h"
#include "app/run_dir.h"
#include "app/step_cost.h"
#include "app/subprocess.h"

namespace fastmax::app {

using Json = nlohmann::ordered_json;

namespace {

constexpr std::int64_t kWarmUpLength = 64;

/// Of one example: a sequence, or two of a task of pairs.
at::Tensor random_tokens(const ModelConfig& config) {
  const std::int64_t B = config.pairs ? 2 : 1, N = config.length;
  return config.values ? at::rand({B, N, config.values})
                       : at::randint(config.vocabulary, {B, N}, at::kLong);
}

/// A model with its optimiser and one random example.
class Trainee {
 public:
  explicit Trainee(const ModelConfig& config)
      : model_(config, 1),
        optimiser_(model_.parameters(), {}, model_.rates()),
        tokens_(random_tokens(config)),
        targets_(config.classes ? at::randint(config.classes, {1}, at::kLong) : tokens_.flatten()) {
  }

  /// Forward, backward and update.
  void step() {
    cross_entropy(model_.forward(tokens_, {}, /*training=*/true), targets_).backward();
    optimiser_.step(1e-3);
  }

 private:
  Model model_;
  AdamW optimiser_;
  at::Tensor tokens_, targets_;
};

/// What the child process does. Its answer is one JSON line.
Json measure(const ModelConfig& config, double budget) {
  // Code and tables that the first step of any length pages in are not this length's memory.
  ModelConfig small = config;
  small.length = std::min(config.length, kWarmUpLength);
  Trainee(small).step();

  return measure_steps(
             [&]() -> std::function<void(std::size_t)> {
               const auto trainee = std::make_shared<Trainee>(config);
               return [trainee](std::size_t) { trainee->step(); };
             },
             /*batches=*/1, budget)
      .json();
}

}  // namespace

Json measure_point(const Recipe& recipe, std::int64_t N, int threads, double seconds) {
  const Json request = {
      {"recipe", write_recipe(recipe)}, {"N", N}, {"threads", threads}, {"seconds", seconds}};
  const Finished child = run_program({own_path(), "scaling-point", request.dump()}, false);
  Json row = {{"attention", recipe.model.attention}, {"N", N}};
  const Json answer = Json::parse(child.output, nullptr, /*allow_exceptions=*/false);
  if (child.exit_code == 0 && answer.is_object()) {
    row.update(answer);
    row["tokens_per_second"] = row["steps_per_second"].get<double>() * static_cast<double>(N);
  } else {
    row["steps_per_second"] = nullptr;
    row["note"] = child.exit_code == 137 ? std::string("killed: out of memory?")
                                         : text("ended with exit code ", child.exit_code);
  }
  return row;
}

void add_scaling_point(CLI::App& app) {
  auto request = std::make_shared<std::string>();
  CLI::App* point =
      app.add_subcommand("scaling-point", "One point, for `scaling` itself")->group("");
  point->add_option("request", *request)->required();
  point->callback([request] {
    const auto json = nlohmann::json::parse(*request);
    if (json.at("threads") > 0) at::set_num_threads(json.at("threads"));
    ModelConfig model =
        model_config(parse_recipe(json.at("recipe").get<std::string>(), "the recipe"));
    model.length = json.at("N");
    std::cout << measure(model, json.at("seconds")).dump() << "\n";
  });
}

}  // namespace fastmax::app
