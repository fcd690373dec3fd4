// `fastmax generate`: text from a run's language model, one byte after the other.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "app/commands.h"
#include "app/error.h"
#include "app/random.h"
#include "app/run_dir.h"
#include "app/signals.h"
#include "app/utf8.h"

namespace fastmax::app {
namespace {

struct GenerateOptions {
  std::string run, prompt;
  std::int64_t tokens = 200, top_k = 0, seed = 0;
  double temperature = 1;
  bool json = false;
};

// The next byte, drawn from softmax(logits / temperature) over the top_k likeliest; the likeliest
// itself at temperature 0.
std::int64_t draw(at::Tensor logits, const GenerateOptions& options, Random& random) {
  if (options.temperature == 0) return logits.argmax().item<std::int64_t>();
  if (options.top_k > 0 && options.top_k < logits.numel()) {
    const at::Tensor least = std::get<0>(logits.topk(options.top_k)).min();
    logits = logits.masked_fill(logits < least, -std::numeric_limits<double>::infinity());
  }
  const at::Tensor weights =
      at::softmax((logits - logits.max()).to(at::kDouble) / options.temperature, 0);
  const at::Tensor sums = weights.cumsum(0);
  const double x = random.uniform() * sums[-1].item<double>();
  const std::int64_t byte = (sums <= x).sum().item<std::int64_t>();
  return std::min(byte, logits.numel() - 1);
}

void run(const GenerateOptions& options) {
  const Trained trained = load_run(options.run);
  const Model& model = *trained.model;
  if (model.config().classes > 0) {
    throw UsageError("expected a run that learnt text, " + options.run + " is one of " +
                     trained.recipe.task);
  }
  const c10::AutoGradMode no_gradient(false);
  const StopRequest listening;
  Random random(static_cast<std::uint64_t>(options.seed));
  // A model of text needs something before the first byte: the end of a line says nothing of what
  // follows.
  std::string context = options.prompt.empty() ? "\n" : options.prompt;
  std::string text;
  Utf8Filter printable;
  std::int64_t written = 0;
  if (!options.json) std::cout << options.prompt << std::flush;
  while (written < options.tokens && !StopRequest::pending()) {
    const std::size_t window = static_cast<std::size_t>(model.config().length);
    if (context.size() > window) context.erase(0, context.size() - window);
    const at::Tensor tokens =
        at::from_blob(context.data(), {1, static_cast<std::int64_t>(context.size())}, at::kByte)
            .to(at::kLong);
    const at::Tensor logits = model.forward(tokens, {}, /*training=*/false)[0][-1];
    const char byte = static_cast<char>(draw(logits, options, random));
    context += byte;
    ++written;
    const std::string characters = printable.feed(byte);
    text += characters;
    if (!options.json) std::cout << characters << std::flush;
  }
  const std::string rest = printable.finish();
  text += rest;
  if (!options.json) {
    std::cout << rest << std::endl;
  } else {
    const nlohmann::ordered_json result = {{"prompt", options.prompt},
                                           {"text", text},
                                           {"tokens", written},
                                           {"temperature", options.temperature},
                                           {"seed", options.seed}};
    using nlohmann::ordered_json;
    std::cout << result.dump(2, ' ', false, ordered_json::error_handler_t::replace) << "\n";
  }
  if (StopRequest::pending()) throw Interrupted(StopRequest::pending(), "stopped before the end");
}

}  // namespace

void add_generate(CLI::App& app) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = app.add_subcommand("generate", "write text with a run's best model");
  command->add_option("RUN_DIR", options->run, "what `fastmax train` wrote")->required();
  command->add_option("--prompt", options->prompt, "what the text begins with")->required();
  command->add_option("--tokens", options->tokens, "bytes to write")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 30))
      ->capture_default_str();
  command->add_option("--temperature", options->temperature, "0 takes the likeliest byte each time")
      ->check(CLI::Range(0.0, 1e3))
      ->capture_default_str();
  command->add_option("--top-k", options->top_k, "draw among the K likeliest bytes only; 0: all")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{256}))
      ->capture_default_str();
  command->add_option("--seed", options->seed, "another seed, another text")->capture_default_str();
  command->add_flag("--json", options->json, "print one JSON document");
  command->callback([options] { run(*options); });
}

}  // namespace fastmax::app
