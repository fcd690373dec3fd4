// Whether views share memory, against a list of every byte that they have.
#include "src/overlap.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <vector>

namespace fastmax {
namespace {

using View = BhndView<const float>;

std::vector<const float*> elements(const View& x) {
  std::vector<const float*> all;
  for (std::int64_t b = 0; b < x.B; ++b)
    for (std::int64_t h = 0; h < x.H; ++h)
      for (std::int64_t n = 0; n < x.N; ++n)
        for (const float& element : x.head(b, h)[n]) all.push_back(&element);
  return all;
}
bool share(const View& a, const View& b) {
  const auto of_a = elements(a), of_b = elements(b);
  const std::set<const float*> found(of_a.begin(), of_a.end());
  return std::ranges::any_of(of_b, [&](const float* x) { return found.contains(x); });
}
bool repeats(const View& x) {
  const auto all = elements(x);
  return std::set<const float*>(all.begin(), all.end()).size() < all.size();
}

const float kMemory[1 << 16] = {};

/// Sizes of a few and strides of any kind, dense ones among them.
View any_view() {
  const auto size = [] { return *rc::gen::inRange<std::int64_t>(0, 4); };
  const auto stride = [] { return *rc::gen::inRange<std::int64_t>(0, 40); };
  return {kMemory + *rc::gen::inRange(0, 100),   size(),   size(),   size(),
          *rc::gen::inRange<std::int64_t>(1, 5), stride(), stride(), stride()};
}
/// A window of an array [B][N][H][D] with room for more of each, in an order that is not ours.
View any_window(const View& whole) {
  const auto upto = [](std::int64_t n) { return *rc::gen::inRange<std::int64_t>(1, n + 1); };
  View x = whole;
  x.data += *rc::gen::inRange(0, 150);
  x.B = upto(whole.B);
  x.H = upto(whole.H);
  x.N = upto(whole.N);
  x.D = upto(whole.D);
  return x;
}

// Views that share an element are always seen; a view whose rows share elements never passes as nested.
RC_GTEST_PROP(Overlap, MissesNothing, ()) {
  const View a = any_view(), b = any_view();
  if (share(a, b)) RC_ASSERT(overlap(memory("a", a), memory("b", b)));
  if (repeats(a)) RC_ASSERT(!memory("a", a).nested());
}

// Windows of one array are told apart exactly.
RC_GTEST_PROP(Overlap, IsExactForEqualStrides, ()) {
  const View whole{kMemory, 3, 4, 5, 3, 100, 4, 18};
  const View a = any_window(whole), b = any_window(whole);
  // A dim of one index has no stride: the two may then differ, and ranges decide.
  RC_PRE((a.B > 1) == (b.B > 1) && (a.H > 1) == (b.H > 1) && (a.N > 1) == (b.N > 1));
  RC_ASSERT(memory("a", a).nested());
  RC_CLASSIFY(share(a, b));
  RC_ASSERT(overlap(memory("a", a), memory("b", b)) == share(a, b));
}

// q, k and v of one projection [B][N][3][H][D], in the layout [B, H, N, D].
TEST(Overlap, InterleavedHeadsAreApart) {
  const std::int64_t B = 2, H = 3, N = 5, D = 4;
  const auto at = [&](std::int64_t i) {
    return memory("x", View{kMemory + i * H * D, B, H, N, D, N * 3 * H * D, D, 3 * H * D});
  };
  EXPECT_FALSE(overlap(at(0), at(1)));
  EXPECT_FALSE(overlap(at(1), at(2)));
  EXPECT_TRUE(overlap(at(0), at(0)));
  EXPECT_TRUE(overlap(at(0), at(3)));  // the next token's q
}

}  // namespace
}  // namespace fastmax
