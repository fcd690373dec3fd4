#include "app/bench_lab.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "fastmax/state.h"
#include "torch_ops/threads.h"

namespace fastmax::app {

/// Forward, and forward and backward together, at one shape.
void Lab::meet_sdpa(BenchShape shape, SdpaGrid& grid) {
  Contest c = contest();
  const auto enter = [&](const std::string& method, bool backward) {
    shape.backward = backward;
    return c.enter(contender({.method = method, .shape = shape}));
  };
  const std::vector<int> ours{enter("fastmax", false), enter("fastmax", true)};
  const std::vector<int> torchs{enter("sdpa", false), enter("sdpa", true)};
  c.run();
  for (const bool both : {false, true}) {
    const double speedup = both ? c.ratio(torchs, ours) : c.ratio(torchs[0], ours[0]);
    grid.worst.join({.value = speedup,
                     .gemm_rate = c.gemm_rate(),
                     .note = place(shape) + (both ? " forward + backward" : " forward")},
                    true);
    if (shape.N > 1024) continue;
    grid.log_sum += std::log(speedup);
    ++grid.count;
  }
}

SdpaGrid Lab::measure_sdpa_grid() {
  const std::vector<std::int64_t> lengths =
      quick ? std::vector<std::int64_t>{16, 64, 256, 1024, 4096}
            : std::vector<std::int64_t>{16,   32,   64,   128,   256,   512,  1024,
                                        2048, 4096, 8192, 16384, 32768, 65536};
  const double longest = quick ? 0.05 : 5;  // seconds of a forward call at half of torch.mm's rate
  const double rate = clock_.gemm_rate();
  SdpaGrid grid;
  for (const std::int64_t D : {16, 32, 64, 128}) {
    for (const std::int64_t N : lengths) {
      for (const std::int64_t heads : {1, 4, 64}) {
        for (const bool causal : {false, true}) {
          BenchShape s = shape(N, D, causal);
          s.H = heads;
          if (useful_flops(s, 0, false) / (0.5 * rate) <= longest) meet_sdpa(s, grid);
        }
      }
    }
  }
  return grid;
}

Finding planner(Lab& lab) {
  Finding worst;
  std::string crossings;
  for (const std::int64_t D :
       lab.quick ? std::vector<std::int64_t>{32, 64} : std::vector<std::int64_t>{32, 64, 128}) {
    for (const bool causal : {false, true}) {
      const std::int64_t F = state_features(2, D);
      double last_N = 0, last_gain = 0, crossing = kNone;
      for (const double part : {0.5, 0.7, 0.85, 1.0, 1.2, 1.4, 2.0}) {
        const auto N = static_cast<std::int64_t>(part * static_cast<double>(F) * (causal ? 2 : 1));
        const BenchShape s = lab.shape(N, D, causal);
        Contest c = lab.contest();
        const int chosen = c.enter(Lab::contender({.method = "fastmax", .shape = s}));
        const int direct = c.enter(Lab::contender({.method = "direct", .shape = s}));
        const int factorised = c.enter(Lab::contender({.method = "factorised", .shape = s}));
        c.run();
        worst.join({.value = std::max(c.ratio(chosen, direct), c.ratio(chosen, factorised)),
                    .gemm_rate = c.gemm_rate(),
                    .note = place(s)},
                   false);
        const double log_N = std::log(static_cast<double>(N)),
                     gain = std::log(c.ratio(direct, factorised));
        if (last_gain < 0 && gain >= 0)
          crossing = std::exp(last_N - last_gain * (log_N - last_N) / (gain - last_gain));
        last_N = log_N;
        last_gain = gain;
      }
      crossings += text(crossings.empty() ? "" : "; ", "N=", short_number(std::round(crossing)),
                        " D=", D, " ", mask(causal));
    }
  }
  worst.also = "forms cost the same at " + crossings;
  return worst;
}

Finding two_threads(Lab& lab, std::int64_t heads) {
  if (lab.threads < 2) return {.not_run = "needs --threads 2"};
  Finding worst;
  for (const bool causal : {false, true}) {
    for (const bool backward : {false, true}) {
      BenchShape s = lab.shape(8192, 64, causal, backward);
      s.H = heads;
      s.N /= heads;
      BenchClock clock = lab.wall_clock();
      Contest c = lab.contest(clock);
      const Contender call = Lab::contender({.shape = s});
      const auto on = [&](int threads) {
        return [call, threads] {
          at::set_num_threads(threads);
          call.call();
        };
      };
      c.enter(call);
      const int one = c.enter(on(1)), two = c.enter(on(2));
      c.run();
      at::set_num_threads(lab.threads);
      worst.join({.value = c.ratio(one, two),
                  .gemm_rate = c.gemm_rate(),
                  .note = place(s) + (backward ? " backward" : " forward")},
                 true);
    }
  }
  return worst;
}

Finding workspace(Lab& lab, bool backward) {
  Finding worst;
  for (const std::int64_t D : {32, 64, 128}) {
    for (const bool causal : {false, true}) {
      at::set_num_threads(1);
      BenchShape s = lab.shape(8192, D, causal, backward);
      s.H = 1;
      const double states =
          (backward ? 2 : 1) * 4 * static_cast<double>(state_features(2, D) * (D + 1));
      worst.join({.value = (Lab::contender({.shape = s}).workspace_bytes - states) / (1 << 20),
                  .note = place(s)},
                 false);
      at::set_num_threads(lab.threads);
    }
  }
  return worst;
}

Finding decode_step(Lab& lab) {
  constexpr std::int64_t D = 64;
  State<float> state(1, 1, D, D, {.p = 2});
  std::vector<float> copy(static_cast<std::size_t>(state.view().size()));
  const BenchInputs in = bench_inputs(lab.shape(1, D));
  const at::Tensor o = at::empty({1, 1, 1, D});
  const auto token = [&](const at::Tensor& x) {
    return contiguous(x.mutable_data_ptr<float>(), 1, 1, 1, D);
  };
  Contest c = lab.contest();
  const int step = c.enter([&] {
    state.step(token(in.q), token(in.k), token(in.v), token(o), torch_ops::torch_execution());
  });
  const int memcpy_of_state =
      c.enter([&] { std::memcpy(copy.data(), state.view().data, copy.size() * sizeof(float)); });
  c.run();
  return {.value = c.ratio(memcpy_of_state, step),
          .gemm_rate = c.gemm_rate(),
          .note = text("state of ", short_bytes(static_cast<double>(copy.size() * sizeof(float))),
                       ", a step ", short_seconds(c.seconds(step)))};
}

}  // namespace fastmax::app
