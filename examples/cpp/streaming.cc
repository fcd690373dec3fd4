// A stream of tokens: a prompt in parts, then token by token, with a state whose size does not grow; saved, loaded and
// merged with another.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <random>
#include <vector>

#include "fastmax/state.h"

int main() {
  const std::int64_t N = 500, D = 16;  // one head
  std::mt19937 rng(1);
  std::normal_distribution<float> normal;
  std::vector<float> q(N * D), k(N * D), v(N * D), whole(N * D), streamed(N * D);
  for (auto* x : {&q, &k, &v})
    for (float& x_i : *x) x_i = normal(rng);
  /// Tokens [from, to) of an array.
  const auto tokens = [&](auto& x, std::int64_t from, std::int64_t to) {
    return fastmax::contiguous(x.data() + from * D, 1, 1, to - from, D);
  };
  const auto worst = [&](std::int64_t from) {
    float most = 0;
    for (std::int64_t i = from * D; i < N * D; ++i)
      most = std::max(most, std::abs(whole[i] - streamed[i]));
    return most;
  };
  const fastmax::Options options{.p = 2};
  fastmax::State<float> all(1, 1, D, D, options);
  all.extend(tokens(q, 0, N), tokens(k, 0, N), tokens(v, 0, N), tokens(whole, 0, N));

  // The prompt in two parts, saved as one would for the next request with that prompt.
  fastmax::State<float> prompt(1, 1, D, D, options);
  prompt.extend(tokens(q, 0, 100), tokens(k, 0, 100), tokens(v, 0, 100), tokens(streamed, 0, 100));
  prompt.extend(tokens(q, 100, 400), tokens(k, 100, 400), tokens(v, 100, 400),
                tokens(streamed, 100, 400));
  const auto path = std::filesystem::temp_directory_path() / "fastmax_streaming.safetensors";
  prompt.save(path.string());

  // Loaded, it goes on token by token.
  auto state = fastmax::State<float>::load(path.string());
  std::filesystem::remove(path);
  for (std::int64_t n = 400; n < N; ++n)
    state.step(tokens(q, n, n + 1), tokens(k, n, n + 1), tokens(v, n, n + 1),
               tokens(streamed, n, n + 1));
  const float streaming_error = worst(0);

  // Two halves read apart, on two machines say, add up; the last query sees them all.
  fastmax::State<float> first(1, 1, D, D, options), second = first;
  first.add(tokens(k, 0, 250), tokens(v, 0, 250));
  second.add(tokens(k, 250, N), tokens(v, 250, N));
  first += second;
  first.query(tokens(q, N - 1, N), tokens(streamed, N - 1, N));
  const float merging_error = worst(N - 1);

  std::printf("%lld tokens in %lld numbers; streaming differs by %.1e, merging by %.1e\n",
              static_cast<long long>(state.count()), static_cast<long long>(state.view().size()),
              streaming_error, merging_error);
  return streaming_error < 1e-4 && merging_error < 1e-4 ? 0 : 1;
}
