#include "app/accuracy_report.h"

#include <torch/version.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <sstream>
#include <tuple>

#include "app/error.h"
#include "app/info.h"
#include "app/version.h"
#include "fastmax/fastmax.h"

namespace fastmax::app {
namespace {

using Json = nlohmann::ordered_json;

/// In the order of the table.
const std::vector<std::string>& subjects() {
  static const std::vector<std::string> names = {"float64 output",  "float32 output",
                                                 "bfloat16 output", "float16 output",
                                                 "float32 state",   "float32 gradients"};
  return names;
}

/// Inputs, and for a state how it took them.
std::string label(const Accuracy& a) {
  return a.what == "float32 state" ? a.inputs + ", " + a.form : a.inputs;
}

/// Labels in the order in which they were measured.
std::vector<std::string> labels(const std::vector<Accuracy>& figures, const std::string& what) {
  std::vector<std::string> out;
  for (const Accuracy& a : figures)
    if (a.what == what && std::find(out.begin(), out.end(), label(a)) == out.end())
      out.push_back(label(a));
  return out;
}

std::string short_error(double x) {
  std::ostringstream out;
  out.precision(1);
  out << std::scientific << x;
  return out.str();
}

std::set<std::int64_t> lengths_of(const std::vector<Accuracy>& figures) {
  std::set<std::int64_t> lengths;
  for (const Accuracy& a : figures) lengths.insert(a.N);
  return lengths;
}

/// The worst over masks and forms at one length, and whether anything was measured there.
struct Cell {
  double error = 0, goal = 0;
  bool missed = false;
};

}  // namespace

Json document(const AccuracyReport& report) {
  Json figures = Json::array();
  for (const Accuracy& a : report.figures)
    figures.push_back({{"what", a.what},
                       {"inputs", a.inputs},
                       {"order", a.order},
                       {"D", a.D},
                       {"N", a.N},
                       {"causal", a.causal},
                       {"form", a.form},
                       {"error", a.error},
                       {"goal", a.goal},
                       {"missed", a.missed()}});
  return {{"machine", machine_name()}, {"version", version()},
          {"commit", commit()},        {"torch", TORCH_VERSION},
          {"target", target_name()},   {"interrupted", report.interrupted},
          {"figures", figures}};
}

Table table_of(const std::vector<Accuracy>& figures) {
  const std::set<std::int64_t> lengths = lengths_of(figures);
  std::vector<Column> columns{{"error of", Align::kLeft}, {"inputs", Align::kLeft}, {"p"}, {"D"}};
  for (const std::int64_t N : lengths) columns.push_back({text("N = ", N)});
  columns.push_back({"goal"});
  columns.push_back({"", Align::kLeft});
  Table table(columns);
  for (const std::string& what : subjects()) {
    std::map<std::tuple<int, std::int64_t, std::string>, std::map<std::int64_t, Cell>> rows;
    for (const Accuracy& a : figures) {
      if (a.what != what) continue;
      Cell& cell = rows[{a.order, a.D, label(a)}][a.N];
      cell = {worse(cell.error, a.error), a.goal, cell.missed || a.missed()};
    }
    std::set<std::pair<int, std::int64_t>> sizes;
    for (const auto& [key, cells] : rows) sizes.insert({std::get<0>(key), std::get<1>(key)});
    for (const auto& [order, D] : sizes) {
      if (!table.empty()) table.rule();
      for (const std::string& inputs : labels(figures, what)) {
        const auto row = rows.find({order, D, inputs});
        if (row == rows.end()) continue;
        std::vector<std::string> cells{what, inputs, text(order), text(D)};
        bool missed = false;
        for (const std::int64_t N : lengths) {
          const auto cell = row->second.find(N);
          cells.push_back(cell == row->second.end() ? "" : short_error(cell->second.error));
          missed = missed || (cell != row->second.end() && cell->second.missed);
        }
        const double goal = row->second.begin()->second.goal;
        cells.push_back(std::isfinite(goal) ? short_error(goal) : "none");
        cells.push_back(missed ? "missed" : std::isfinite(goal) ? "met" : "");
        table.row(cells, missed ? Tone::kBad : Tone::kPlain);
      }
    }
  }
  return table;
}

std::string page(const AccuracyReport& report, const std::string& command,
                 const std::string& picture) {
  std::string out =
      text("# Accuracy\n\nHow far answers are from float64, and what was asked for. `", command,
           "` measures and writes all of it.\n\n", machine_name(), "; fastmax ", version(), " (",
           commit(), "), instructions ", target_name(), ", torch ", TORCH_VERSION, ".\n\n",
           table_of(report.figures).markdown());
  if (!picture.empty()) out += text("\n![Error against length](", picture, ")\n");
  out += R"(
Each figure is the worst over both masks (none, causal) and both forms (direct up to 10,000 tokens, factorised).

- **output**: float64 and float32: |o - truth| / |truth| (root mean square) over 32 rows spread over the sequence.
  bfloat16 and float16: |o - truth| beyond what rounding the truth itself costs (root mean square), over the standard
  deviation of v; the truth is that of the rounded inputs.
- **gradients**: the same ratio as for outputs, the largest of dq, dk and dv. Beyond 100,000 tokens the hard
  inputs are measured in float32 outputs only.
- **state**: a `State` that has taken N tokens, read by 32 queries.
- **truth**: the definition in float64, every key of every sampled row. For the gradients of keys beyond 1,024 tokens o
  and g come from the float64 kernel; `float64 output` is its own distance from the definition.
- **inputs**: *normal*; *v + 10*: values far from zero; *clusters*: keys within 0.01 of one of four; *outlier*: channel 0
  of q and k a hundred times the others; *constant rows*: every tenth query and key constant over its channels, so that
  the normalisation finds no direction.
)";
  return out;
}

std::vector<Plot> plots_of(const std::vector<Accuracy>& figures) {
  std::vector<Plot> panels;
  const std::set<std::int64_t> lengths = lengths_of(figures);
  for (const std::string& what : subjects()) {
    Plot plot{.title = what,
              .x_label = "tokens N",
              .y_label = what == "bfloat16 output" || what == "float16 output"
                             ? "rms error / std(v)"
                             : "relative rms error",
              .log_x = true,
              .log_y = true,
              .y_format = "1e%T"};
    for (const std::string& inputs : labels(figures, what)) {
      std::map<std::int64_t, double> worst;
      for (const Accuracy& a : figures)
        if (a.what == what && label(a) == inputs) worst[a.N] = worse(worst[a.N], a.error);
      Series series{inputs, {}, {}};
      for (const auto& [N, error] : worst) {
        series.x.push_back(static_cast<double>(N));
        series.y.push_back(error);
      }
      plot.series.push_back(series);
    }
    if (plot.series.empty()) continue;
    const auto any = std::find_if(figures.begin(), figures.end(), [&](const Accuracy& a) {
      return a.what == what && std::isfinite(a.goal);
    });
    plot.series.push_back(
        {"goal",
         {static_cast<double>(*lengths.begin()), static_cast<double>(*lengths.rbegin())},
         {any->goal, any->goal}});
    panels.push_back(plot);
  }
  return panels;
}

}  // namespace fastmax::app
