// A covering array of the options: each pair of settings of two options meets in some case.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <ostream>
#include <string>
#include <vector>

#include "fastmax/fastmax.h"
#include "tests/problem.h"

namespace fastmax::testing_support {

/// The options, and how many settings each has.
enum Factor {
  kOrder,
  kMask,
  kNormalization,
  kCoefficients,
  kScale,
  kWeights,
  kHeads,
  kDropout,
  kWidth,
  kLength,
  kForm,
  kThreads,
  kState,
  kBatch,
  kPacking,
  kFloor,
  kFactors
};
constexpr std::array<int, kFactors> kSettings{4, 2, 4, 4, 2, 4, 3, 4, 4, 5, 2, 2, 2, 3, 2, 3};
using Setting = std::array<int, kFactors>;  // -1: not chosen yet

/// Combinations that the library refuses, or that make no sense: kept out of the array. Only chosen factors count.
inline bool legal(const Setting& s) {
  const auto is = [&](Factor f, int value) { return s[f] == value; };
  const bool max_norm = is(kNormalization, 3), direct = is(kForm, 0);
  const bool drops_features = is(kDropout, 1) || is(kDropout, 2);
  if (max_norm && (is(kMask, 1) || is(kState, 1))) return false;
  if (direct && (drops_features || is(kState, 1))) return false;
  if (drops_features && is(kState, 1)) return false;
  const bool zero_coefficient = is(kCoefficients, 3);
  if (zero_coefficient && (is(kOrder, 0) || is(kState, 1))) return false;
  if (is(kWeights, 3) && is(kBatch, 0)) return false;  // no key at all: nothing to compare
  if (is(kNormalization, 2) && is(kScale, 0) && (is(kOrder, 0) || is(kOrder, 2))) return false;
  return true;
}

/// Pairs that s covers and `done` does not.
using Pairs = std::vector<bool>;
inline std::size_t pair_at(int i, int a, int j, int b) {
  return ((static_cast<std::size_t>(i) * 8 + a) * kFactors + j) * 8 + b;
}
inline int new_pairs(const Setting& s, int i, const Pairs& done) {
  int count = 0;
  for (int j = 0; j < kFactors; ++j)
    if (j != i && s[j] >= 0)
      count +=
          !done[pair_at(std::min(i, j), i < j ? s[i] : s[j], std::max(i, j), i < j ? s[j] : s[i])];
  return count;
}

/// Can the factors not chosen yet be chosen legally?
inline bool completable(Setting s, int factor = 0) {
  if (!legal(s)) return false;
  while (factor < kFactors && s[factor] >= 0) ++factor;
  if (factor == kFactors) return true;
  for (s[factor] = 0; s[factor] < kSettings[factor]; ++s[factor])
    if (completable(s, factor + 1)) return true;
  return false;
}

/// Greedy: a pair not covered yet starts a case, and each other factor takes the setting that covers most.
inline std::vector<Setting> covering_array() {
  Pairs done(kFactors * 8 * kFactors * 8, false);
  std::vector<Setting> cases;
  for (int i = 0; i < kFactors; ++i)
    for (int j = i + 1; j < kFactors; ++j)
      for (int a = 0; a < kSettings[i]; ++a)
        for (int b = 0; b < kSettings[j]; ++b) {
          if (done[pair_at(i, a, j, b)]) continue;
          Setting s;
          s.fill(-1);
          s[i] = a;
          s[j] = b;
          if (!completable(s)) continue;
          for (int f = 0; f < kFactors; ++f) {
            if (s[f] >= 0) continue;
            int best = -1, most = -1;
            for (int k = 0; k < kSettings[f]; ++k) {
              const int value = static_cast<int>((k + cases.size()) % kSettings[f]);
              s[f] = value;
              const int covers = completable(s) ? new_pairs(s, f, done) : -1;
              if (covers > most) {
                most = covers;
                best = value;
              }
            }
            s[f] = best;
          }
          for (int x = 0; x < kFactors; ++x)
            for (int y = x + 1; y < kFactors; ++y) done[pair_at(x, s[x], y, s[y])] = true;
          cases.push_back(s);
        }
  return cases;
}

struct OptionsCase {
  Case c;
  Options base{.floor = Floor::kClamp};
  Form form = Form::kDirect;
  int threads = 1;
  bool state = false;
  bool packed = false;  ///< batch entries as sequences of one length
};

inline OptionsCase options_case(const Setting& s) {
  struct Width {
    std::int64_t D, E;
  };
  struct Length {
    std::int64_t N, M;
    int chunk;
  };
  constexpr Width kWidths[] = {{4, 4}, {7, 3}, {3, 17}, {12, 9}};
  constexpr Length kLengths[] = {
      {1, 1, 0}, {5, 9, 0}, {64, 64, 64}, {70, 131, 64}, {139, 200, 128}};
  constexpr Weights kWeightKinds[] = {Weights::kNone, Weights::kMask, Weights::kFractional,
                                      Weights::kZero};
  OptionsCase out;
  Case& c = out.c;
  c.p = s[kOrder] + 1;
  c.causal = s[kMask] == 1;
  c.D = kWidths[s[kWidth]].D;
  c.E = kWidths[s[kWidth]].E;
  if (c.p == 4) c.D = std::min<std::int64_t>(c.D, 8);  // the features of p = 4 are many
  c.N = kLengths[s[kLength]].N;
  c.M = kLengths[s[kLength]].M;
  c.chunk = kLengths[s[kLength]].chunk;
  c.weights = kWeightKinds[s[kWeights]];
  c.B = s[kBatch] + 1;
  c.Hkv = s[kHeads] == 0 ? 1 : 2;
  c.H = c.Hkv * (s[kHeads] == 2 ? 2 : 1);
  out.packed = s[kPacking] == 1;
  c.layout = s[kHeads] == 2 || out.packed ? Layout::kBnhd : Layout::kBhnd;

  out.base.normalize = static_cast<Normalize>(s[kNormalization]);
  // The default of kNone is 1, far too large for tokens of this size to say anything about digits.
  if (s[kScale] == 1) out.base.scale = out.base.normalize == Normalize::kNone ? 0.02 : 0.11;
  // Every f is positive for the scores of these tokens. Zeros: all that may be, of odd degree.
  if (s[kCoefficients] == 1) out.base.coefficients = {{1.3, 0.6, 0.4, 0.05, 0.2}};
  if (s[kCoefficients] == 2) out.base.coefficients = {{1.3, -0.6, 0.4, -0.05, 0.2}};
  if (s[kCoefficients] == 3) out.base.coefficients = {{1.3, 0, 0.4, c.p == 3 ? 0.05 : 0, 0.2}};
  if (s[kDropout] > 0)
    out.base.dropout = {
        .rate = 0.3, .mode = static_cast<DropoutMode>(s[kDropout] - 1), .seed = 0x123456789abcdef0};
  out.form = s[kForm] == 0 ? Form::kDirect : Form::kFactorised;
  out.threads = s[kThreads] == 0 ? 1 : 3;
  out.state = s[kState] == 1;
  if (s[kFloor] == 1) out.base.floor = Floor::kError;
  if (s[kFloor] == 2) out.base.floor = {};
  return out;
}

inline std::string options_case_name(const testing::TestParamInfo<OptionsCase>& info) {
  const OptionsCase& o = info.param;
  return std::to_string(info.index) + "_" + case_name(o.c) + options_name(o.base) + "_" +
         form_name(o.form) + "_threads" + std::to_string(o.threads) + (o.state ? "_state" : "") +
         (o.packed ? "_packed" : "") +
         (!o.base.floor                    ? "_floor"
          : *o.base.floor == Floor::kError ? "_error"
                                           : "");
}
inline void PrintTo(const OptionsCase& o, std::ostream* out) {
  *out << case_name(o.c) << options_name(o.base) << "_" << form_name(o.form);
}

inline std::vector<OptionsCase> options_cases() {
  std::vector<OptionsCase> cases;
  for (const Setting& s : covering_array()) cases.push_back(options_case(s));
  return cases;
}
}  // namespace fastmax::testing_support
