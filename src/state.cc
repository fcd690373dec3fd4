#include "fastmax/state.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iomanip>
#include <sstream>
#include <utility>

#include "src/check.h"
#include "src/cpu/kernels.h"
#include "src/machine.h"
#include "src/pool.h"
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

std::string text_of(double x) {
  std::ostringstream text;
  text << std::setprecision(17) << x;
  return text.str();
}

/// What makes two states add up.
bool same_function(const Options& a, const Options& b) {
  return a.p == b.p && a.scale == b.scale && a.normalize == b.normalize &&
         a.coefficients == b.coefficients;
}

}  // namespace

namespace {

/// The checked call of a step.
template <class T>
cpu::StepCall<T> call_of(const StepArgs<T>& a, const Options& options) {
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
        unmasked);
  require(a.q.N == 1 && a.k.N == 1, "one token (q.N == k.N == 1), got ", a.q.N, " and ", a.k.N);
  cpu::StepCall<T> call;
  cpu::resolve(unmasked, a.q.D, call);
  call.args = a;
  call.score = shifted_polynomial(call.p, call.coefficients, 1);
  return call;
}
int threads_of(int asked) { return asked > 0 ? asked : available_threads(); }

}  // namespace

template <class T>
void step(const StepArgs<T>& a, const Options& options, const Execution& execution) {
  const auto call = call_of(a, options);
  if (a.q.B == 0 || a.q.H == 0) return;
  const int threads = threads_of(execution.threads);
  Workspace own;
  std::byte* memory = (execution.workspace ? *execution.workspace : own)
                          .reserve(cpu::step_workspace(call, static_cast<std::size_t>(threads)))
                          .data();
  static const ParallelRun pool = pool_run;
  cpu::step(call, cpu::Team(threads, execution.run ? &execution.run : &pool), memory);
}

template <class T>
Plan plan(const StepArgs<T>& a, const Options& options, int threads) {
  const auto call = call_of(a, options);
  Plan plan{.form = Form::kFactorised, .why = "a state is made of features"};
  if (a.q.B == 0 || a.q.H == 0) return plan;
  plan.workspace_bytes = cpu::step_workspace(call, static_cast<std::size_t>(threads_of(threads)));
  return plan;
}

template <class T>
State<T>::State(std::int64_t B, std::int64_t Hkv, std::int64_t D, std::int64_t E,
                const Options& options)
    : B_(B), H_(Hkv), D_(D), E_(E), F_(state_features(options.p, D)), options_(options) {
  options_.form = Form::kAuto;
  require(B >= 0 && Hkv >= 0, "B and Hkv >= 0, got ", B, " and ", Hkv);
  require(E >= 1, "E >= 1, got ", E);
  require(options.dropout.rate == 0, "no dropout in a state, got rate ", options.dropout.rate);
  require(options.normalize != Normalize::kMaxNorm,
          "normalize other than kMaxNorm with a state (the largest norm is of one sequence), got "
          "kMaxNorm");
  options_.scale = options.scale ? *options.scale : default_scale(options.p, D, options.normalize);
  // At the default scale no weight is negative, so a floored row is clamped, as forward does.
  if (!options.floor && !options.scale && !options.coefficients) options_.floor = Floor::kClamp;
  constexpr double kMost = 0x1p44;
  require(static_cast<double>(B) * static_cast<double>(Hkv) * static_cast<double>(F_) *
                  static_cast<double>(E + 1) <
              kMost,
          "a state that fits memory, got B ", B, ", Hkv ", Hkv, ", F ", F_, ", E ", E);
  data_.resize(static_cast<std::size_t>(view().size()));
}

template <class T>
void State<T>::add(const BhndView<const T>& k, const BhndView<const T>& v,
                   const BnView<const T>& key_weight, const Execution& execution) {
  const BhndView<const T> no_query{nullptr, B_, H_, 0, D_, 0, 0, 0};
  const BhndView<T> no_output{nullptr, B_, H_, 0, E_, E_, E_, E_};
  Options options = options_;
  options.causal = false;
  forward<T>({.q = no_query,
              .k = k,
              .v = v,
              .key_weight = key_weight,
              .o = no_output,
              .initial_state = std::as_const(*this).view(),
              .final_state = view()},
             options, execution);
  count_ += k.N;
}

template <class T>
void State<T>::query(const BhndView<const T>& q, const BhndView<T>& o,
                     const Execution& execution) const {
  Options options = options_;
  options.causal = false;
  forward<T>({.q = q,
              .k = {nullptr, B_, H_, 0, D_, 0, 0, 0},
              .v = {nullptr, B_, H_, 0, E_, 0, 0, 0},
              .o = o,
              .initial_state = view()},
             options, execution);
}

template <class T>
void State<T>::extend(const BhndView<const T>& q, const BhndView<const T>& k,
                      const BhndView<const T>& v, const BhndView<T>& o,
                      const BnView<const T>& key_weight, const Execution& execution) {
  Options options = options_;
  options.causal = true;
  forward<T>({.q = q,
              .k = k,
              .v = v,
              .key_weight = key_weight,
              .o = o,
              .initial_state = std::as_const(*this).view(),
              .final_state = view()},
             options, execution);
  count_ += k.N;
}

template <class T>
void State<T>::step(const BhndView<const T>& q, const BhndView<const T>& k,
                    const BhndView<const T>& v, const BhndView<T>& o, const Execution& execution) {
  fastmax::step<T>({.q = q, .k = k, .v = v, .state = view(), .o = o}, options_, execution);
  ++count_;
}

template <class T>
State<T>& State<T>::operator+=(const State& other) {
  require(B_ == other.B_ && H_ == other.H_ && D_ == other.D_ && E_ == other.E_,
          "states of one size to add, got [B, Hkv, D, E] = [", B_, ", ", H_, ", ", D_, ", ", E_,
          "] and [", other.B_, ", ", other.H_, ", ", other.D_, ", ", other.E_, "]");
  require(same_function(options_, other.options_),
          "states of one order, scale, normalisation and coefficients to add, got p ", options_.p,
          " and ", other.options_.p, ", scale ", *options_.scale, " and ", *other.options_.scale);
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
  if (options_.coefficients) {
    std::string& list = metadata["coefficients"];
    for (int l = 0; l <= options_.p; ++l) {
      if (l > 0) list += ' ';
      list += text_of((*options_.coefficients)[l]);
    }
  }
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

template void step(const StepArgs<float>&, const Options&, const Execution&);
template void step(const StepArgs<double>&, const Options&, const Execution&);
template Plan plan(const StepArgs<float>&, const Options&, int);
template Plan plan(const StepArgs<double>&, const Options&, int);
template class State<float>;
template class State<double>;

}  // namespace fastmax
