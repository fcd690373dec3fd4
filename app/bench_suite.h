// `fastmax bench --suite cpu`: one table of what the kernels should reach on a CPU, measured in one run.
#pragma once
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace fastmax::app {

struct SuiteOptions {
  int threads = 1;
  std::string only = {};  ///< figures whose name contains this
  bool quick = false;     ///< fewer rounds, lengths and shapes: a few minutes
};

/// One figure against what it must and should be. NaN: there is none.
struct SuiteRow {
  std::string figure = {};
  double measured = 0, must = 0, aim = 0;
  bool higher_is_better = true;
  double gemm_gflops = 0;    ///< torch.mm of 1024^3 in the same rounds
  std::string note = {};     ///< the shape, or where the worst point lies
  std::string also = {};     ///< what else came out
  std::string not_run = {};  ///< why there is no figure; "": there is one
  bool wrong = false;        ///< not_run because an answer was wrong

  /// "aim", "pass", "miss" or "not run".
  std::string verdict() const;
};

struct SuiteReport {
  SuiteOptions options;
  std::vector<SuiteRow> rows;
  bool interrupted = false;
};

/// `progress(done, total, figure)` is called before each row, and `stop()` asked.
SuiteReport run_suite(const SuiteOptions& options,
                      const std::function<void(int, int, const std::string&)>& progress,
                      const std::function<bool()>& stop);

nlohmann::ordered_json document(const SuiteReport& report);

/// The table on stdout, with what its columns mean.
void print(const SuiteReport& report);

}  // namespace fastmax::app
