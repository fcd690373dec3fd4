#include "app/scaling_point.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <memory>

#include "app/error.h"
#include "app/evaluate.h"
#include "app/optimiser.h"
#include "app/step_cost.h"
#include "app/subprocess.h"

namespace fastmax::app {

using Json = nlohmann::ordered_json;

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ModelConfig, attention, layers, heads, dim, mlp, dropout, scale,
                                   normalize, attention_dropout, attention_dropout_mode,
                                   scale_learnable, convolution, positions, vocabulary, length,
                                   classes, pool_padded, class_token, authors_block)

namespace {

constexpr std::int64_t kWarmUpLength = 64;

/// A model with its optimiser and one sequence of random tokens.
class Trainee {
 public:
  explicit Trainee(const ModelConfig& config)
      : model_(config, 1),
        optimiser_(model_.parameters(), {}, model_.rates()),
        tokens_(at::randint(config.vocabulary, {1, config.length}, at::kLong)),
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

Json model_json(const ModelConfig& model) { return nlohmann::json(model); }

Json measure_point(const ModelConfig& model, int threads, double seconds) {
  const Json request = {{"model", model_json(model)}, {"threads", threads}, {"seconds", seconds}};
  const Finished child = run_program({own_path(), "scaling-point", request.dump()}, false);
  Json row = {{"attention", model.attention}, {"N", model.length}};
  const Json answer = Json::parse(child.output, nullptr, /*allow_exceptions=*/false);
  if (child.exit_code == 0 && answer.is_object()) {
    row.update(answer);
    row["tokens_per_second"] =
        row["steps_per_second"].get<double>() * static_cast<double>(model.length);
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
    std::cout << measure(json.at("model"), json.at("seconds")).dump() << "\n";
  });
}

}  // namespace fastmax::app
