// The options of the operators: as the schema declares them, as they are taken, and as the core's.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fastmax/fastmax.h"
#include "torch_ops/arguments.h"
#include "torch_ops/attention_options.h"

namespace fastmax::torch_ops {

// What f and x^ are; two states add up if these are the same.
#define FASTMAX_FUNCTION \
  "int p=2, float? scale=None, str normalize='standardize', float[]? coefficients=None"
// How a call goes about it. `floor` is 'auto', 'clamp' or 'error'.
#define FASTMAX_CALL                                                                        \
  "bool causal=False, str method='auto', float dropout_p=0., str dropout='quadratic', str " \
  "floor='auto', int chunk=0"

template <class Enum, std::size_t n>
Enum parse(const char* option, const std::string& word,
           const std::pair<const char*, Enum> (&names)[n]) {
  std::string known;
  for (std::size_t i = 0; i < n; ++i) {
    if (word == names[i].first) return names[i].second;
    known += std::string(i == 0 ? "'" : i + 1 < n ? "', '" : "' or '") + names[i].first;
  }
  require(false, option, " ", known, "', got '", word, "'");
  return {};
}

/// FASTMAX_FUNCTION and FASTMAX_CALL, unjudged: what is on the stack must be taken before anything is refused. `seed`
/// comes as a tensor instead.
struct TakenOptions : AttentionOptions {
  void take_function(Arguments& in) {
    p = in.take<std::int64_t>();
    scale = in.take<std::optional<double>>();
    normalize = in.take_word();
    coefficients = in.take<std::optional<std::vector<double>>>();
  }
  void take_call(Arguments& in) {
    causal = in.take<bool>();
    method = in.take_word();
    dropout_p = in.take<double>();
    dropout = in.take_word();
    floor = in.take_word();
    chunk = in.take<std::int64_t>();
  }

  Options checked(std::uint64_t seed) const {
    require(1 <= p && p <= 4, "p in 1..4, got ", p);
    require(0 <= chunk && chunk < 0x40000000, "0 <= chunk < 2^30, got ", chunk);
    Options options{
        .p = static_cast<int>(p),
        .causal = causal,
        .scale = scale,
        .form = parse<Form>(
            "method", method,
            {{"auto", Form::kAuto}, {"direct", Form::kDirect}, {"factorised", Form::kFactorised}}),
        .chunk = static_cast<int>(chunk),
        .normalize = parse<Normalize>("normalize", normalize,
                                      {{"standardize", Normalize::kStandardize},
                                       {"l2", Normalize::kL2},
                                       {"none", Normalize::kNone},
                                       {"max_norm", Normalize::kMaxNorm}}),
        .dropout = {.rate = dropout_p,
                    .mode = parse<DropoutMode>("dropout", dropout,
                                               {{"quadratic", DropoutMode::kQuadratic},
                                                {"standard", DropoutMode::kStandard},
                                                {"token", DropoutMode::kToken}}),
                    .seed = seed},
        .floor = parse<std::optional<Floor>>(
            "floor", floor,
            {{"auto", std::nullopt}, {"clamp", Floor::kClamp}, {"error", Floor::kError}})};
    if (coefficients) {
      require(coefficients->size() == static_cast<std::size_t>(p) + 1,
              "coefficients c_0 .. c_p, p + 1 = ", p + 1, " of them, got ", coefficients->size());
      options.coefficients.emplace();
      options.coefficients->fill(0);
      std::copy(coefficients->begin(), coefficients->end(), options.coefficients->begin());
    }
    return options;
  }
};

}  // namespace fastmax::torch_ops
