// Attention on raw arrays, and its gradient.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "fastmax/fastmax.h"

int main() {
  // Two sequences, four query heads that share two key heads, in arrays of floats.
  const std::int64_t B = 2, H = 4, Hkv = 2, N = 300, D = 32, E = 32;
  std::mt19937 rng(1);
  std::normal_distribution<float> normal;
  const auto random = [&](std::int64_t size) {
    std::vector<float> x(size);
    for (float& x_i : x) x_i = normal(rng);
    return x;
  };
  const auto q = random(B * H * N * D), k = random(B * Hkv * N * D), d_o = random(B * H * N * E);
  auto v = random(B * Hkv * N * E);
  std::vector<float> o(B * H * N * E), g(B * H * N), dq(q.size()), dk(k.size()), dv(v.size());

  const fastmax::Options options{.p = 2, .causal = true};
  fastmax::Workspace workspace;  // kept, it saves every later call the allocation
  const fastmax::Execution execution{.workspace = &workspace};
  const auto forward = [&] {
    fastmax::forward<float>({.q = fastmax::contiguous(q.data(), B, H, N, D),
                             .k = fastmax::contiguous(k.data(), B, Hkv, N, D),
                             .v = fastmax::contiguous<const float>(v.data(), B, Hkv, N, E),
                             .o = fastmax::contiguous(o.data(), B, H, N, E),
                             .g = fastmax::contiguous(g.data(), B, H, N)},
                            options, execution);
    double loss = 0;  // sum of o * d_o
    for (std::size_t i = 0; i < o.size(); ++i) loss += double(o[i]) * d_o[i];
    return loss;
  };
  const double loss = forward();
  fastmax::backward<float>({.q = fastmax::contiguous(q.data(), B, H, N, D),
                            .k = fastmax::contiguous(k.data(), B, Hkv, N, D),
                            .v = fastmax::contiguous<const float>(v.data(), B, Hkv, N, E),
                            .o = fastmax::contiguous<const float>(o.data(), B, H, N, E),
                            .g = fastmax::contiguous<const float>(g.data(), B, H, N),
                            .d_o = fastmax::contiguous(d_o.data(), B, H, N, E),
                            .dq = fastmax::contiguous(dq.data(), B, H, N, D),
                            .dk = fastmax::contiguous(dk.data(), B, Hkv, N, D),
                            .dv = fastmax::contiguous(dv.data(), B, Hkv, N, E)},
                           options, execution);

  // Attention is linear in v: one value moved by 1 moves the loss by its gradient.
  v[1234] += 1;
  const double change = forward() - loss;
  std::printf("the gradient says %.5f, the loss changed by %.5f\n", dv[1234], change);
  return std::abs(change - dv[1234]) < 1e-3 ? 0 : 1;
}
