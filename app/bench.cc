#include "app/bench.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <optional>

#include "app/bench_clock.h"
#include "app/bench_contender.h"
#include "app/bench_contest.h"
#include "app/error.h"
#include "app/table.h"

namespace fastmax::app {
namespace {

constexpr double kShortest = 5e-3;  // seconds: shorter calls are repeated inside one reading
constexpr double kExpectedOfGemm =
    0.5;  // what a quadratic method is expected to reach, to foresee its time

double available_bytes() {
  std::ifstream file("/proc/meminfo");
  for (std::string key, unit; file >> key;) {
    double kib = 0;
    file >> kib;
    std::getline(file, unit);
    if (key == "MemAvailable:") return kib * 1024;
  }
  return 4e9;
}

struct Reading {
  double seconds = 0, gemm_rate = 0;
};

/// A contender with what was read of it.
struct Entry {
  Contender contender;
  int threads = 0;
  SampledError error = {};
  bool wrong = false;
  int count = 1;     // calls a reading
  double spent = 0;  // seconds of readings
  std::vector<Reading> readings = {};

  void read(BenchClock& clock) {
    const double rate = clock.gemm_rate();
    readings.push_back({clock.time(contender.call, count), rate});
    spent += readings.back().seconds * count;
  }
};

nlohmann::ordered_json row(const Entry& e) {
  const Contender& c = e.contender;
  nlohmann::ordered_json row = {{"method", c.method},
                                {"path", c.path},
                                {"order", c.order},
                                {"causal", c.shape.causal},
                                {"B", c.shape.B},
                                {"H", c.shape.H},
                                {"N", c.shape.N},
                                {"M", c.shape.N},
                                {"D", c.shape.D},
                                {"E", c.shape.D},
                                {"dtype", dtype_name(c.shape.dtype)},
                                {"direction", c.shape.backward ? "backward" : "forward"},
                                {"threads", e.threads},
                                {"ms", nullptr},
                                {"ms_min", nullptr},
                                {"useful_flops", c.useful_flops},
                                {"gflops", nullptr},
                                {"gemm_gflops", nullptr},
                                {"fraction_of_gemm", nullptr},
                                {"workspace_bytes", static_cast<std::int64_t>(c.workspace_bytes)},
                                {"saved_bytes", static_cast<std::int64_t>(c.saved_bytes)},
                                {"max_error", e.error.error},
                                {"why", c.why}};
  if (e.wrong) {
    row["why"] = text("wrong answer, not timed: ", short_number(e.error.relative),
                      " of its size, allowed ", allowed_error(c.shape.dtype));
    return row;
  }
  std::vector<double> times, rates, fractions;
  for (const Reading& r : e.readings) {
    times.push_back(r.seconds);
    rates.push_back(r.gemm_rate);
    fractions.push_back(c.useful_flops / r.seconds / r.gemm_rate);
  }
  row["ms"] = 1e3 * median(times);
  row["ms_min"] = 1e3 * *std::min_element(times.begin(), times.end());
  row["gflops"] = 1e-9 * c.useful_flops / median(times);
  row["gemm_gflops"] = 1e-9 * median(rates);
  row["fraction_of_gemm"] = median(fractions);
  return row;
}

/// All contenders of one shape and thread count.
class Round {
 public:
  Round(const BenchOptions& options, BenchShape shape, int threads,
        const std::function<bool()>& stop, BenchReport& report)
      : options_(options),
        shape_(shape),
        threads_(threads),
        stop_(stop),
        report_(report),
        clock_(threads, shape.dtype) {}

  void run() {
    clock_.gemm_rate();  // the first one sets up threads and code
    gemm_rate_ = clock_.gemm_rate();
    for (const bool backward : options_.backward ? std::vector{false, true} : std::vector{false})
      enter_all(backward);
    for (Entry& entry : entries_) {
      if (stopped()) return;
      first_reading(entry);
    }
    for (int r = 0; r < options_.repeat; ++r) {
      for (Entry& entry : entries_) {
        if (stopped()) break;
        const bool more = entry.readings.empty() || entry.spent < options_.seconds;
        if (!entry.wrong && more) entry.read(clock_);
      }
    }
    for (const Entry& entry : entries_)
      if (entry.wrong || !entry.readings.empty()) report_.rows.push_back(row(entry));
  }

 private:
  bool stopped() {
    report_.interrupted = report_.interrupted || stop_();
    return report_.interrupted;
  }

  void enter_all(bool backward) {
    shape_.backward = backward;
    for (const std::string& method : options_.methods) {
      if (method == "sdpa" || method == "softmax") {
        enter(method, 0);
        continue;
      }
      for (const int order : options_.orders) enter(method, order);
    }
  }

  void enter(const std::string& method, int order) {
    if (stopped()) return;
    if (const auto reason = reason_to_skip(method)) return skip(method, order, *reason);
    if (!in_.q.defined()) in_ = bench_inputs(input_shape());
    try {
      entries_.push_back(
          {.contender = order ? fastmax_contender(method, order, shape_, in_, outputs(order))
                              : softmax_contender(method, shape_, in_),
           .threads = threads_});
    } catch (const fastmax::Error& refused) {
      skip(method, order, refused.what());
    }
  }

  /// Both passes have the same inputs.
  BenchShape input_shape() const {
    BenchShape shape = shape_;
    shape.backward = options_.backward;
    return shape;
  }

  std::optional<std::string> reason_to_skip(const std::string& method) const {
    const double inputs = in_.q.defined() ? 0 : input_bytes(input_shape());
    const double needed = inputs + expected_bytes(method, shape_), limit = available_bytes() / 2;
    if (needed > limit)
      return text("needs ", short_bytes(needed), ", more than half of the available memory, ",
                  short_bytes(limit));
    if (method == "fastmax" || method == "factorised") return std::nullopt;
    const double expected = useful_flops(shape_, 0, false) / (kExpectedOfGemm * gemm_rate_);
    if (expected > options_.limit)
      return text("a call is expected to take ", short_seconds(expected), ", --limit is ",
                  options_.limit, " s");
    return std::nullopt;
  }

  void skip(const std::string& method, int order, const std::string& why) {
    report_.skipped.push_back({{"method", method},
                               {"order", order},
                               {"causal", shape_.causal},
                               {"N", shape_.N},
                               {"D", shape_.D},
                               {"direction", shape_.backward ? "backward" : "forward"},
                               {"threads", threads_},
                               {"why", why}});
  }

  /// Methods of one order and direction write alike, into the same place.
  std::shared_ptr<BenchOutputs> outputs(int order) {
    auto& out = outputs_[{order, shape_.backward}];
    if (!out) out = std::make_shared<BenchOutputs>();
    return out;
  }

  /// What a contender leaves unwritten must not be the right answer of the one before.
  static void forget(const Contender& c) {
    const BenchOutputs& out = *c.outputs;
    const auto results =
        c.shape.backward ? std::vector{out.dq, out.dk, out.dv} : std::vector{out.o, out.g};
    for (const at::Tensor& x : results)
      if (x.defined()) x.fill_(NAN);
  }

  /// Computes once, compares, and keeps the time only if it is long enough to be the only one.
  void first_reading(Entry& entry) {
    const Contender& c = entry.contender;
    forget(c);
    entry.read(clock_);
    auto& truth = truths_[{c.order, c.shape.backward}];
    if (truth.empty())
      truth = c.order            ? fastmax_truth(c)
              : c.shape.backward ? backward_truth(in_, 0, c.shape.causal, *c.outputs)
                                 : forward_truth(in_, 0, c.shape.causal);
    entry.error = compare(truth, *c.outputs);
    entry.wrong = !(entry.error.relative <= allowed_error(c.shape.dtype));
    report_.wrong += entry.wrong;
    if (entry.spent >= options_.seconds) return;
    entry.count = static_cast<int>(std::clamp(std::ceil(kShortest / entry.spent), 1.0, 1e4));
    entry.readings.clear();
    entry.spent = 0;
  }

  const BenchOptions& options_;
  BenchShape shape_;
  int threads_;
  const std::function<bool()>& stop_;
  BenchReport& report_;
  BenchClock clock_;
  double gemm_rate_ = 0;
  BenchInputs in_;
  // By order and direction.
  std::map<std::pair<int, bool>, std::shared_ptr<BenchOutputs>> outputs_;
  std::map<std::pair<int, bool>, SampledTruth> truths_;
  std::vector<Entry> entries_;
};

}  // namespace

BenchReport run_bench(const BenchOptions& options,
                      const std::function<void(int, int, const std::string&)>& progress,
                      const std::function<bool()>& stop) {
  BenchReport report;
  const std::size_t total =
      options.threads.size() * options.dims.size() * options.masks.size() * options.lengths.size();
  int done = 0;
  for (const int threads : options.threads) {
    at::set_num_threads(threads);
    for (const std::int64_t D : options.dims) {
      for (const bool causal : options.masks) {
        for (const std::int64_t N : options.lengths) {
          if (report.interrupted || stop()) {
            report.interrupted = true;
            return report;
          }
          progress(
              done++, static_cast<int>(total),
              text("D=", D, " N=", short_length(N), causal ? " causal" : "", " threads=", threads));
          const BenchShape shape{.B = options.batch,
                                 .H = options.heads,
                                 .N = N,
                                 .D = D,
                                 .causal = causal,
                                 .backward = false,
                                 .dtype = options.dtype,
                                 .tokens_first = options.tokens_first,
                                 .dropout = options.dropout};
          Round(options, shape, threads, stop, report).run();
        }
      }
    }
  }
  return report;
}

}  // namespace fastmax::app
