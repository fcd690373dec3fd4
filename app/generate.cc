// `fastmax generate`: text from a run's language model, one byte after the other. context.h says
// how a text longer than the model's data.length goes on.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "app/clock.h"
#include "app/commands.h"
#include "app/context.h"
#include "app/error.h"
#include "app/names.h"
#include "app/option_check.h"
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
  bool json = false, without_state = false;
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
  if (!is_language(trained.recipe.task)) {
    throw UsageError("expected a run that learnt text, " + options.run + " is one of " +
                     trained.recipe.task);
  }
  const c10::AutoGradMode no_gradient(false);
  const StopRequest listening;
  Random random(static_cast<std::uint64_t>(options.seed));
  const bool with_state = can_keep_state(model) && !options.without_state;
  Context context(model, with_state);
  // A model of text needs something before the first byte: the end of a line says nothing of what follows.
  context.append(options.prompt.empty() ? "\n" : options.prompt);
  std::string text;
  Utf8Filter printable;
  std::int64_t written = 0;
  if (!options.json) std::cout << options.prompt << std::flush;
  const auto began = Clock::now();
  at::Tensor logits = context.next();
  const double prompt_seconds = seconds_since(began);
  if (with_state) at::set_num_threads(1);  // one byte is too little for more: they would wait
  const auto prompt_read = Clock::now();
  while (written < options.tokens && !StopRequest::pending()) {
    if (written > 0) logits = context.next();
    const char byte = static_cast<char>(draw(logits, options, random));
    context.append({&byte, 1});
    ++written;
    const std::string characters = printable.feed(byte);
    text += characters;
    if (!options.json) std::cout << characters << std::flush;
  }
  const double seconds = seconds_since(prompt_read);
  const std::string rest = printable.finish();
  text += rest;
  if (!options.json) {
    std::cout << rest << std::endl;
  } else {
    // The first byte follows from the prompt: its reading is a time of its own.
    nlohmann::ordered_json rate;
    if (written > 1) rate = static_cast<double>(written - 1) / seconds;
    const nlohmann::ordered_json result = {{"prompt", options.prompt},
                                           {"text", text},
                                           {"tokens", written},
                                           {"temperature", options.temperature},
                                           {"seed", options.seed},
                                           {"state", with_state},
                                           {"prompt_seconds", prompt_seconds},
                                           {"tokens_per_second", rate}};
    using nlohmann::ordered_json;
    std::cout << result.dump(2, ' ', false, ordered_json::error_handler_t::replace) << "\n";
  }
  StopRequest::stop_if_pending("stopped before the end");
}

}  // namespace

void add_generate(CLI::App& app) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = app.add_subcommand("generate", "write text with a run's best model");
  command->footer(
      "Fastmax keeps what it has read in a state of constant size, so a byte costs the same "
      "however "
      "long the text is.\nA model has places for data.length bytes: when they are full, the newest "
      "half stays and the text goes on from there.");
  command->add_option("RUN_DIR", options->run, "what `fastmax train` wrote")->required();
  command->add_option("--prompt", options->prompt, "what the text begins with")->required();
  command->add_option("--tokens", options->tokens, "bytes to write")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 30))
      ->capture_default_str();
  command->add_option("--temperature", options->temperature, "0 takes the likeliest byte each time")
      ->check(between(0, 1e3))
      ->capture_default_str();
  command->add_option("--top-k", options->top_k, "draw among the K likeliest bytes only; 0: all")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{256}))
      ->capture_default_str();
  command->add_option("--seed", options->seed, "another seed, another text")->capture_default_str();
  command->add_flag("--no-state", options->without_state,
                    "read the whole text again for each byte, as softmax must: for comparison");
  command->add_flag("--json", options->json, "print one JSON document");
  command->callback([options] { run(*options); });
}

}  // namespace fastmax::app
