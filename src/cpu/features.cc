// The table of features: which kappa_a1 .. kappa_ap, a1 <= .. <= ap < K, stands in which row of a state.
//
//   p = 2, K = 3:   (0,0) (0,1) (0,2) | (1,1) (1,2) | (2,2)            one run for each a1 .. a(p-1)
//   count            C(K + p - 1, p) = prod_{i < p} (K + i) / (i + 1),  whole after every factor
//   multiplicity     l! / (m_1! m_2! ..), l the indices that are not 0, m_i of them equal; w_alpha = c_l times it
//
// Rows are in lexicographic order, as docs/math.md and files of states have them; runs are cut where a block ends.
#include "src/cpu/features.h"

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>

namespace fastmax::cpu {
namespace {

constexpr int factorial(int n) { return n < 2 ? 1 : n * factorial(n - 1); }

/// l! / (m_1! m_2! ..) for the l indices that are not 0, where m_i of them are equal.
int multinomial(const std::array<int, kMaxOrder>& index, int p) {
  int l = 0, divisor = 1, equal = 0;
  for (int i = 0; i < p; ++i) {
    if (index[i] == 0) continue;
    equal = l > 0 && index[i] == index[i - 1] ? equal + 1 : 1;
    divisor *= equal;  // builds each m! factor by factor
    ++l;
  }
  return factorial(l) / divisor;
}

/// Appends the feature of these indices, in a new segment where the last index starts over or a block ends.
void append(FeatureTable& table, std::size_t block, const std::array<int, kMaxOrder>& index) {
  const int p = table.p, last = index[p - 1];
  const std::size_t f = table.count++;
  const bool starts_over = last == (p > 1 ? index[p - 2] : 0);
  if (starts_over || f % block == 0) {
    Segment s{.first = static_cast<int>(f % block), .count = 0, .b = last, .prefix = {}};
    std::copy_n(index.begin(), p - 1, s.prefix);
    table.segments.push_back(s);
  }
  ++table.segments.back().count;
  table.multiplicity.push_back(static_cast<float>(multinomial(index, p)));
  table.degree.push_back(
      static_cast<unsigned char>(p - std::count(index.begin(), index.begin() + p, 0)));
}

/// The next non-decreasing index tuple in lexicographic order; false after the last.
bool advance(std::array<int, kMaxOrder>& index, int p, int K) {
  for (int i = p - 1; i >= 0; --i) {
    if (++index[i] < K) {
      std::fill(index.begin() + i + 1, index.begin() + p, index[i]);
      return true;
    }
  }
  return false;
}

FeatureTable make_table(int p, std::size_t K, std::size_t block_size) {
  FeatureTable table;
  table.p = p;
  table.K = K;
  table.multiplicity.reserve(feature_count(p, K));
  table.degree.reserve(feature_count(p, K));
  std::array<int, kMaxOrder> index{};
  do append(table, block_size, index);
  while (advance(index, p, static_cast<int>(K)));
  const Segment* s = table.segments.data();
  const Segment* const end = s + table.segments.size();
  for (std::size_t first = 0; first < table.count; first += block_size) {
    FeatureBlock block{.first = first, .count = 0, .begin = s, .end = s};
    do block.count += static_cast<std::size_t>(s->count);
    while (++s != end && s->first != 0);
    block.end = s;
    table.blocks.push_back(block);
  }
  return table;
}

}  // namespace

std::size_t feature_count(int p, std::size_t K) {
  std::size_t count = 1;
  for (int i = 0; i < p; ++i)
    count = count * (K + static_cast<std::size_t>(i)) / (static_cast<std::size_t>(i) + 1);
  return count;
}

const FeatureTable& feature_table(int p, std::size_t K, std::size_t block) {
  using Key = std::tuple<int, std::size_t, std::size_t>;
  static std::mutex mutex;
  static std::map<Key, std::unique_ptr<const FeatureTable>> tables;
  const std::lock_guard lock(mutex);
  auto& table = tables[{p, K, block}];
  if (!table) table = std::make_unique<const FeatureTable>(make_table(p, K, block));
  return *table;
}

}  // namespace fastmax::cpu
