// What a C++ user writes: one header, views of their own memory, forward and backward.
#include <fastmax/fastmax.h>

#include <cmath>
#include <cstdio>
#include <vector>

int main() {
  const std::int64_t B = 1, H = 2, N = 100, D = 16;
  std::vector<float> q(B * H * N * D), k(q.size()), v(q.size()), o(q.size()), g(B * H * N);
  for (std::size_t i = 0; i < q.size(); ++i) {
    q[i] = std::sin(0.7f * static_cast<float>(i));
    k[i] = std::cos(1.3f * static_cast<float>(i));
    v[i] = std::sin(0.2f * static_cast<float>(i));
  }
  const auto view = [&](auto& x) { return fastmax::contiguous(x.data(), B, H, N, D); };
  const fastmax::BhnView<float> denominators = fastmax::contiguous(g.data(), B, H, N);
  const fastmax::Options options = {.p = 2, .causal = true};
  fastmax::forward<float>(
      {.q = view(q), .k = view(k), .v = view(v), .o = view(o), .g = denominators}, options);

  std::vector<float> d_o(q.size(), 1), dq(q.size()), dk(q.size()), dv(q.size());
  fastmax::backward<float>({.q = view(q),
                            .k = view(k),
                            .v = view(v),
                            .o = view(o),
                            .g = denominators,
                            .d_o = view(d_o),
                            .dq = view(dq),
                            .dk = view(dk),
                            .dv = view(dv)},
                           options);

  // The first causal row sees only the first key; and the gradients of v sum to those of o.
  double sum = 0;
  for (const float x : dv) sum += x;
  const bool first_row = std::abs(o[5] - v[5]) < 1e-6f;
  const bool conserved = std::abs(sum - static_cast<double>(q.size())) < 1e-2;
  std::printf("%s: first row %s, sum of dv %.3f\n", fastmax::target_name(),
              first_row ? "right" : "wrong", sum);
  return first_row && conserved ? 0 : 1;
}
