#include "app/profile.h"

#include <ATen/SequenceNumber.h>

#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>

#include "app/clock.h"
#include "app/error.h"

namespace fastmax::app {
namespace {

// The first entry whose word is in an operator's name says its part. Backward's operators are called
// "autograd::engine::evaluate_function: GeluBackward0", ours as the C++ type.
constexpr std::pair<std::string_view, std::string_view> kParts[] = {
    {"AddDropped", "dropout"},
    {"fastmax::", "attention"},
    {"caled_dot_product", "attention"},  // s, and S in the name of its gradient
    {"caledDotProduct", "attention"},
    {"foreach", "optimiser"},
    {"fused_adamw", "optimiser"},
    {"layer_norm", "norms"},
    {"LayerNorm", "norms"},
    {"gelu", "activations"},
    {"Gelu", "activations"},
    {"relu", "activations"},
    {"Relu", "activations"},
    {"onv", "convolution"},  // conv1d, ConvolutionBackward0
    {"pad_nd", "convolution"},
    {"PadNd", "convolution"},
    {"mbedding", "embedding"},
    {"cross_entropy", "loss"},
    {"NllLoss", "loss"},
    {"LogSoftmax", "loss"},
    {"linear", "projections"},
    {"mm", "projections"},  // mm, addmm, bmm
    {"Mm", "projections"},
    {"AccumulateGrad", "gradient sums"},
};

std::string part_of(std::string_view name) {
  for (const auto& [word, part] : kParts) {
    if (name.find(word) != name.npos) return std::string(part);
  }
  return "adds, views and copies";
}

// torch calls plain functions, so what they know is their thread's.
thread_local int depth = 0;
thread_local std::map<std::string, double>* seconds_by_name = nullptr;

// The numbers that autograd gave to the gradients of marked attention, from the first to behind the last.
thread_local std::vector<std::pair<std::uint64_t, std::uint64_t>> marked;
thread_local bool in_gradient_of_marked = false;  // of what began last at depth 0

struct Began : at::ObserverContext {
  Clock::time_point at = Clock::now();
  std::uint64_t next = at::sequence_number::peek();
};

// Backward, a gradient has the number that it got forward; what autograd wraps around it, which comes first, has none.
bool is_gradient_of_marked(const at::RecordFunction& function) {
  if (function.scope() != at::RecordScope::BACKWARD_FUNCTION) return false;
  const auto number = static_cast<std::uint64_t>(function.seqNr());
  return std::ranges::any_of(
      marked, [&](const auto& range) { return range.first <= number && number < range.second; });
}

std::unique_ptr<at::ObserverContext> enter(const at::RecordFunction& function) {
  if (depth == 0) in_gradient_of_marked = false;
  in_gradient_of_marked |= is_gradient_of_marked(function);
  return depth++ == 0 ? std::make_unique<Began>() : nullptr;
}

void leave(const at::RecordFunction& function, at::ObserverContext* context) {
  --depth;
  const auto* began = static_cast<Began*>(context);
  if (!began) return;
  const std::string_view name = function.name();
  if (name == kAttentionMark) marked.emplace_back(began->next, at::sequence_number::peek());
  const std::string key(in_gradient_of_marked ? kAttentionMark : name);
  (*seconds_by_name)[key] += seconds_since(began->at);
}

}  // namespace

void Profile::begin(double data_seconds) {
  data_seconds_ += data_seconds;
  seconds_by_name = &operators_;
  marked.clear();
  handle_ = at::addThreadLocalCallback(
      at::RecordFunctionCallback(enter, leave)
          .scopes({at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION}));
  began_ = Clock::now();
}

void Profile::stop() {
  if (handle_ != at::INVALID_CALLBACK_HANDLE) at::removeCallback(handle_);
  handle_ = at::INVALID_CALLBACK_HANDLE;
}

void Profile::end() {
  seconds_ += seconds_since(began_);
  stop();
  ++steps_;
}

std::vector<std::pair<std::string, double>> Profile::parts() const {
  std::map<std::string, double> parts = {{"data", data_seconds_}};
  double rest = seconds_;
  for (const auto& [name, seconds] : operators_) {
    parts[part_of(name)] += seconds;
    rest -= seconds;
  }
  parts["bookkeeping"] = rest;
  std::vector<std::pair<std::string, double>> sorted(parts.begin(), parts.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  return sorted;
}

nlohmann::ordered_json Profile::json() const {
  const double all = data_seconds_ + seconds_;
  nlohmann::ordered_json shares;
  for (const auto& [part, seconds] : parts()) shares[part] = seconds / all;
  return {{"steps", steps_}, {"milliseconds", 1e3 * all / double(steps_)}, {"parts", shares}};
}

Table Profile::table() const {
  const double all = data_seconds_ + seconds_;
  Table table({{"part of a step", Align::kLeft}, {"ms"}, {"share"}});
  const auto row = [&](const std::string& part, double seconds) {
    table.row({part, short_number(1e3 * seconds / double(steps_)),
               short_number(100 * seconds / all) + " %"});
  };
  for (const auto& [part, seconds] : parts()) row(part, seconds);
  table.rule();
  row(text("mean of ", steps_, " steps"), all);
  return table;
}

}  // namespace fastmax::app
