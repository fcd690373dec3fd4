// What a C++ user writes: one header, views of their own memory, a call, a state, an error to catch.
#include <fastmax/fastmax.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

int main() {
  const std::int64_t B = 1, H = 2, N = 100, D = 16;
  std::vector<float> x(B * H * N * D), o(x.size()), again(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(0.7f * static_cast<float>(i));
  const auto view = [&](auto& data) { return fastmax::contiguous(data.data(), B, H, N, D); };
  fastmax::forward<float>({.q = view(x), .k = view(x), .v = view(x), .o = view(o)},
                          {.causal = true});
  fastmax::forward<float>({.q = view(x), .k = view(x), .v = view(x), .o = view(again)}, {});
  fastmax::State<float> state(B, H, D, D);
  state.extend(view(x), view(x), view(x), view(again));
  float difference = std::abs(o[5] - x[5]);  // the first causal row sees the first key alone
  for (std::size_t i = 0; i < o.size(); ++i)
    difference = std::max(difference, std::abs(o[i] - again[i]));
  try {
    fastmax::default_scale(1, D, fastmax::Normalize::kNone);
  } catch (const fastmax::Error& error) {
    std::printf("%s: difference %g; %s\n", fastmax::target_name(), difference, error.what());
    return difference < 1e-5f ? 0 : 1;
  }
  return 1;
}
