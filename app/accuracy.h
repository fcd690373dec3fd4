// How far the library's answers are from float64: the measurements behind `fastmax accuracy`.
//
// The truth is the definition, O(N) a row, at 32 rows spread over the sequence (app/bench_truth.h). Gradients of keys
// need o and g of every row: up to 1024 tokens by the definition too, beyond from the float64 kernel, whose own
// distance from the definition is the first thing measured.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "app/bench_truth.h"

namespace fastmax::app {

struct AccuracyOptions {
  std::vector<std::int64_t> lengths = {1000, 10000, 100000, 1000000};
  std::vector<int> orders = {1, 2};
  std::vector<std::int64_t> dims = {32, 64};
};

/// One error, and what it may be at most.
struct Accuracy {
  std::string what = {};    ///< "float32 output", "bfloat16 output", "float32 gradients", ...
  std::string inputs = {};  ///< a name of accuracy_inputs
  int order = 0;
  std::int64_t D = 0, N = 0;
  bool causal = false;
  std::string form = {};  ///< direct, factorised, or how a state took its tokens
  double error = 0;       ///< NaN where an answer was
  double goal = 0;        ///< infinite: none, the error is only shown

  bool missed() const { return !(error <= goal); }  ///< NaN misses any goal
};

struct AccuracyReport {
  std::vector<Accuracy> figures;
  bool interrupted = false;  ///< by `stop`: what was measured so far is here
};

/// `progress(done, total, what)` is called before each group of measurements, and `stop()` asked.
AccuracyReport run_accuracy(const AccuracyOptions& options,
                            const std::function<void(int, int, const std::string&)>& progress,
                            const std::function<bool()>& stop);

/// The larger error; NaN, which is no answer at all, is the worst.
double worse(double a, double b);

/// What the inputs are called: the easy ones first, then what is hard on rounding.
const std::vector<std::string>& accuracy_inputs();

/// float32 q, k, v and d_o, [1, 1, N, D], always the same:
///   normal         all normal
///   v + 10         values far from zero: their mean is ten times what matters
///   clusters       every key close to one of four
///   outlier        channel 0 of q and k a hundred times the others
///   constant rows  every tenth q and k constant: no direction after normalisation
BenchInputs make_inputs(const std::string& name, std::int64_t N, std::int64_t D);

/// |got - truth| / |truth| over the rows of a [1, 1, N, D] tensor whose truth is known.
double relative_rms(const at::Tensor& truth, const at::Tensor& rows, const at::Tensor& got);

/// The error beyond the rounding of the output, |got - truth| less that of the truth rounded to got's type: root mean
/// square.
double excess(const at::Tensor& truth, const at::Tensor& rows, const at::Tensor& got);

}  // namespace fastmax::app
