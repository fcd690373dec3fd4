#include "fastmax/state.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <iterator>
#include <sstream>
#include <utility>

#include "src/check.h"
#include "src/cpu/kernels.h"
#include "src/cpu/layout.h"
#include "src/denominator.h"
#include "src/machine.h"
#include "src/pool.h"
#include "src/run.h"
#include "src/state_file.h"

namespace fastmax {
namespace {

constexpr std::pair<Normalize, const char*> kNormalizeNames[] = {
    {Normalize::kStandardize, "standardize"}, {Normalize::kL2, "l2"}, {Normalize::kNone, "none"}};

const char* name_of(Normalize normalize) {
  for (const auto& [value, name] : kNormalizeNames) {
    if (value == normalize) return name;
  }
  return "max_norm";
}

/// The shortest text that reads as x.
std::string text_of(double x) {
  char text[32];
  return {text, std::to_chars(std::begin(text), std::end(text), x).ptr};
}

std::string text_of(const Options& options) {
  if (!options.coefficients) return "1 / l!";
  std::string list;
  for (int l = 0; l <= options.p; ++l) {
    if (l > 0) list += ' ';
    list += text_of((*options.coefficients)[l]);
  }
  return list;
}

/// What makes two states add up.
void check_same_function(const Options& a, const Options& b) {
  require(a.p == b.p, "states of one order to add, got ", a.p, " and ", b.p);
  require(a.scale == b.scale, "states of one scale to add, got ", text_of(*a.scale), " and ",
          text_of(*b.scale));
  require(a.normalize == b.normalize, "states of one normalisation to add, got ",
          name_of(a.normalize), " and ", name_of(b.normalize));
  require(a.coefficients == b.coefficients, "states of the same coefficients to add, got ",
          text_of(a), " and ", text_of(b));
}

/// The checked call of a step.
template <class T>
cpu::StepCall<T> call_of(const StepArgs<T>& a, const Options& options, int threads) {
  Options unmasked = options;
  unmasked.causal = false;
  unmasked.form = Form::kAuto;
  require(a.state.data != nullptr || a.q.B == 0, "a state, got none");
  require(options.dropout.rate == 0, "no dropout in a step, got rate ", options.dropout.rate);
  check(ForwardArgs<T>{.q = a.q,
                       .k = a.k,
                       .v = a.v,
                       .key_weight = a.key_weight,
                       .o = a.o,
                       .initial_state = a.state,
                       .final_state = a.state},
        unmasked, threads);
  require(a.q.N == 1 && a.k.N == 1, "one token (q.N == k.N == 1), got ", a.q.N, " and ", a.k.N);
  cpu::StepCall<T> call;
  cpu::resolve(unmasked, a.q.D, call);
  call.args = a;
  call.score = shifted_polynomial(call.p, call.coefficients, 1);
  return call;
}

/// What a step keeps beside its threads' scratch: its rows' ratios and, where it may throw, the state as it was.
template <class T>
std::size_t lay_out(cpu::Arena arena, const Options& options, cpu::StepCall<T>& call, T*& before) {
  const StepArgs<T>& a = call.args;
  call.ratio = arena.take<T>(call.floors ? static_cast<std::size_t>(a.q.B * a.q.H) : 0);
  before =
      arena.take<T>(floor_is_error(options, a.q.D) ? static_cast<std::size_t>(a.state.size()) : 0);
  return arena.used();
}

}  // namespace

template <class T>
Report step(const StepArgs<T>& a, const Options& options, const Execution& execution) {
  auto call = call_of(a, options, execution.threads);
  if (a.q.B == 0 || a.q.H == 0) return {};
  const int threads = threads_of(execution.threads);
  T* before = nullptr;
  const std::size_t taken = lay_out(cpu::Arena{}, options, call, before);
  const WithWorkspace with(execution);
  std::byte* memory =
      with.reserve(taken + cpu::step_workspace(call, static_cast<std::size_t>(threads)));
  lay_out(cpu::Arena(memory), options, call, before);
  if (floor_is_error(options, a.q.D)) std::copy_n(a.state.data, a.state.size(), before);
  cpu::step(call, team_of(execution, threads), memory + taken);
  Report report{.form = Form::kFactorised};
  if (!call.floors) return report;
  report.smallest_denominator = smallest_of(call.ratio, a.q.B * a.q.H);
  try {
    require_denominators<T>(report.smallest_denominator, options, a.q.D);
  } catch (const Error&) {
    std::copy_n(before, a.state.size(), a.state.data);
    throw;
  }
  return report;
}

template <class T>
Plan plan(const StepArgs<T>& a, const Options& options, int threads) {
  auto call = call_of(a, options, threads);
  Plan plan{.form = Form::kFactorised, .why = "a state is made of features"};
  if (a.q.B == 0 || a.q.H == 0) return plan;
  T* before = nullptr;
  plan.workspace_bytes = lay_out(cpu::Arena{}, options, call, before) +
                         cpu::step_workspace(call, static_cast<std::size_t>(threads_of(threads)));
  return plan;
}

template <class T>
State<T>::State(std::int64_t B, std::int64_t Hkv, std::int64_t D, std::int64_t E,
                const Options& options)
    : B_(B), H_(Hkv), D_(D), E_(E), F_(state_features(options.p, D)), options_(options) {
  options_.form = Form::kAuto;
  options_.causal = false;
  require(B >= 0 && Hkv >= 0, "B and Hkv >= 0, got ", B, " and ", Hkv);
  require(E >= 1, "E >= 1, got ", E);
  check_options<T>(options_);
  require(options.dropout.rate == 0, "no dropout in a state, got rate ", options.dropout.rate);
  check_state(options_, B, Hkv, D, E);
  options_.scale = options.scale ? *options.scale : default_scale(options.p, D, options.normalize);
  if (options_.coefficients) {  // c_0 .. c_p make the function; the rest says nothing
    std::fill(options_.coefficients->begin() + options_.p + 1, options_.coefficients->end(), 0);
  }
  data_.resize(static_cast<std::size_t>(view().size()));
}

template <class T>
void State<T>::add(const BhndView<const T>& k, const BhndView<const T>& v,
                   const BnView<const T>& key_weight, const Execution& execution) {
  const BhndView<const T> no_query{nullptr, B_, H_, 0, D_, 0, 0, 0};
  const BhndView<T> no_output{nullptr, B_, H_, 0, E_, E_, E_, E_};
  forward<T>({.q = no_query,
              .k = k,
              .v = v,
              .key_weight = key_weight,
              .o = no_output,
              .initial_state = std::as_const(*this).view(),
              .final_state = view()},
             options_, execution);
  count_ += k.N;
}

template <class T>
Report State<T>::query(const BhndView<const T>& q, const BhndView<T>& o,
                       const Execution& execution) const {
  return forward<T>({.q = q,
                     .k = {nullptr, B_, H_, 0, D_, 0, 0, 0},
                     .v = {nullptr, B_, H_, 0, E_, 0, 0, 0},
                     .o = o,
                     .initial_state = view()},
                    options_, execution);
}

template <class T>
Report State<T>::extend(const BhndView<const T>& q, const BhndView<const T>& k,
                        const BhndView<const T>& v, const BhndView<T>& o,
                        const BnView<const T>& key_weight, const Execution& execution) {
  Options options = options_;
  options.causal = true;
  // An error comes after the work: only without one does the state change.
  std::vector<T> next(floor_is_error(options_, D_) ? data_.size() : 0);
  StateView<T> to = view();
  if (!next.empty()) to.data = next.data();
  const Report report = forward<T>({.q = q,
                                    .k = k,
                                    .v = v,
                                    .key_weight = key_weight,
                                    .o = o,
                                    .initial_state = std::as_const(*this).view(),
                                    .final_state = to},
                                   options, execution);
  std::ranges::copy(next, data_.begin());
  count_ += k.N;
  return report;
}

template <class T>
Report State<T>::step(const BhndView<const T>& q, const BhndView<const T>& k,
                      const BhndView<const T>& v, const BhndView<T>& o,
                      const Execution& execution) {
  const Report report =
      fastmax::step<T>({.q = q, .k = k, .v = v, .state = view(), .o = o}, options_, execution);
  ++count_;
  return report;
}

template <class T>
State<T>& State<T>::operator+=(const State& other) {
  require(B_ == other.B_ && H_ == other.H_ && D_ == other.D_ && E_ == other.E_,
          "states of one size to add, got [B, Hkv, D, E] = [", B_, ", ", H_, ", ", D_, ", ", E_,
          "] and [", other.B_, ", ", other.H_, ", ", other.D_, ", ", other.E_, "]");
  check_same_function(options_, other.options_);
  std::transform(data_.begin(), data_.end(), other.data_.begin(), data_.begin(), std::plus<T>());
  count_ += other.count_;
  return *this;
}

template <class T>
void State<T>::save(const std::string& path) const {
  std::map<std::string, std::string> metadata{{"order", std::to_string(options_.p)},
                                              {"D", std::to_string(D_)},
                                              {"E", std::to_string(E_)},
                                              {"count", std::to_string(count_)},
                                              {"scale", text_of(*options_.scale)},
                                              {"normalize", name_of(options_.normalize)}};
  if (options_.coefficients) metadata["coefficients"] = text_of(options_);
  write_state_file(path, sizeof(T) == 4 ? "F32" : "F64", {B_, H_, F_, E_ + 1}, metadata,
                   std::as_bytes(std::span(data_)));
}

template <class T>
State<T> State<T>::load(const std::string& path) {
  const StateFile file = read_state_file(path);
  require(file.dtype == (sizeof(T) == 4 ? "F32" : "F64"), "dtype ", sizeof(T) == 4 ? "F32" : "F64",
          " in ", path, ", got ", file.dtype);
  const auto value = [&](const char* key) {
    const auto found = file.metadata.find(key);
    require(found != file.metadata.end(), "metadata '", key, "' in ", path, ", got none");
    return found->second;
  };
  const auto number = [&](const char* key) {
    std::istringstream text(value(key));
    double x = 0;
    require(text >> x && text.eof(), "a number as '", key, "' in ", path, ", got '", value(key),
            "'");
    return x;
  };
  const double order = number("order"), scale = number("scale"), count = number("count");
  require(order >= 1 && order <= 4, "order in 1..4 in ", path, ", got ", order);
  require(scale > 0 && std::isfinite(scale), "scale > 0 and finite in ", path, ", got ", scale);
  require(count >= 0 && count < 0x1p53, "count >= 0 in ", path, ", got ", count);
  require(number("D") >= 1 && number("D") < 0x1p20, "D >= 1 in ", path, ", got ", number("D"));
  require(number("E") == static_cast<double>(file.shape[3] - 1), "E == ", file.shape[3] - 1,
          " as in the shape of ", path, ", got ", number("E"));
  Options options{.p = static_cast<int>(order), .scale = scale};
  const std::string normalize = value("normalize");
  const auto* known = std::ranges::find(
      kNormalizeNames, normalize, [](const auto& entry) { return std::string(entry.second); });
  require(known != std::end(kNormalizeNames), "normalize standardize, l2 or none in ", path,
          ", got '", normalize, "'");
  options.normalize = known->first;
  if (file.metadata.contains("coefficients")) {
    std::istringstream list(value("coefficients"));
    options.coefficients.emplace();
    for (int l = 0; l <= options.p; ++l) {
      require(bool(list >> (*options.coefficients)[l]), "coefficients c_0 .. c_p in ", path,
              ", got '", value("coefficients"), "'");
    }
  }
  State state(file.shape[0], file.shape[1], static_cast<std::int64_t>(number("D")),
              file.shape[3] - 1, options);
  require(state.F_ == file.shape[2], "F == C(D + p, p) = ", state.F_, " in ", path, ", got ",
          file.shape[2]);
  state.count_ = static_cast<std::int64_t>(count);
  std::memcpy(state.data_.data(), file.data.data(), file.data.size());
  return state;
}

template Report step(const StepArgs<float>&, const Options&, const Execution&);
template Report step(const StepArgs<double>&, const Options&, const Execution&);
template Plan plan(const StepArgs<float>&, const Options&, int);
template Plan plan(const StepArgs<double>&, const Options&, int);
template class State<float>;
template class State<double>;

}  // namespace fastmax
