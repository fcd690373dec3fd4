// `fastmax accuracy`: its options, their errors, and what it writes.
#include <ATen/Parallel.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>

#include "app/accuracy.h"
#include "app/accuracy_report.h"
#include "app/bench.h"
#include "app/commands.h"
#include "app/error.h"
#include "app/files.h"
#include "app/progress.h"
#include "app/signals.h"
#include "app/subprocess.h"

namespace fastmax::app {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kShortest = 100;  // fewer tokens are the tests' business

struct Arguments {
  AccuracyOptions accuracy;
  std::string lengths = "1000,10000,..1000000", out, plot, markdown;
  int threads = 0;
  bool json = false;
};

template <class T>
void require_between(const std::string& option, const std::vector<T>& values, T low, T high) {
  for (const T x : values)
    if (x < low || x > high)
      throw UsageError(text(option, ": expected ", low, " to ", high, ", got ", x));
}

/// Everything that can be wrong is said before the first measurement.
AccuracyOptions validated(const Arguments& a) {
  AccuracyOptions options = a.accuracy;
  options.lengths = parse_lengths(a.lengths);
  require_between<std::int64_t>("--lengths", options.lengths, kShortest, 100'000'000);
  std::sort(options.lengths.begin(), options.lengths.end());
  require_between("--orders", options.orders, 1, 4);
  require_between<std::int64_t>("--dims", options.dims, 2, 256);
  if (!a.plot.empty()) require_plot(a.plot);
  require_folder_of("--out", a.out);
  require_folder_of("--plot", a.plot);
  require_folder_of("--markdown", a.markdown);
  return options;
}

template <class T>
std::string joined(const std::vector<T>& items) {
  std::string out;
  for (const T& item : items) out += (out.empty() ? "" : ",") + text(item);
  return out;
}

std::string command_line(const Arguments& a) {
  std::string out = text("fastmax accuracy --lengths ", a.lengths, " --orders ",
                         joined(a.accuracy.orders), " --dims ", joined(a.accuracy.dims));
  if (a.threads) out += text(" --threads ", a.threads);
  if (!a.plot.empty()) out += " --plot " + shell_word(a.plot);
  return out + " --markdown " + shell_word(a.markdown);
}

void write(const Arguments& a, const AccuracyReport& report) {
  if (!a.out.empty()) write_file(a.out, document(report).dump(2) + "\n");
  if (report.figures.empty()) return;
  if (!a.plot.empty()) line_plot(plots_of(report.figures), 2, a.plot);
  if (a.markdown.empty()) return;
  const fs::path folder = fs::absolute(a.markdown).parent_path();
  const std::string picture =
      a.plot.empty() ? "" : fs::absolute(a.plot).lexically_relative(folder).generic_string();
  write_file(a.markdown, page(report, command_line(a), picture));
}

void run(const Arguments& a) {
  const AccuracyOptions options = validated(a);
  if (a.threads) at::set_num_threads(a.threads);
  AccuracyReport report;
  {
    const StopRequest stoppable;
    std::optional<Progress> bar;
    report = run_accuracy(
        options,
        [&](int done, int total, const std::string& what) {
          if (!bar) bar.emplace("accuracy", "groups", total);
          bar->update(done, what);
        },
        [] { return StopRequest::pending() != 0; });
  }
  write(a, report);
  if (a.json)
    std::cout << document(report).dump(2) << "\n" << std::flush;
  else
    std::cout << table_of(report.figures).terminal(colour_wanted(STDOUT_FILENO))
              << "Each figure: the worst over both masks and both forms. Outputs and gradients: "
                 "|error| / |truth| over 32 rows;\n"
                 "bfloat16 and float16: the rms error beyond the rounding of the output, over "
                 "the standard deviation of v.\n"
              << std::flush;
  if (report.interrupted)
    throw Interrupted(StopRequest::pending(),
                      text("stopped after ", report.figures.size(), " figures"));
  const auto missed = std::count_if(report.figures.begin(), report.figures.end(),
                                    [](const Accuracy& figure) { return figure.missed(); });
  if (missed)
    throw WorkError(text(missed, " of ", report.figures.size(), " figures miss their goal"));
}

}  // namespace

void add_accuracy(CLI::App& app) {
  auto a = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand(
      "accuracy", "Measure the rounding error of outputs, gradients and states against float64");
  command
      ->add_option("--lengths", a->lengths,
                   "Tokens N: plain numbers, or 1k = 1024; A,B,..C goes on with the ratio B / A")
      ->capture_default_str();
  command->add_option("--orders", a->accuracy.orders, "Orders p of Fastmax")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--dims", a->accuracy.dims, "Head sizes D (and E)")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--threads", a->threads, "Threads; 0: all cores")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command->add_option("--out", a->out, "Write the JSON document to FILE.json");
  command->add_option("--plot", a->plot, "Draw error against N to FILE.svg or FILE.png");
  command->add_option("--markdown", a->markdown, "Write the table as a page to FILE.md");
  command->add_flag("--json", a->json, "Print the JSON document instead of the table");
  command->callback([a] { run(*a); });
}

}  // namespace fastmax::app
