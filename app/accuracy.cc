#include "app/accuracy.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <set>

#include "app/bench_contender.h"
#include "app/error.h"
#include "fastmax/state.h"

namespace fastmax::app {
namespace {

constexpr std::int64_t kRows = 32;
constexpr std::int64_t kDirectTokens = 10000;  // the direct form's time grows with N^2
constexpr std::int64_t kPart = 1000;           // tokens that join a state at once
// Hard inputs go on from here with float32 outputs only, so that a run takes minutes.
constexpr std::int64_t kHardTokens = 100000;

constexpr double kFloat64Goal = 1e-12, kOutputGoal = 2e-5, kHalfGoal = 3e-4, kGradientGoal = 1e-4;
constexpr double kNoGoal = std::numeric_limits<double>::infinity();

/// Away from the first tokens, whose large causal outputs would hide the error of all others.
at::Tensor spread_rows(std::int64_t N) {
  std::set<std::int64_t> rows;
  for (std::int64_t i = 0; i < std::min(kRows, N); ++i) {
    const double x = std::fmod(0.5 + 0.6180339887 * static_cast<double>(i), 1.0);
    rows.insert(static_cast<std::int64_t>(x * static_cast<double>(N)));
  }
  return at::tensor(std::vector<std::int64_t>(rows.begin(), rows.end()));
}

template <class Change>
BenchInputs changed(const BenchInputs& in, const Change& change) {
  return {change(in.q), change(in.k), change(in.v), change(in.d_o)};
}
BenchInputs first_tokens(const BenchInputs& in, std::int64_t N) {
  return changed(in, [&](const at::Tensor& x) { return x.slice(2, 0, N); });
}
BenchInputs converted(const BenchInputs& in, at::ScalarType type) {
  return changed(in, [&](const at::Tensor& x) { return x.to(type); });
}

/// The dense view of n tokens from token `from` on, of a [1, 1, N, D] tensor.
BhndView<float> tokens(const at::Tensor& x, std::int64_t from, std::int64_t n) {
  return contiguous(x.mutable_data_ptr<float>() + from * x.size(3), 1, 1, n, x.size(3));
}

/// A float32 state that takes the tokens of `in` one after the other.
class Drift {
 public:
  Drift(const BenchInputs& in, int order, std::int64_t part)
      : in_(in),
        part_(part),
        state_(1, 1, in.q.size(3), in.q.size(3), {.p = order}),
        newest_(at::empty({1, 1, 1, in.q.size(3)})) {}

  /// Every token rounds the growing sums once, so alone they leave a trail; in parts they do not.
  double goal() const { return part_ == 1 ? kNoGoal : kOutputGoal; }
  std::string name() const {
    return part_ == 1 ? "a token at a time" : text(part_, " tokens at a time");
  }

  /// What queries at `rows` read after N tokens.
  at::Tensor read(std::int64_t N, const at::Tensor& rows) {
    const Execution here = serial(&workspace_);
    for (; joined_ < N; joined_ += part_) {
      const std::int64_t n = std::min(part_, N - joined_);
      const auto at = [&](const at::Tensor& x) { return tokens(x, joined_, n); };
      if (part_ == 1)
        state_.step(at(in_.q), at(in_.k), at(in_.v), tokens(newest_, 0, 1), here);
      else
        state_.add(at(in_.k), at(in_.v), {}, here);
    }
    joined_ = N;
    const at::Tensor q = in_.q.index_select(2, rows), o = at::full_like(q, NAN);
    state_.query(tokens(q, 0, q.size(2)), tokens(o, 0, q.size(2)), here);
    return o;
  }

 private:
  BenchInputs in_;
  std::int64_t part_, joined_ = 0;
  State<float> state_;
  at::Tensor newest_;  // what the newest token reads
  Workspace workspace_;
};

/// All figures of one kind of inputs and head size.
class Group {
 public:
  Group(const AccuracyOptions& options, const std::string& inputs, std::int64_t D,
        std::vector<Accuracy>& figures)
      : options_(options),
        inputs_(inputs),
        D_(D),
        all_(make_inputs(inputs, options.lengths.back(), D)),
        figures_(figures) {}

  /// The states that went through the shorter lengths go on from there.
  void begin(int order) {
    drifts_.clear();
    if (inputs_ != "normal") return;
    const auto smallest = std::min_element(options_.dims.begin(), options_.dims.end());
    if (D_ == *smallest) drifts_.push_back(std::make_unique<Drift>(all_, order, 1));
    drifts_.push_back(std::make_unique<Drift>(all_, order, kPart));
  }

  void measure(int order, std::int64_t N) {
    const BenchInputs in = first_tokens(all_, N);
    rows_ = spread_rows(N);
    for (const bool causal : {false, true}) {
      place_ = {.inputs = inputs_, .order = order, .D = D_, .N = N, .causal = causal};
      measure_float(in);
      if (inputs_ == "normal" || (inputs_ == "v + 10" && N <= kHardTokens)) {
        measure_half("bfloat16 output", converted(in, at::kBFloat16));
        measure_half("float16 output", converted(in, at::kHalf));
      }
    }
  }

 private:
  BenchShape shape(const BenchInputs& in, bool backward) const {
    return {.N = place_.N,
            .D = D_,
            .causal = place_.causal,
            .backward = backward,
            .dtype = in.q.scalar_type()};
  }

  /// What the method answers: o and g, and the gradients if asked.
  BenchOutputs answer(const std::string& method, const BenchInputs& in, bool backward) const {
    const auto outputs = std::make_shared<BenchOutputs>();
    fastmax_contender(method, place_.order, shape(in, backward), in, outputs).call();
    return *outputs;
  }

  std::vector<std::string> forms() const {
    if (place_.N > kDirectTokens) return {"factorised"};
    return {"direct", "factorised"};
  }

  void add(const std::string& what, const std::string& form, double error, double goal) {
    Accuracy figure = place_;
    figure.what = what;
    figure.form = form;
    figure.error = error;
    figure.goal = goal;
    figures_.push_back(figure);
  }

  void measure_float(const BenchInputs& in) {
    const bool backward = inputs_ == "normal" || place_.N <= kHardTokens;
    const SampledHead truth = forward_truth(in, place_.order, place_.causal, rows_)[0];
    SampledHead gradient;
    if (backward) {
      const BenchOutputs wide = answer("factorised", converted(in, at::kDouble), false);
      add("float64 output", "factorised", relative_rms(truth.o, rows_, wide.o), kFloat64Goal);
      gradient = backward_truth(in, place_.order, place_.causal, wide, rows_)[0];
    }
    for (const std::string& form : forms()) {
      const BenchOutputs got = answer(form, in, backward);
      add("float32 output", form, relative_rms(truth.o, rows_, got.o), kOutputGoal);
      if (!backward) continue;
      double worst = 0;
      for (const auto& [expected, x] :
           {std::pair{gradient.dq, got.dq}, {gradient.dk, got.dk}, {gradient.dv, got.dv}})
        worst = worse(worst, relative_rms(expected, rows_, x));
      add("float32 gradients", form, worst, kGradientGoal);
    }
    if (place_.causal) return;
    for (const auto& drift : drifts_) {
      const at::Tensor all = at::arange(rows_.size(0)), got = drift->read(place_.N, rows_);
      add("float32 state", drift->name(), relative_rms(truth.o, all, got), drift->goal());
    }
  }

  /// Against the truth of the rounded inputs, in units of v's standard deviation.
  void measure_half(const std::string& what, const BenchInputs& in) {
    const SampledHead truth = forward_truth(in, place_.order, place_.causal, rows_)[0];
    const double unit = in.v.to(at::kDouble).std().item<double>();
    for (const std::string& form : forms()) {
      const BenchOutputs got = answer(form, in, false);
      add(what, form, excess(truth.o, rows_, got.o) / unit, kHalfGoal);
    }
  }

  const AccuracyOptions& options_;
  std::string inputs_;
  std::int64_t D_;
  BenchInputs all_;
  std::vector<std::unique_ptr<Drift>> drifts_;
  at::Tensor rows_;
  Accuracy place_;
  std::vector<Accuracy>& figures_;
};

/// got at the rows, in float64.
at::Tensor at_rows(const at::Tensor& rows, const at::Tensor& got) {
  return got[0][0].index_select(0, rows).to(at::kDouble);
}

}  // namespace

double worse(double a, double b) { return std::isnan(a) || a >= b ? a : b; }

const std::vector<std::string>& accuracy_inputs() {
  static const std::vector<std::string> names = {"normal", "v + 10", "clusters", "outlier",
                                                 "constant rows"};
  return names;
}

BenchInputs make_inputs(const std::string& name, std::int64_t N, std::int64_t D) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(42);
  const auto normal = [&](std::int64_t n) {
    return at::randn({1, 1, n, D}, generator, at::kFloat);
  };
  BenchInputs in{normal(N), normal(N), normal(N), normal(N)};
  if (name == "v + 10") in.v += 10;
  if (name == "clusters")
    in.k = normal(4).index_select(2, at::arange(N).remainder(4)) + 0.01 * in.k;
  for (const at::Tensor& x : {in.q, in.k}) {
    if (name == "outlier") x.select(3, 0).mul_(100);
    if (name == "constant rows") x.slice(2, 0, N, 10).copy_(x.slice(2, 0, N, 10).slice(3, 0, 1));
  }
  return in;
}

double relative_rms(const at::Tensor& truth, const at::Tensor& rows, const at::Tensor& got) {
  return ((at_rows(rows, got) - truth).norm() / truth.norm()).item<double>();
}

double excess(const at::Tensor& truth, const at::Tensor& rows, const at::Tensor& got) {
  const at::Tensor rounded = truth.to(got.scalar_type()).to(at::kDouble);
  const at::Tensor beyond = (at_rows(rows, got) - truth).abs() - (rounded - truth).abs();
  return beyond.clamp_min(0).square().mean().sqrt().item<double>();  // NaN passes through all
}

AccuracyReport run_accuracy(const AccuracyOptions& options,
                            const std::function<void(int, int, const std::string&)>& progress,
                            const std::function<bool()>& stop) {
  const at::NoGradGuard no_grad;
  AccuracyReport report;
  const std::size_t total = options.dims.size() * accuracy_inputs().size() * options.orders.size() *
                            options.lengths.size();
  int done = 0;
  for (const std::int64_t D : options.dims) {
    for (const std::string& inputs : accuracy_inputs()) {
      Group group(options, inputs, D, report.figures);
      for (const int order : options.orders) {
        group.begin(order);
        for (const std::int64_t N : options.lengths) {
          report.interrupted = stop();
          if (report.interrupted) return report;
          progress(done++, static_cast<int>(total),
                   text("D=", D, " p=", order, " N=", N, " ", inputs));
          group.measure(order, N);
        }
      }
    }
  }
  return report;
}

}  // namespace fastmax::app
