#include "app/train.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "app/checkpoint.h"
#include "app/clock.h"
#include "app/error.h"
#include "app/evaluate.h"
#include "app/files.h"
#include "app/info.h"
#include "app/memory.h"
#include "app/names.h"
#include "app/prefetch.h"
#include "app/progress.h"
#include "app/random.h"
#include "app/run_dir.h"
#include "app/signals.h"
#include "app/subprocess.h"
#include "app/table.h"
#include "app/version.h"

namespace fastmax::app {
namespace fs = std::filesystem;
namespace {

std::string fixed(double x, int digits) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, "%.*f", digits, x);
  return buffer;
}

// Dropout draws from a generator that is seeded anew each step, so that step s is a function of s alone.
std::uint64_t draws_seed(const Recipe& recipe, std::int64_t step) {
  return Random(static_cast<std::uint64_t>(recipe.seed), static_cast<std::uint64_t>(~step)).next();
}

class Run {
 public:
  Run(const Recipe& recipe, const RunDir& dir, Task& task, const std::string& label,
      Profile* profile)
      : recipe_(recipe),
        dir_(dir),
        task_(task),
        batches_(task, recipe.train.steps),
        model_(model_config(recipe), static_cast<std::uint64_t>(recipe.seed)),
        optimiser_(model_.parameters(), optimiser_config(recipe), model_.rates()),
        profile_(profile),
        label_(label) {}

  // From the checkpoint, if there is one yet. What was reported after it will be reported again.
  void resume() {
    remove_leftovers(dir_.path());
    remove_leftovers(dir_.checkpoint().parent_path());
    if (fs::exists(dir_.checkpoint())) {
      state_ = load_checkpoint(dir_.checkpoint(), model_, optimiser_);
    }
    std::string kept;
    for (const auto& line : dir_.read_metrics()) {
      if (line.at("step").get<std::int64_t>() <= state_.reported) kept += line.dump() + "\n";
    }
    write_file(dir_.metrics(), kept);
  }

  nlohmann::ordered_json operator()() {
    const StopRequest listening;
    reset_peak_memory();
    Progress progress(label_, "steps", recipe_.train.steps, state_.step);
    saved_ = Clock::now();
    for (;;) {
      if (due_for_report()) {
        if (due_for_evaluation()) save();
        if (!report(progress)) stop();
      }
      if (StopRequest::pending()) stop();
      if (state_.step == recipe_.train.steps || accurate_enough()) break;
      step();
      progress.update(state_.step, note_);
      if (seconds_since(saved_) >= recipe_.train.checkpoint_seconds) save();
    }
    return finish();
  }

 private:
  void step() {
    const auto began = Clock::now();
    const Tensors batch = to_tensors(batches_.batch(state_.step));
    if (profile_) profile_->begin(seconds_since(began));
    at::manual_seed(draws_seed(recipe_, state_.step));  // of dropout and of what rivals draw
    const at::Tensor logits = model_.forward(batch.tokens, batch.key_weight, /*training=*/true);
    const at::Tensor loss = cross_entropy(logits, batch.targets);
    loss.backward();
    optimiser_.step(learning_rate(recipe_.train, state_.step), beta1(recipe_.train, state_.step));
    const double value = loss.item<double>();
    if (profile_) profile_->end();
    ++state_.step;
    if (!std::isfinite(value)) {
      throw WorkError(text("the loss of step ", state_.step, " is ", value,
                           ": a smaller train.learning_rate may help; the last checkpoint in ",
                           dir_.path().string(), " is from before it"));
    }
    const std::int64_t tokens = batch.key_weight.defined()
                                    ? batch.key_weight.sum().item<std::int64_t>()
                                    : batch.tokens.size(0) * batch.tokens.size(1);
    const double seconds = seconds_since(began);
    state_.seconds += seconds;
    state_.window.steps += 1;
    state_.window.tokens += tokens;
    state_.window.loss += value;
    state_.window.seconds += seconds;
  }

  bool due_for_evaluation() const {
    const std::int64_t every = recipe_.train.evaluate_every;
    return state_.step == recipe_.train.steps || (every > 0 && state_.step % every == 0);
  }
  bool due_for_report() const {
    return state_.step > state_.reported &&
           (due_for_evaluation() || state_.step % recipe_.train.log_every == 0);
  }

  // One line of metrics.jsonl. False when an evaluation was asked to stop: nothing is reported then.
  bool report(Progress& progress) {
    const auto& window = state_.window;
    const double loss = window.loss / static_cast<double>(window.steps);
    nlohmann::ordered_json line = {
        {"step", state_.step},
        {"seconds", state_.seconds},
        {"train_loss", loss},
        {"learning_rate", learning_rate(recipe_.train, state_.step - 1)},
        {"steps_per_second", static_cast<double>(window.steps) / window.seconds},
        {"tokens_per_second", static_cast<double>(window.tokens) / window.seconds}};
    const bool evaluation = due_for_evaluation();
    if (evaluation) {
      const auto score = evaluate(model_, task_, Split::kVal, recipe_.train.evaluate_examples);
      if (!score) return false;
      require_finite(score->loss, "validation");
      line["val_loss"] = score->loss;
      line["val_accuracy"] = score->accuracy;
      keep_if_best(*score);
      val_note_ = !is_language(recipe_.task)
                      ? "  val accuracy " + fixed(100 * score->accuracy, 1) + " %"
                      : "  val loss " + fixed(score->loss, 3);
    }
    append_line(dir_.metrics(), line.dump());
    state_.reported = state_.step;
    state_.window = {};
    note_ = "loss " + fixed(loss, 3) + val_note_;
    progress.update(state_.step, note_, /*important=*/evaluation);
    return true;
  }

  void require_finite(double loss, const char* what) const {
    if (std::isfinite(loss)) return;
    throw WorkError(text("the ", what, " loss after step ", state_.step, " is ", loss,
                         ": a smaller train.learning_rate may help"));
  }

  void keep_if_best(const Score& score) {
    auto& best = state_.best;
    const bool better = !is_language(recipe_.task)
                            ? score.accuracy > best.accuracy ||
                                  (score.accuracy == best.accuracy && score.loss < best.loss)
                            : score.loss < best.loss;
    const double from = recipe_.train.best_from * static_cast<double>(recipe_.train.steps);
    const bool counts = static_cast<double>(best.step) > from;  // else the newest are kept
    if (counts && !better) return;
    best = {state_.step, score.loss, score.accuracy};
    save_weights(dir_.weights(), model_, state_.step);
  }

  // The best weights are the newest, or no worse, so an accuracy that was reached is theirs.
  bool accurate_enough() const {
    const double until = recipe_.train.until_accuracy;
    return until > 0 && state_.best.accuracy >= until;
  }

  void save() {
    state_.peak_memory_bytes = std::max(state_.peak_memory_bytes, peak_memory_bytes());
    if (const int metrics = ::open(dir_.metrics().c_str(), O_RDONLY | O_CLOEXEC); metrics >= 0) {
      ::fsync(metrics);  // the lines it counts as reported must outlive a power cut too
      ::close(metrics);
    }
    save_checkpoint(dir_.checkpoint(), model_, optimiser_, state_);
    saved_ = Clock::now();
  }

  std::string how_to_go_on() const {
    return text("; go on with: fastmax train ", shell_word(dir_.recipe().string()), " --out ",
                shell_word(dir_.path().string()), " --resume");
  }

  [[noreturn]] void stop() {
    save();
    throw Interrupted(StopRequest::pending(), text("stopped after step ", state_.step, " of ",
                                                   recipe_.train.steps, how_to_go_on()));
  }

  nlohmann::ordered_json finish() {
    save();
    load_weights(dir_.weights(), model_);
    const auto val = evaluate(model_, task_, Split::kVal);
    const auto test = evaluate(model_, task_, Split::kTest);
    if (!val || !test) {
      throw Interrupted(StopRequest::pending(),
                        "stopped before the final evaluation" + how_to_go_on());
    }
    require_finite(val->loss, "validation");
    require_finite(test->loss, "test");
    std::vector<double> rates;
    for (const auto& line : dir_.read_metrics()) rates.push_back(line.at("steps_per_second"));
    std::nth_element(rates.begin(), rates.begin() + rates.size() / 2, rates.end());
    nlohmann::ordered_json result = {{"task", recipe_.task},
                                     {"attention", recipe_.model.attention},
                                     {"seed", recipe_.seed},
                                     {"steps", state_.step},
                                     {"best_step", state_.best.step},
                                     {"val", to_json(*val, recipe_.task, "val")},
                                     {"test", to_json(*test, recipe_.task, "test")},
                                     {"steps_per_second", rates[rates.size() / 2]},
                                     {"seconds", state_.seconds},
                                     {"peak_memory_bytes", state_.peak_memory_bytes},
                                     {"parameters", model_.parameter_count()},
                                     {"threads", recipe_.train.threads},
                                     {"machine", machine_name()},
                                     {"version", version()},
                                     {"commit", commit()}};
    for (const auto& [name, accuracy] : task_.baselines()) result["baselines"][name] = accuracy;
    if (!task_.data_name().empty()) {  // a set of the same name may be larger: results depend on it
      result["data"] = task_.data_name();
      result["train_examples"] = task_.examples(Split::kTrain, 0);
    }
    write_file(dir_.result(), result.dump(2) + "\n");
    return result;
  }

  const Recipe& recipe_;
  const RunDir& dir_;
  Task& task_;
  Prefetch batches_;
  Model model_;
  AdamW optimiser_;
  TrainState state_;
  Profile* profile_;
  std::string label_, note_, val_note_;
  Clock::time_point saved_;
};

}  // namespace

AdamWConfig optimiser_config(const Recipe& recipe) {
  const auto& t = recipe.train;
  return {.beta1 = t.beta1,
          .beta2 = t.beta2,
          .epsilon = t.epsilon,
          .weight_decay = t.weight_decay,
          .clip = t.clip,
          .clip_value = t.clip_value};
}

double learning_rate(const Recipe::TrainKeys& keys, std::int64_t step) {
  const double s = static_cast<double>(step), warmup = static_cast<double>(keys.warmup);
  if (step < keys.warmup) {
    return keys.learning_rate * (keys.warmup_from + (1 - keys.warmup_from) * (s + 1) / warmup);
  }
  const double fall = std::max<double>(1, static_cast<double>(keys.steps - 1 - keys.warmup));
  return keys.learning_rate * (1 - (1 - keys.decay_to) * (s - warmup) / fall);
}

double beta1(const Recipe::TrainKeys& keys, std::int64_t step) {
  if (keys.beta1_peak == 0) return keys.beta1;
  const std::int64_t peak = std::max<std::int64_t>(keys.warmup - 1, 0);
  const double length = static_cast<double>(step < peak ? peak : keys.steps - 1 - peak);
  const double away = std::abs(static_cast<double>(step - peak)) / std::max(1.0, length);
  return keys.beta1_peak + (keys.beta1 - keys.beta1_peak) * away;
}

nlohmann::ordered_json train(Recipe recipe, const fs::path& folder, bool resume,
                             const std::string& label, Profile* profile) {
  const RunDir dir(folder);
  if (fs::exists(folder) && !fs::is_directory(folder)) {
    throw UsageError("expected a folder for the run, " + folder.string() + " is a file");
  }
  if (fs::exists(folder) && !fs::is_empty(folder)) {
    if (!dir.started()) {
      throw UsageError("expected a new or empty folder for the run, " + folder.string() +
                       " holds other files");
    }
    if (!resume) {
      throw UsageError("expected a new folder for the run, " + folder.string() +
                       " holds one: --resume goes on with it, --out takes another folder");
    }
    Recipe there = read_recipe(dir.recipe().string());
    if (recipe.data.path.empty()) recipe.data.path = there.data.path;
    if (recipe.train.threads == 0) recipe.train.threads = there.train.threads;
    there.train.threads = recipe.train.threads;  // another number is another order of sums, no more
    if (const auto other = first_difference(there, recipe)) {
      throw UsageError("--resume: expected the recipe of " + folder.string() + ", but " + *other);
    }
    if (dir.finished()) return dir.read_result();
  }
  if (recipe.train.threads == 0) recipe.train.threads = at::get_num_threads();
  at::set_num_threads(static_cast<int>(recipe.train.threads));
  const std::unique_ptr<Task> task = load_task(recipe);

  if (!dir.started()) make_run_dir(dir, recipe);
  const RunLock lock(dir);
  Run run(recipe, dir, *task, label, profile);
  run.resume();
  return run();
}

}  // namespace fastmax::app
