// Sequences of different lengths, packed end to end without padding.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <utility>
#include <vector>

#include "fastmax/fastmax.h"

int main() {
  const std::vector<std::int32_t> cu{0, 7, 7, 120, 500};  // lengths 7, 0, 113 and 380
  const std::int64_t N = cu.back(), H = 2, D = 16;
  std::mt19937 rng(1);
  std::normal_distribution<float> normal;
  std::vector<float> q(H * N * D), k(H * N * D), v(H * N * D), packed(H * N * D), alone(H * N * D);
  for (auto* x : {&q, &k, &v})
    for (float& x_i : *x) x_i = normal(rng);

  // As models hold them: [N][H][D], so that a head's rows are H * D apart.
  const auto rows = [&]<class T>(T* x, std::int64_t from, std::int64_t to) {
    return fastmax::BhndView<T>{x + from * H * D, 1, H, to - from, D, N * H * D, D, H * D};
  };
  const fastmax::Options options{.causal = true, .form = fastmax::Form::kFactorised};
  fastmax::forward<float>({.q = rows(std::as_const(q).data(), 0, N),
                           .k = rows(std::as_const(k).data(), 0, N),
                           .v = rows(std::as_const(v).data(), 0, N),
                           .o = rows(packed.data(), 0, N)},
                          fastmax::Sequences{cu, cu}, options);

  // The same, one call a sequence.
  for (std::size_t i = 0; i + 1 < cu.size(); ++i)
    fastmax::forward<float>({.q = rows(std::as_const(q).data(), cu[i], cu[i + 1]),
                             .k = rows(std::as_const(k).data(), cu[i], cu[i + 1]),
                             .v = rows(std::as_const(v).data(), cu[i], cu[i + 1]),
                             .o = rows(alone.data(), cu[i], cu[i + 1])},
                            options);
  const bool same = std::equal(packed.begin(), packed.end(), alone.begin());
  std::printf("%zu sequences, %lld tokens: packed is %s one call a sequence\n", cu.size() - 1,
              static_cast<long long>(N), same ? "bit for bit" : "NOT");
  return same && std::isfinite(packed.front()) ? 0 : 1;
}
