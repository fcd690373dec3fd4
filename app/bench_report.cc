#include "app/bench_report.h"

#include <torch/version.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <map>

#include "app/error.h"
#include "app/info.h"
#include "app/memory.h"
#include "app/table.h"
#include "app/version.h"
#include "fastmax/fastmax.h"

namespace fastmax::app {

using Json = nlohmann::ordered_json;

Json document(const BenchReport& report) {
  return {{"machine", machine_name()},
          {"version", version()},
          {"commit", commit()},
          {"torch", TORCH_VERSION},
          {"target", target_name()},
          {"clock", "CPU time of the thread where threads is 1, wall clock elsewhere"},
          {"peak_memory_bytes", peak_memory_bytes()},
          {"interrupted", report.interrupted},
          {"rows", report.rows},
          {"skipped", report.skipped}};
}

namespace {

/// "fastmax2", "factorised1", "sdpa".
std::string series_name(const Json& row) {
  const int order = row["order"];
  return row["method"].get<std::string>() + (order ? std::to_string(order) : "");
}

std::string mask_name(const Json& row) { return row["causal"].get<bool>() ? "causal" : "full"; }

/// How many times faster than torch's softmax attention of the same shape and pass; "" where that was not timed.
std::string over_sdpa(const Json& rows, const Json& row) {
  for (const Json& other : rows) {
    if (other["method"] != "sdpa" || other["ms"].is_null() || row["ms"].is_null()) continue;
    bool same = true;
    for (const char* key : {"threads", "D", "N", "causal", "direction"})
      same = same && other[key] == row[key];
    if (same) return short_number(other["ms"].get<double>() / row["ms"].get<double>());
  }
  return "";
}

Table table_of(const Json& rows) {
  Table table({{"method", Align::kLeft},
               {"path", Align::kLeft},
               {"mask", Align::kLeft},
               {"pass", Align::kLeft},
               {"thr"},
               {"D"},
               {"N"},
               {"ms"},
               {"GFLOP/s"},
               {"of mm"},
               {"x sdpa"},
               {"max error"},
               {"scratch"},
               {"saved"}});
  Json group;
  for (const Json& row : rows) {
    const Json here = {row["threads"], row["D"], row["causal"], row["N"]};
    if (!group.is_null() && here != group) table.rule();
    group = here;
    const auto value = [&](const char* key) {
      return row[key].is_null() ? std::string("wrong") : short_number(row[key].get<double>());
    };
    table.row({series_name(row), row["path"], mask_name(row), row["direction"],
               text(row["threads"].get<int>()), text(row["D"].get<int>()),
               short_length(row["N"].get<std::int64_t>()), value("ms"), value("gflops"),
               value("fraction_of_gemm"), over_sdpa(rows, row),
               short_number(row["max_error"].is_null() ? NAN : row["max_error"].get<double>()),
               short_bytes(row["workspace_bytes"].get<double>()),
               short_bytes(row["saved_bytes"].get<double>())},
              row["ms"].is_null()          ? Tone::kBad
              : row["method"] == "fastmax" ? Tone::kGood
                                           : Tone::kPlain);
  }
  return table;
}

}  // namespace

void print(const Json& document) {
  std::cout << table_of(document["rows"]).terminal(colour_wanted(STDOUT_FILENO));
  for (const Json& row : document["rows"])
    if (row["ms"].is_null())
      std::cout << series_name(row) << ": " << row["why"].get<std::string>() << "\n";
  for (const Json& skipped : document["skipped"])
    std::cout << "skipped: " << series_name(skipped) << " D=" << skipped["D"]
              << " N=" << short_length(skipped["N"].get<std::int64_t>()) << " "
              << mask_name(skipped) << " " << skipped["direction"].get<std::string>() << ": "
              << skipped["why"].get<std::string>() << "\n";
  std::cout << "ms: median of the rounds, " << document["clock"].get<std::string>()
            << ". of mm: median of the rounds' ratios to torch.mm of 1024^3 right before (smaller "
               "where that takes over 0.2 s).\n"
            << "x sdpa: speed-up over torch's softmax attention. max error: against float64 on "
               "sampled rows. "
            << document["machine"].get<std::string>() << ", "
            << document["target"].get<std::string>() << ", torch "
            << document["torch"].get<std::string>() << "\n";
}

std::vector<Plot> plots_of(const Json& rows) {
  std::vector<Plot> panels;
  std::map<Json, std::size_t> place;
  for (const Json& row : rows) {
    if (row["ms"].is_null()) continue;
    const Json key = {row["threads"], row["D"], row["causal"], row["direction"]};
    if (!place.contains(key)) {
      place[key] = panels.size();
      const std::string what =
          text(row["direction"].get<std::string>(), ", D = ", row["D"].get<int>(), ", ",
               mask_name(row), ", threads = ", row["threads"].get<int>());
      panels.push_back({.title = "time: " + what,
                        .x_label = "tokens N",
                        .y_label = "seconds a call",
                        .log_x = true,
                        .log_y = true,
                        .y_format = "%.0s %cs"});
      panels.push_back({.title = "memory: " + what,
                        .x_label = "tokens N",
                        .y_label = "scratch and saved bytes",
                        .log_x = true,
                        .log_y = true,
                        .y_format = "%.0s %cB",
                        .legend = false});
    }
    const auto add = [&](Plot& plot, double y) {
      auto& all = plot.series;
      auto series = std::find_if(all.begin(), all.end(),
                                 [&](const Series& s) { return s.name == series_name(row); });
      if (series == all.end()) series = all.insert(series, {series_name(row), {}, {}});
      series->x.push_back(row["N"].get<double>());
      series->y.push_back(y);
    };
    add(panels[place[key]], 1e-3 * row["ms"].get<double>());
    add(panels[place[key] + 1],
        row["workspace_bytes"].get<double>() + row["saved_bytes"].get<double>());
  }
  return panels;
}

}  // namespace fastmax::app
