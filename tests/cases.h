// The shapes that every kernel is tested on: all of the small ones, and a covering set of the others.
#pragma once
#include <vector>

#include "tests/problem.h"

namespace fastmax::testing_support {

/// All combinations of nothing, one and a few.
inline std::vector<Case> small_cases() {
  std::vector<Case> cases;
  for (const int p : {1, 2, 3, 4})
    for (const bool causal : {false, true})
      for (const std::int64_t N : {0, 1, 3})
        for (const std::int64_t M : {0, 1, 3})
          for (const std::int64_t D : {1, 2, 3})
            for (const std::int64_t E : {1, 2})
              if (!causal || N <= M)
                cases.push_back({.N = N, .M = M, .D = D, .E = E, .p = p, .causal = causal});
  cases.push_back({.B = 0, .N = 3, .M = 3});
  cases.push_back({.B = 0, .N = 3, .M = 3, .causal = true, .weights = Weights::kMask});
  return cases;
}

/// Lengths around a vector, a block and a chunk, square and not. D and E are never the same twice.
inline std::vector<Case> length_cases() {
  std::vector<Case> cases;
  int i = 0;
  for (const int p : {1, 2, 3, 4})
    for (const bool causal : {false, true})
      for (const std::int64_t N : {2, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129}) {
        const std::int64_t D = 4 + i % 7, E = 3 + i % 5, more = i % 3 * (1 + i % 60);
        cases.push_back({.N = N, .M = N + more, .D = D, .E = E, .p = p, .causal = causal});
        if (!causal && more) cases.push_back({.N = N + more, .M = N, .D = D, .E = E, .p = p});
        ++i;
      }
  return cases;
}

/// Widths around a vector and a tile, D != E; each D and each E with both masks.
inline std::vector<Case> width_cases() {
  const std::vector<std::int64_t> widths{1, 2, 3, 7, 8, 15, 16, 17, 24, 31, 32, 33, 64, 65, 128};
  std::vector<Case> cases;
  for (const int p : {1, 2, 3, 4})
    for (std::size_t i = 0; i < widths.size(); ++i)
      for (const bool causal : {false, true}) {
        const std::int64_t E = widths[(i + (causal ? 4 : 9)) % widths.size()];
        cases.push_back(
            {.N = 21, .M = causal ? 37 : 19, .D = widths[i], .E = E, .p = p, .causal = causal});
      }
  for (const std::int64_t D : {32, 64, 128})  // the usual ones, D = E
    cases.push_back({.N = 70, .M = 70, .D = D, .E = D, .causal = true});
  return cases;
}

/// Batches, heads, grouped heads, key weights, layouts, chunks and long sequences.
inline std::vector<Case> structure_cases() {
  std::vector<Case> cases;
  for (const int p : {1, 2, 3, 4})
    for (const bool causal : {false, true}) {
      for (const Weights weights : {Weights::kMask, Weights::kFractional, Weights::kZero})
        cases.push_back({.B = 2,
                         .H = 2,
                         .Hkv = 2,
                         .N = 20,
                         .M = 75,
                         .D = 6,
                         .E = 5,
                         .p = p,
                         .causal = causal,
                         .weights = weights});
      cases.push_back({.B = 2,
                       .H = 6,
                       .Hkv = 2,
                       .N = 35,
                       .M = 40,
                       .D = 9,
                       .E = 4,
                       .p = p,
                       .causal = causal,
                       .weights = Weights::kMask,
                       .layout = Layout::kBnhd});
      cases.push_back({.B = 3,
                       .H = 4,
                       .Hkv = 1,
                       .N = 17,
                       .M = 17,
                       .D = 8,
                       .E = 16,
                       .p = p,
                       .causal = causal,
                       .layout = Layout::kBnhd});
      for (const int chunk : {64, 128, 192})
        cases.push_back({.H = 2,
                         .Hkv = 2,
                         .N = 330,
                         .M = 333,
                         .D = 5,
                         .E = 3,
                         .p = p,
                         .causal = causal,
                         .weights = Weights::kFractional,
                         .chunk = chunk});
      cases.push_back({.N = 1000, .M = 1000, .D = 16, .E = 17, .p = p, .causal = causal});
    }
  return cases;
}

inline std::string case_name_of(const testing::TestParamInfo<Case>& info) {
  return case_name(info.param);
}

}  // namespace fastmax::testing_support

/// Instantiates a parametrised suite over all of them.
#define FASTMAX_TEST_ALL_CASES(Suite)                                                          \
  INSTANTIATE_TEST_SUITE_P(Small, Suite, testing::ValuesIn(testing_support::small_cases()),    \
                           testing_support::case_name_of);                                     \
  INSTANTIATE_TEST_SUITE_P(Lengths, Suite, testing::ValuesIn(testing_support::length_cases()), \
                           testing_support::case_name_of);                                     \
  INSTANTIATE_TEST_SUITE_P(Widths, Suite, testing::ValuesIn(testing_support::width_cases()),   \
                           testing_support::case_name_of);                                     \
  INSTANTIATE_TEST_SUITE_P(Structure, Suite,                                                   \
                           testing::ValuesIn(testing_support::structure_cases()),              \
                           testing_support::case_name_of)
