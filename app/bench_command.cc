// `fastmax bench`: the options of a sweep and their errors.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <iostream>
#include <map>
#include <optional>

#include "app/bench.h"
#include "app/bench_contender.h"
#include "app/bench_report.h"
#include "app/bench_suite.h"
#include "app/commands.h"
#include "app/error.h"
#include "app/files.h"
#include "app/option_check.h"
#include "app/progress.h"
#include "app/signals.h"

namespace fastmax::app {
namespace {

struct Arguments {
  BenchOptions bench;
  SuiteOptions cpu;
  std::string suite, lengths = "256,1k,..16k", causal = "both", dtype = "f32", layout = "bhnd",
                     dropout, out, plot;
  bool json = false;
};

template <class Items>
std::string listed(const Items& items) {
  std::string out;
  for (const auto& item : items) out += (out.empty() ? "" : ", ") + text(item);
  return out;
}

template <class T>
void require_between(const std::string& option, const std::vector<T>& values, T low, T high) {
  for (const T x : values)
    if (x < low || x > high)
      throw UsageError(text(option, ": expected ", low, " to ", high, ", got ", x));
}

/// "0.1,quadratic"; without a mode quadratic.
Dropout parse_dropout(const std::string& text_in) {
  const std::map<std::string, DropoutMode> modes = {{"quadratic", DropoutMode::kQuadratic},
                                                    {"standard", DropoutMode::kStandard},
                                                    {"token", DropoutMode::kToken}};
  const std::size_t comma = std::min(text_in.find(','), text_in.size());
  const std::string mode = comma < text_in.size() ? text_in.substr(comma + 1) : "quadratic";
  char* end = nullptr;
  const std::string number = text_in.substr(0, comma);
  const double rate = std::strtod(number.c_str(), &end);
  if (number.empty() || *end || !(rate >= 0 && rate < 1) || !modes.contains(mode))
    throw UsageError(text("--dropout: expected RATE,MODE with 0 <= RATE < 1 and MODE one of ",
                          "quadratic, standard and token, got '", text_in, "'"));
  return {.rate = rate, .mode = modes.at(mode), .seed = 42};
}

/// Everything that can be wrong is said before the first measurement.
BenchOptions validated(const Arguments& a) {
  BenchOptions options = a.bench;
  options.lengths = parse_lengths(a.lengths);
  require_between("--orders", options.orders, 1, 4);
  require_between<std::int64_t>("--dims", options.dims, 1, 4096);
  require_between<std::int64_t>("--batch", {options.batch}, 1, 1 << 20);
  require_between<std::int64_t>("--heads", {options.heads}, 1, 1 << 20);
  require_between("--threads", options.threads, 1, 1024);
  require_between("--repeat", {options.repeat}, 1, 1000);
  const std::map<std::string, std::vector<bool>> masks = {
      {"0", {false}}, {"1", {true}}, {"both", {false, true}}};
  if (!masks.contains(a.causal))
    throw UsageError(text("--causal: expected 0, 1 or both, got '", a.causal, "'"));
  options.masks = masks.at(a.causal);
  const std::map<std::string, at::ScalarType> types = {
      {"f32", at::kFloat}, {"bf16", at::kBFloat16}, {"f16", at::kHalf}, {"f64", at::kDouble}};
  if (!types.contains(a.dtype))
    throw UsageError(text("--dtype: expected f32, bf16, f16 or f64, got '", a.dtype, "'"));
  options.dtype = types.at(a.dtype);
  for (const std::string& method : options.methods) {
    if (std::count(bench_methods().begin(), bench_methods().end(), method) == 0)
      throw UsageError(
          text("--methods: expected some of ", listed(bench_methods()), ", got '", method, "'"));
  }
  if (a.layout != "bhnd" && a.layout != "bnhd")
    throw UsageError(text("--layout: expected bhnd or bnhd, got '", a.layout, "'"));
  options.tokens_first = a.layout == "bnhd";
  if (!a.dropout.empty()) options.dropout = parse_dropout(a.dropout);
  if (!a.plot.empty()) require_plot(a.plot);
  require_folder_of("--out", a.out);
  require_folder_of("--plot", a.plot);
  return options;
}

void run(const Arguments& arguments) {
  const BenchOptions options = validated(arguments);
  BenchReport report;
  {
    const StopRequest stoppable;
    std::optional<Progress> bar;
    report = run_bench(
        options,
        [&](int done, int total, const std::string& shape) {
          if (!bar) bar.emplace("bench", "shapes", total);
          bar->update(done, shape, true);
        },
        [] { return StopRequest::pending() != 0; });
  }
  const nlohmann::ordered_json result = document(report);
  if (arguments.json)
    std::cout << result.dump(2) << "\n" << std::flush;
  else
    print(result);
  if (!arguments.out.empty()) write_file(arguments.out, result.dump(2) + "\n");
  if (!arguments.plot.empty()) line_plot(plots_of(result["rows"]), 2, arguments.plot);
  if (report.interrupted)
    throw Interrupted(StopRequest::pending(),
                      text("stopped after ", report.rows.size(), " measurements",
                           arguments.out.empty() ? "" : ", which are in " + arguments.out));
  if (report.wrong)
    throw WorkError(
        text(report.wrong, " of ", report.rows.size(), " answers are wrong and were not timed"));
}

/// Progress, the document to --out or stdout, the table, the exit: of the suite.
void run_suite(const Arguments& arguments) {
  if (arguments.suite != "cpu")
    throw UsageError(text("--suite: expected cpu, got '", arguments.suite, "'"));
  require_folder_of("--out", arguments.out);
  SuiteReport report;
  {
    const StopRequest stoppable;
    std::optional<Progress> bar;
    report = run_suite(
        arguments.cpu,
        [&](int done, int total, const std::string& figure) {
          if (!bar) bar.emplace("suite", "figures", total);
          bar->update(done, figure, true);
        },
        [] { return StopRequest::pending() != 0; });
  }
  const nlohmann::ordered_json result = document(report);
  if (arguments.json)
    std::cout << result.dump(2) << "\n" << std::flush;
  else
    print(report);
  if (!arguments.out.empty()) write_file(arguments.out, result.dump(2) + "\n");
  if (report.interrupted)
    throw Interrupted(StopRequest::pending(),
                      text("stopped after ", report.rows.size(), " figures"));
  for (const SuiteRow& row : report.rows)
    if (row.wrong) throw WorkError(row.not_run);
}

std::int64_t parse_length(const std::string& text_in) {
  std::size_t digits = 0;
  std::int64_t n = 0;
  try {
    n = std::stoll(text_in, &digits);
  } catch (const std::exception&) {
    digits = 0;
  }
  const std::string unit = text_in.substr(digits);
  const std::int64_t factor = unit.empty()                 ? 1
                              : unit == "k" || unit == "K" ? 1 << 10
                              : unit == "M"                ? 1 << 20
                                                           : 0;
  if (digits == 0 || factor == 0 || n < 1 || n > (std::int64_t{1} << 40))
    throw UsageError(text(
        "--lengths: expected numbers such as 256, 1k (1024) or 1M (1048576), got '", text_in, "'"));
  return n * factor;
}

}  // namespace

std::vector<std::int64_t> parse_lengths(const std::string& list) {
  std::vector<std::int64_t> lengths;
  std::istringstream items(list);
  for (std::string item; std::getline(items, item, ',');) {
    if (!item.starts_with("..")) {
      lengths.push_back(parse_length(item));
      continue;
    }
    const std::int64_t last = parse_length(item.substr(2));
    const std::size_t count = lengths.size();
    if (count < 2 || lengths[count - 1] < 2 * lengths[count - 2])
      throw UsageError(text("--lengths: '", item,
                            "' goes on from two lengths of which the second is at least ",
                            "twice the first, as in 256,1k,..1M; got '", list, "'"));
    const std::int64_t ratio = lengths[count - 1] / lengths[count - 2];
    while (lengths.back() <= last / ratio) lengths.push_back(lengths.back() * ratio);
  }
  if (lengths.empty()) throw UsageError("--lengths: expected at least one length, got none");
  return lengths;
}

void add_bench(CLI::App& app) {
  auto a = std::make_shared<Arguments>();
  BenchOptions& b = a->bench;
  CLI::App* command = app.add_subcommand(
      "bench", "Time Fastmax against softmax attention and torch.mm, checked against float64");
  command->add_option("--orders", b.orders, "Orders p of Fastmax")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--dims", b.dims, "Head sizes D (and E)")
      ->delimiter(',')
      ->capture_default_str();
  command
      ->add_option(
          "--lengths", a->lengths,
          "Tokens N (and M): 1k = 1024, 1M = 1048576; A,B,..C goes on with the ratio B / A up to C")
      ->capture_default_str();
  command->add_option("--batch", b.batch, "Batch size B")->capture_default_str();
  command->add_option("--heads", b.heads, "Heads H")->capture_default_str();
  command->add_option("--causal", a->causal, "0, 1 or both")->capture_default_str();
  command->add_option("--dtype", a->dtype, "f32, bf16, f16 or f64")->capture_default_str();
  command
      ->add_option("--layout", a->layout,
                   "What is adjacent in memory: bhnd, a head's tokens; bnhd, a token's heads")
      ->capture_default_str();
  command->add_option("--dropout", a->dropout,
                      "RATE,MODE for Fastmax, MODE quadratic, standard or token; softmax has none");
  command->add_flag(
      "--backward", b.backward,
      "Time backward too; its useful_flops are 2.5 times forward's, five products instead of two");
  command
      ->add_option(
          "--methods", b.methods,
          "fastmax (planned), direct, factorised, sdpa (torch's softmax), softmax (N x M matrix)")
      ->delimiter(',')
      ->capture_default_str();
  command
      ->add_option("--threads", b.threads,
                   "Numbers of threads; 1 is timed by its CPU time, more by the wall clock")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--repeat", b.repeat, "Rounds; each times every method once, beside torch.mm")
      ->capture_default_str();
  command->add_option("--seconds", b.seconds, "Time after which a method has had rounds enough")
      ->check(between(0, 3600))
      ->capture_default_str();
  command
      ->add_option("--limit", b.limit,
                   "Skip calls of direct, sdpa and softmax that should take more seconds than this")
      ->check(between(0, 86400))
      ->capture_default_str();
  command->add_option("--out", a->out, "Write the JSON document to FILE.json");
  command->add_option("--plot", a->plot, "Draw time and memory against N to FILE.svg or FILE.png");
  command->add_flag("--json", a->json, "Print the JSON document instead of the table");
  CLI::Option* suite = command->add_option(
      "--suite", a->suite, "cpu: one table of what the kernels should reach, with pass or miss");
  command->add_flag("--quick", a->cpu.quick, "A suite with fewer shapes and rounds: some minutes")
      ->needs(suite);
  command->add_option("--only", a->cpu.only, "Figures of a suite whose name contains this")
      ->needs(suite);
  command->callback([a] {
    if (a->suite.empty()) return run(*a);
    if (a->bench.threads.size() != 1)
      throw UsageError(
          text("--suite: expected one number of --threads, got ", listed(a->bench.threads)));
    require_between("--threads", a->bench.threads, 1, 1024);
    a->cpu.threads = a->bench.threads[0];
    run_suite(*a);
  });
}

}  // namespace fastmax::app
