// Every choice the library makes, in one pure function that says why.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "fastmax/fastmax.h"
#include "src/dropout.h"

namespace fastmax {

/// Longer chunks gain nothing: inside a chunk the cost per token grows with its length.
inline constexpr int kMaxChunkTokens = 1024;

struct Problem {
  std::int64_t B, H, N, M, D, E;
  int p;
  bool causal;
  bool backward;
  bool state;  ///< one comes in or goes out
  bool bf16;   ///< inputs have only bf16's digits
};

struct Machine {
  int threads;
  std::size_t l2_bytes;  ///< of one core
  bool tiles = false;    ///< multiplies bf16 matrix tiles (src/cpu/amx.h)
};

/// What the planner decides; the public Plan adds the workspace.
struct Choice {
  Form form = Form::kAuto;
  int chunk = 0;    ///< factorised: tokens that join the state at a time
  int threads = 1;  ///< no more than the work is worth
  const char* why = "";
  bool tiles = false;  ///< factorised: by bf16 matrix tiles
};

/// C(D + p, p): monomials of degree <= p in D variables.
constexpr double packed_features(std::int64_t D, int p) {
  double count = 1;
  for (int i = 1; i <= p; ++i) count = count * static_cast<double>(D + i) / i;
  return count;
}

/// Fewer keys average too little of the tiles' rounding away: its error falls as 1 / sqrt(M).
inline constexpr std::int64_t kTileKeys = 256;

/// Whether the factorised forward may round features and values to bf16 in its products: an error of the size of bf16
/// outputs' own rounding, unless a denominator is small.
constexpr bool allows_tiles(const Problem& s, const Machine& m, const Options& options) {
  return s.bf16 && m.tiles && !s.backward && s.M >= kTileKeys && s.E % 16 == 0 && s.p % 2 == 0 &&
         !options.coefficients && !drops_features(options.dropout);
}

/// How much faster tiles are than vectors: from 2 at D = 32 to 5 at D = 128 (docs/performance.md).
inline constexpr double kTileSpeed = 3;

/// The factorised form's best chunk. Causal work inside a chunk costs chunk / (2 F) of the work between chunks; a longer
/// chunk brings the state from memory less often. 64 keeps a state that fits L2 near its best, a larger state wants more:
/// backward a little less, for scratch that stays under a MiB at D = 128.
constexpr int chunk_for(const Problem& s, const Machine& m, const Options& options, bool tiles) {
  const double state_bytes = packed_features(s.D, s.p) * static_cast<double>(s.E) * 4;
  const double growth = state_bytes / static_cast<double>(m.l2_bytes);
  // Tiles of the state are made anew for each chunk, and scores inside a chunk are float32.
  if (tiles) return !s.causal || growth > 1 ? 256 : 128;
  if (drops_features(options.dropout)) return 64;  // inside it a pair costs F, not D
  return growth > 1 ? (s.backward ? 192 : 256) : growth > 0.2 ? 128 : 64;
}

/// Order 1 has a kernel of its own, which takes causal tokens by sixteens whatever the chunk.
inline constexpr int kLinearBlock = 16;

// What the forms cost, in multiply-adds, forward; of backward every part has 2.5 times as many. Beside them a row of tokens
// is normalised, packed and written, which takes the time of some hundred; constants that make the cheaper form the faster
// one within 9 % at 122 sizes around the break-even (p = 1 to 4, D = 8 to 128), on a CPU with AVX-512.

constexpr double direct_cost(const Problem& s) {
  const double N = static_cast<double>(s.N), M = static_cast<double>(s.M);
  const double pairs = s.causal ? N * M - N * (N - 1) / 2 : N * M;
  return pairs * static_cast<double>(s.D + s.E) + (N + M) * 80;
}
constexpr double factorised_cost(const Problem& s, int chunk) {
  const double rows = static_cast<double>(s.N + s.M), width = static_cast<double>(s.D + s.E);
  const double products = rows * packed_features(s.D, s.p) * static_cast<double>(s.E);
  const double squares = s.causal ? static_cast<double>(s.N) * chunk / 2 * width : 0;
  return products + squares + rows * (s.backward ? 480 : s.p == 1 ? 0 : 80);
}

/// Reads no globals and no CPUID, so a laptop can test the plan of a 96-core server.
constexpr Choice make_choice(const Problem& s, const Machine& m, const Options& options) {
  const bool tiles = allows_tiles(s, m, options);
  const int chunk = options.chunk > 0 ? std::min(options.chunk, kMaxChunkTokens)
                                      : chunk_for(s, m, options, tiles);
  const double direct = direct_cost(s);
  const double factorised =
      factorised_cost(s, s.p == 1 ? kLinearBlock : chunk) / (tiles ? kTileSpeed : 1);

  Choice choice{options.form, 0, 1, "asked for"};
  if (options.form == Form::kAuto && s.state) {
    choice.form = Form::kFactorised;
    choice.why = "a state is made of features";
  } else if (options.form == Form::kAuto && drops_features(options.dropout)) {
    choice.form = Form::kFactorised;
    choice.why = "dropout of features needs features";
  } else if (options.form == Form::kAuto) {
    const bool few = direct <= factorised;
    choice.form = few ? Form::kDirect : Form::kFactorised;
    choice.why = few ? "few tokens: scores cost less than features"
                     : "many tokens: features cost less than scores";
  }
  choice.tiles = tiles && choice.form == Form::kFactorised;
  if (choice.form == Form::kFactorised) choice.chunk = chunk;
  // A thread is worth waking for some 20 microseconds of work.
  const double heads = static_cast<double>(s.B * s.H);
  const double work =
      heads * (choice.form == Form::kDirect ? direct : factorised) * (s.backward ? 2.5 : 1);
  choice.threads =
      static_cast<int>(std::clamp(work / 1e6, 1.0, static_cast<double>(std::max(m.threads, 1))));
  return choice;
}

}  // namespace fastmax
