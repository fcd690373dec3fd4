#include <torch/version.h>
#include <unistd.h>

#include <cmath>
#include <iostream>

#include "app/bench_suite.h"
#include "app/error.h"
#include "app/info.h"
#include "app/table.h"
#include "app/version.h"
#include "fastmax/fastmax.h"

namespace fastmax::app {

nlohmann::ordered_json document(const SuiteReport& report) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const SuiteRow& row : report.rows)
    rows.push_back({{"figure", row.figure},
                    {"measured", row.measured},
                    {"must", row.must},
                    {"aim", row.aim},
                    {"higher_is_better", row.higher_is_better},
                    {"verdict", row.verdict()},
                    {"gemm_gflops", row.gemm_gflops},
                    {"note", row.not_run.empty() ? row.note : row.not_run},
                    {"also", row.also}});
  return {{"machine", machine_name()},
          {"version", version()},
          {"commit", commit()},
          {"torch", TORCH_VERSION},
          {"target", target_name()},
          {"suite", "cpu"},
          {"threads", report.options.threads},
          {"quick", report.options.quick},
          {"interrupted", report.interrupted},
          {"rows", rows}};
}

void print(const SuiteReport& report) {
  Table table({{"figure", Align::kLeft},
               {"measured"},
               {"must"},
               {"aim"},
               {"", Align::kLeft},
               {"mm GFLOP/s"},
               {"where", Align::kLeft}});
  const auto number = [](double x) { return std::isnan(x) ? "" : short_number(x); };
  for (const SuiteRow& row : report.rows) {
    const std::string verdict = row.verdict();
    const std::string bound = row.higher_is_better ? ">= " : "<= ";
    table.row({row.figure, number(row.measured), bound + number(row.must), number(row.aim), verdict,
               number(row.gemm_gflops), row.not_run.empty() ? row.note : row.not_run},
              verdict == "miss" || row.wrong ? Tone::kBad
              : verdict == "aim"             ? Tone::kGood
              : verdict == "not run"         ? Tone::kFaint
                                             : Tone::kPlain);
  }
  std::cout
      << table.terminal(colour_wanted(STDOUT_FILENO))
      << "Medians of interleaved rounds, each beside one torch.mm of 1024^3 on as many threads; "
      << (report.options.threads == 1 ? "CPU time of the thread" : "wall clock")
      << ".\nWhere a figure covers several shapes, it is the worst, which is named. "
      << machine_name() << ", " << target_name() << ", torch " << TORCH_VERSION << ", threads "
      << report.options.threads << "\n";
}

}  // namespace fastmax::app
