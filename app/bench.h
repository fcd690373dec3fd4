// The sweep behind `fastmax bench`: every method at every shape, checked against float64 truth,
// then timed beside torch.mm.
//
// Machines are shared and clocks wander, so only ratios taken close together mean something. All
// contenders of one shape take turns in rounds, each right after a torch.mm of 1024^3 of the same
// type on the same threads, and fraction_of_gemm is the median of these ratios. One thread is timed
// by its CPU time, several by the wall clock.
#pragma once
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fastmax/fastmax.h"

namespace fastmax::app {

struct BenchOptions {
  std::vector<int> orders = {1, 2};
  std::vector<std::int64_t> dims = {32, 64, 128};
  std::vector<std::int64_t> lengths = {256, 1024, 4096, 16384};
  std::int64_t batch = 1, heads = 2;
  std::vector<bool> masks = {false, true};  ///< values of causal
  at::ScalarType dtype = at::kFloat;
  bool backward = false;      ///< backward beside forward
  bool tokens_first = false;  ///< inputs are [B, N, H, D] in memory
  Dropout dropout = {};       ///< of the Fastmax methods
  std::vector<std::string> methods = {"fastmax", "direct", "factorised", "sdpa", "softmax"};
  std::vector<int> threads = {1};
  int repeat = 7;      ///< rounds ...
  double seconds = 1;  ///< ... but no more of a contender after this much of its time
  double limit = 10;   ///< a quadratic call expected to take longer is skipped
};

struct BenchReport {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();     ///< one a measurement
  nlohmann::ordered_json skipped = nlohmann::ordered_json::array();  ///< method, order, ... and why
  int wrong = 0;             ///< rows without a time, because the answer was wrong
  bool interrupted = false;  ///< by `stop`: what was measured so far is here
};

/// `progress(done, total, what)` is called before each shape; `stop()` is asked after each call.
BenchReport run_bench(const BenchOptions& options,
                      const std::function<void(int, int, const std::string&)>& progress,
                      const std::function<bool()>& stop);

/// "256,1k,4k,..64k": k is 1024, M is 1024 * 1024, and "..X" goes on with the last ratio up to X. Throws UsageError.
std::vector<std::int64_t> parse_lengths(const std::string& text);

}  // namespace fastmax::app
