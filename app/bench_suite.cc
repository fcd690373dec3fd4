#include "app/bench_suite.h"

#include <ATen/Parallel.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <tuple>

#include "app/bench_lab.h"
#include "app/error.h"
#include "app/info.h"

namespace fastmax::app {
namespace {

struct Line {
  std::string figure;
  double must, aim;
  bool higher_is_better;
  std::function<Finding(Lab&)> measure;
};

/// The worst over a list of shapes or ways.
template <class Items, class Measure>
Finding worst_of(const Items& items, bool higher_is_better, const Measure& measure) {
  Finding worst;
  for (const auto& item : items) worst.join(measure(item), higher_is_better);
  return worst;
}

const std::vector<std::int64_t> kDims{32, 64, 128};
constexpr std::int64_t kLong = 8192;  // tokens from which the factorised form is in its stride

/// A rate over torch.mm's, a line a head size.
void add_rates(std::vector<Line>& lines, const std::string& name, const std::vector<double>& must,
               const std::vector<double>& aim, const std::vector<std::int64_t>& dims,
               const std::function<Finding(Lab&, std::int64_t)>& measure) {
  for (std::size_t i = 0; i < dims.size(); ++i)
    lines.push_back({text(name, ", D=", dims[i]), must[i], aim[i], true,
                     [=, D = dims[i]](Lab& lab) { return measure(lab, D); }});
}
/// Causal over unmasked time of one order.
void add_causal_costs(std::vector<Line>& lines, int p, const std::vector<double>& must,
                      const std::vector<double>& aim, const std::vector<std::int64_t>& dims) {
  for (std::size_t i = 0; i < dims.size(); ++i)
    lines.push_back({text("causal / unmasked time, p=", p, ", D=", dims[i]), must[i], aim[i], false,
                     [=, D = dims[i]](Lab& lab) {
                       return lab.cost({.p = p, .shape = lab.shape(kLong, D)},
                                       [](Way& way) { way.shape.causal = true; });
                     }});
}

void add_factorised(std::vector<Line>& lines) {
  const auto forward = [](int p) {
    return [p](Lab& lab, std::int64_t D) {
      return lab.of_gemm({.p = p, .shape = lab.shape(kLong, D)});
    };
  };
  add_rates(lines, "forward p=2, of mm", {0.84, 0.93, 0.87}, {0.95, 0.95, 0.95}, kDims, forward(2));
  add_causal_costs(lines, 2, {1.12, 1.06, 1.05}, {1.05, 1.02, 0.97}, kDims);
  add_rates(lines, "forward p=1, of mm", {0.4, 0.55, 0.65}, {0.6, 0.75, 0.85}, kDims, forward(1));
  add_causal_costs(lines, 1, {1.6, 1.4, 1.3}, {1.3, 1.2, 1.1}, kDims);
  add_rates(lines, "forward p=4, of mm", {0.5, 0.5}, {0.8, 0.8}, {8, 16}, forward(4));
  add_causal_costs(lines, 4, {1.4, 1.4}, {1.1, 1.1}, {8, 16});
  lines.push_back({"backward / forward time, factorised", 2.8, 2.3, false, [](Lab& lab) {
                     return worst_of(kDims, false, [&](std::int64_t D) {
                       return lab.ratio({.shape = lab.shape(kLong, D, false, true)},
                                        {.shape = lab.shape(kLong, D)});
                     });
                   }});
}

void add_direct(std::vector<Line>& lines) {
  const auto rate = [](bool causal, bool backward, std::vector<std::int64_t> lengths) {
    return [=](Lab& lab, std::int64_t D) {
      return worst_of(lengths, true, [&](std::int64_t N) {
        return lab.of_gemm({.method = "direct", .shape = lab.shape(N, D, causal, backward)});
      });
    };
  };
  add_rates(lines, "direct forward, of mm", {0.93, 0.95, 0.95}, {1, 1, 1}, kDims,
            rate(false, false, {1024, 4096}));
  add_rates(lines, "direct backward, of mm", {0.88, 0.93, 0.92}, {0.97, 0.97, 0.97}, kDims,
            rate(false, true, {1024, 4096}));
  for (const auto& [N, must, aim] : {std::tuple{1024, 0.83, 0.92}, {4096, 0.93, 1.0}})
    lines.push_back(
        {text("direct causal forward, of mm, N=", N), must, aim, true, [=, length = N](Lab& lab) {
           return worst_of(kDims, true,
                           [&](std::int64_t D) { return rate(true, false, {length})(lab, D); });
         }});
  lines.push_back({"backward / forward time, direct", 2.6, 2.2, false, [](Lab& lab) {
                     return worst_of(kDims, false, [&](std::int64_t D) {
                       return lab.ratio(
                           {.method = "direct", .shape = lab.shape(1024, D, false, true)},
                           {.method = "direct", .shape = lab.shape(1024, D)});
                     });
                   }});
  lines.push_back({"direct p=3, 4 / p=2 time", 1.15, 1.05, false, [](Lab& lab) {
                     return worst_of(std::vector{3, 4}, false, [&](int p) {
                       return lab.cost({.method = "direct", .shape = lab.shape(1024, 64)},
                                       [&](Way& way) { way.p = p; });
                     });
                   }});
}

void add_softmax(std::vector<Line>& lines) {
  lines.push_back({"speed-up over SDPA, worst point", 1.0, 1.1, true,
                   [](Lab& lab) { return lab.sdpa_grid().worst; }});
  lines.push_back({"speed-up over SDPA, mean to N=1k", 1.5, 1.8, true, [](Lab& lab) -> Finding {
                     const SdpaGrid& grid = lab.sdpa_grid();
                     return {.value = std::exp(grid.log_sum / grid.count),
                             .gemm_rate = grid.worst.gemm_rate,
                             .note = text("geometric, ", grid.count, " points")};
                   }});
  const auto speedup = [](bool causal) {
    return [causal](Lab& lab, std::int64_t D) {
      const BenchShape s = lab.shape(16384, D, causal);
      return lab.ratio({.method = "sdpa", .shape = s}, {.method = "fastmax", .shape = s});
    };
  };
  add_rates(lines, "speed-up over SDPA, N=16k", {35, 10, 2.2}, {45, 14, 3}, kDims, speedup(false));
  add_rates(lines, "speed-up over SDPA, N=16k causal", {20, 5.5, 1.1}, {25, 7, 1.5}, kDims,
            speedup(true));
  lines.push_back({"planner's choice / better form, time", 1.05, kNone, false, planner});
}

void add_scaling_lines(std::vector<Line>& lines) {
  for (const std::int64_t heads : {1, 8})
    lines.push_back({text("two threads against one, BH=", heads), 1.7, 1.9, true,
                     [heads](Lab& lab) { return two_threads(lab, heads); }});
  lines.push_back({"N=10^6 / N=10^5 time, D=32", 10.5, 10.1, false, [](Lab& lab) {
                     return worst_of(std::vector{false, true}, false, [&](bool causal) {
                       return lab.ratio({.shape = lab.shape(1000000, 32, causal)},
                                        {.shape = lab.shape(100000, 32, causal)});
                     });
                   }});
  for (const bool backward : {false, true})
    lines.push_back({backward ? "backward MiB a thread beside two states"
                              : "forward MiB a thread beside one state",
                     1, kNone, false, [backward](Lab& lab) { return workspace(lab, backward); }});
  lines.push_back({"decode step p=2, D=64, of a copy's rate", 0.5, 0.8, true, decode_step});
}

/// Both forms, each at a length that suits it, with four heads.
std::vector<Way> both_forms(const Lab& lab, bool backward, bool causal = false) {
  std::vector<Way> ways{{.shape = lab.shape(4096, 64, causal, backward)},
                        {.method = "direct", .shape = lab.shape(1024, 64, causal, backward)}};
  for (Way& way : ways) way.shape.H = 4;
  return ways;
}

void add_elements(std::vector<Line>& lines) {
  lines.push_back({"[B, N, H, D] / [B, H, N, D] time", 1.05, 1.0, false, [=](Lab& lab) {
                     Finding worst;
                     for (const bool backward : {false, true})
                       for (const Way& way : both_forms(lab, backward))
                         worst.join(lab.cost(way, [](Way& w) { w.shape.tokens_first = true; }),
                                    false);
                     return worst;
                   }});
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf})
    lines.push_back(
        {text(dtype_name(type), " storage against f32, speed"), 0.9, 1.1, true, [=](Lab& lab) {
           return worst_of(both_forms(lab, false), true, [&](const Way& way) {
             Way narrow = way;
             narrow.shape.dtype = type;
             return lab.ratio(way, narrow);
           });
         }});
  add_rates(lines, "AMX bf16 against f32, speed", {2.5, 4, 5}, {5, 8, 10}, kDims,
            [](Lab& lab, std::int64_t D) -> Finding {
              if (!info().at("amx").get<bool>()) return {.not_run = "this CPU has no AMX"};
              const Way way{.shape = lab.shape(kLong, D)};
              Way narrow = way;
              narrow.shape.dtype = at::kBFloat16;
              return lab.ratio(way, narrow);
            });
}

/// A call with something beside q, k and v against a plain one: the worst of forms, masks and passes.
void add_extras(std::vector<Line>& lines) {
  const auto cost = [](Extra extra) {
    return [extra](Lab& lab) {
      Finding worst;
      for (const bool causal : {false, true})
        for (const bool backward : {false, true})
          for (Way way : both_forms(lab, backward, causal)) {
            if (extra == Extra::kStates && way.method == "direct")
              continue;  // states are factorised
            if (extra == Extra::kPacked) std::swap(way.shape.B, way.shape.H);
            Finding found = lab.cost(way, [&](Way& w) { w.shape.extra = extra; });
            found.note += text(" ", way.method, backward ? " backward" : " forward");
            worst.join(found, false);
          }
      return worst;
    };
  };
  for (const auto& [name, extra] : {std::pair{"key weights / none, time", Extra::kWeights},
                                    {"grouped heads / a key head each, time", Extra::kGrouped},
                                    {"packed sequences / a batch, time", Extra::kPacked},
                                    {"states / none, time", Extra::kStates}})
    lines.push_back({name, 1.05, kNone, false, cost(extra)});
}

void add_dropout(std::vector<Line>& lines) {
  const auto dropped = [](DropoutMode mode, bool causal) {
    return [=](Lab& lab) {
      return worst_of(kDims, false, [&](std::int64_t D) {
        return lab.cost({.shape = lab.shape(4096, D, causal)}, [&](Way& way) {
          way.shape.dropout = {.rate = 0.1, .mode = mode, .seed = 42};
        });
      });
    };
  };
  lines.push_back(
      {"dropout token / none, time", 1.05, kNone, false, dropped(DropoutMode::kToken, false)});
  for (const auto& [name, mode] :
       {std::pair{"standard", DropoutMode::kStandard}, {"quadratic", DropoutMode::kQuadratic}})
    for (const bool causal : {false, true})
      lines.push_back({text("dropout ", name, " / none, time, ", mask(causal)), causal ? 2.0 : 1.1,
                       kNone, false, dropped(mode, causal)});
}

std::vector<Line> all_lines() {
  std::vector<Line> lines;
  add_factorised(lines);
  add_direct(lines);
  add_softmax(lines);
  add_scaling_lines(lines);
  add_elements(lines);
  add_extras(lines);
  add_dropout(lines);
  return lines;
}

}  // namespace

std::string SuiteRow::verdict() const {
  if (!not_run.empty()) return "not run";
  const auto reaches = [&](double goal) {
    return higher_is_better ? measured >= goal : measured <= goal;
  };
  if (!reaches(must)) return "miss";
  return reaches(aim) ? "aim" : "pass";
}

SuiteReport run_suite(const SuiteOptions& options,
                      const std::function<void(int, int, const std::string&)>& progress,
                      const std::function<bool()>& stop) {
  SuiteReport report{.options = options, .rows = {}};
  std::vector<Line> lines = all_lines();
  std::erase_if(
      lines, [&](const Line& line) { return line.figure.find(options.only) == std::string::npos; });
  if (lines.empty())
    throw UsageError(text("--only: expected a part of a figure's name, such as direct, got '",
                          options.only, "'"));
  Lab lab(options);
  for (const Line& line : lines) {
    report.interrupted = stop();
    if (report.interrupted) break;
    progress(static_cast<int>(report.rows.size()), static_cast<int>(lines.size()), line.figure);
    SuiteRow row{.figure = line.figure,
                 .must = line.must,
                 .aim = line.aim,
                 .higher_is_better = line.higher_is_better};
    try {
      const Finding found = line.measure(lab);
      row.measured = found.value;
      row.gemm_gflops = 1e-9 * found.gemm_rate;
      row.note = found.note;
      row.also = found.also;
      row.not_run = found.not_run;
    } catch (const WrongAnswer& wrong) {
      row.measured = kNone;
      row.not_run = wrong.what();
      row.wrong = true;
    }
    report.rows.push_back(row);
  }
  return report;
}

}  // namespace fastmax::app
