// The packed features of the kernel: all monomials of degree p in kappa = [1, x''_1, ..].
//
//   f(s) = sum_alpha w_alpha phi_alpha(q) phi_alpha(k),   phi_alpha(x) = kappa_a1 .. kappa_ap,  a1 <= .. <= ap
//
// in lexicographic order. With l of the indices not 0, w_alpha = c_l times the multinomial
// coefficient of those l. There are C(K + p - 1, p) of them: 528 for p = 2 and K = 32.
//
// Features with the same a1 .. a(p-1) are neighbours in which the last index counts up: a run. Its
// common factor stays in registers while features are formed, so any order costs one multiply a feature.
#pragma once
#include <cstddef>
#include <vector>

#include "src/cpu/layout.h"
#include "src/score.h"

namespace fastmax::cpu {

/// Part of a run that lies in one block: features first .. first + count - 1 of the block are
/// kappa[prefix[0]] .. kappa[prefix[p-2]] * kappa[b], kappa[b + 1], ..
struct Segment {
  int first, count, b;
  int prefix[kMaxOrder - 1];
};

struct FeatureBlock {
  std::size_t first, count;  ///< features of the whole table; count <= the table's block
  const Segment* begin;
  const Segment* end;
  std::size_t rows() const { return round_up(count, kRows); }
};

struct FeatureTable {
  int p = 0;
  std::size_t K = 0;
  std::size_t count = 0;
  std::vector<Segment> segments;
  std::vector<FeatureBlock> blocks;
  std::vector<float> multiplicity;    ///< multinomial coefficient of the indices that are not 0
  std::vector<unsigned char> degree;  ///< how many indices are not 0

  /// Rows of a state: blocks start at multiples of the table's block, the last is padded to kRows.
  std::size_t padded_count() const { return round_up(count, kRows); }
};

/// The table of order p in K variables, in blocks of `block` features; made on first use and kept (about 40 bytes a
/// feature).
const FeatureTable& feature_table(int p, std::size_t K, std::size_t block = kFeatureBlock);

/// C(K + p - 1, p).
std::size_t feature_count(int p, std::size_t K);

/// w_alpha for the features of a table, and zeros behind them up to padded_count().
template <class T>
void feature_weights(const FeatureTable& table, const Coefficients& c, T* weight) {
  for (std::size_t f = 0; f < table.count; ++f) {
    weight[f] = static_cast<T>(c[table.degree[f]] * static_cast<double>(table.multiplicity[f]));
  }
  for (std::size_t f = table.count; f < table.padded_count(); ++f) weight[f] = 0;
}

}  // namespace fastmax::cpu
