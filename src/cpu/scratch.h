// Shapes in the kernels' terms, and the scratch of each kernel: what one head group shares and what
// each worker has of its own.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "src/cpu/amx.h"
#include "src/cpu/features.h"
#include "src/cpu/kernels.h"
#include "src/cpu/layout.h"
#include "src/dropout.h"

namespace fastmax::cpu {

/// A head group is one key head with the query heads that read it; everything is computed group by
/// group.
class Geometry {
 public:
  std::size_t B, H, Hkv, N, M, D, E;
  std::size_t heads;         ///< query heads of a group
  std::size_t groups;        ///< B * Hkv
  std::size_t K;             ///< entries of kappa
  std::size_t dims;          ///< K padded to kRows
  std::size_t channels;      ///< E padded to kRows
  std::size_t query_panels;  ///< of one head
  std::size_t key_panels;
  std::int64_t offset;  ///< M - N: query n sees keys up to n + offset when causal

  template <class Call>
  explicit Geometry(const Call& call) : Geometry(call.args, call.normalize) {}

 private:
  /// Of weights there are no values.
  template <class Args>
  static std::size_t value_width(const Args& a) {
    if constexpr (requires { a.v; }) return static_cast<std::size_t>(a.v.D);
    return 0;
  }
  template <class Args>
  Geometry(const Args& a, Normalize normalize)
      : B(static_cast<std::size_t>(a.q.B)),
        H(static_cast<std::size_t>(a.q.H)),
        Hkv(static_cast<std::size_t>(a.k.H)),
        N(static_cast<std::size_t>(a.q.N)),
        M(static_cast<std::size_t>(a.k.N)),
        D(static_cast<std::size_t>(a.q.D)),
        E(value_width(a)),
        heads(Hkv ? H / Hkv : 0),
        groups(B * Hkv),
        K(normalize == Normalize::kStandardize ? D : D + 1),
        dims(round_up(K, kRows)),
        channels(round_up(E, kRows)),
        query_panels(divide_up(N, kPanel)),
        key_panels(divide_up(M, kPanel)),
        offset(a.k.N - a.q.N) {}
};

/// Tokens of panel i of a sequence of n.
inline std::size_t panel_tokens(std::size_t n, std::size_t i) {
  return std::min(kPanel, n - i * kPanel);
}

/// Bytes that a scratch type takes for a shape.
template <class Scratch, class Shape>
std::size_t bytes_of(const Shape& shape) {
  Arena counting;
  Scratch scratch(counting, shape);
  return counting.used();
}

/// One Worker's scratch for each thread.
template <class Worker, class Shape>
class Workers {
 public:
  Workers(std::byte* base, const Shape& shape)
      : base_(base), bytes_(bytes_of<Worker>(shape)), shape_(shape) {}
  Worker operator[](std::size_t worker) const {
    Arena arena(base_ + worker * bytes_);
    return Worker(arena, shape_);
  }

 private:
  std::byte* base_;
  std::size_t bytes_;
  const Shape& shape_;
};

/// What run_groups needs: a Shared for each group in flight and a Worker for each thread.
template <class Shared, class Worker, class Shape>
std::size_t groups_workspace(const Shape& shape, std::size_t threads) {
  const std::size_t shared = groups_in_parallel(shape.groups, threads) ? threads : 1;
  return shared * bytes_of<Shared>(shape) + threads * bytes_of<Worker>(shape);
}

/// Calls body(group, shared, workers, team) for every head group, whole groups a thread or all
/// threads in turn.
template <class Shared, class Worker, class Shape, class Body>
void run_groups(const Shape& shape, const Team& team, std::byte* workspace, const Body& body) {
  const std::size_t shared_bytes = bytes_of<Shared>(shape);
  if (groups_in_parallel(shape.groups, team.size())) {
    const std::size_t each = shared_bytes + bytes_of<Worker>(shape);
    team.for_each(shape.groups, [&](std::size_t worker, std::size_t group) {
      std::byte* const base = workspace + worker * each;
      Arena arena(base);
      body(group, Shared(arena, shape), Workers<Worker, Shape>(base + shared_bytes, shape),
           Team::alone());
    });
  } else {
    Arena arena(workspace);
    const Shared shared(arena, shape);
    const Workers<Worker, Shape> workers(workspace + shared_bytes, shape);
    for (std::size_t group = 0; group < shape.groups; ++group) body(group, shared, workers, team);
  }
}

template <class T>
struct DirectForwardShared {
  T* keys;         ///< kappa, [key_panels][dims][kPanel]
  T* values;       ///< rows padded to `channels`, only if E is not a multiple of kRows
  T* tail_weight;  ///< [kPanel], of the last panel

  DirectForwardShared(Arena& a, const Geometry& s)
      : keys(a.take<T>(s.key_panels * s.dims * kPanel)),
        values(a.take<T>(s.channels == s.E ? 0 : s.key_panels * kPanel * s.channels)),
        tail_weight(a.take<T>(kPanel)) {}
};

/// Query panels that share one pass over the keys, so that keys and values come from L2 a quarter
/// as often.
inline constexpr std::size_t kQueryPanels = 4;

template <class T>
struct DirectForwardWorker {
  T* queries;  ///< kappa, [kQueryPanels][dims][kPanel]
  T* ot;       ///< [kQueryPanels][channels][kPanel]
  T* g;        ///< [kQueryPanels][kPanel]
  T* S;        ///< [kPanel][kPanel]

  DirectForwardWorker(Arena& a, const Geometry& s)
      : queries(a.take<T>(kQueryPanels * s.dims * kPanel)),
        ot(a.take<T>(kQueryPanels * s.channels * kPanel)),
        g(a.take<T>(kQueryPanels * kPanel)),
        S(a.take<T>(kPanel * kPanel)) {}
};

/// What backward keeps of the queries of a group: their kappa, u = c_p d_o / g and c = -u . o,
/// panel by panel.
template <class T>
struct GradientQueries {
  T* x;        ///< [heads * query_panels][dims][kPanel]
  T* u;        ///< [heads * query_panels][channels][kPanel]
  T* c;        ///< [heads * query_panels][kPanel]
  T* inverse;  ///< 1 / sqrt(var + eps), [heads * query_panels][kPanel]

  GradientQueries(Arena& a, const Geometry& s, std::size_t panels)
      : x(a.take<T>(panels * s.dims * kPanel)),
        u(a.take<T>(panels * s.channels * kPanel)),
        c(a.take<T>(panels * kPanel)),
        inverse(a.take<T>(panels * kPanel)) {}
};

/// Key panels that share one pass over the queries.
inline constexpr std::size_t kKeyPanels = 4;
/// dq is the sum over keys of at most this many parts, which threads compute apart and add in
/// order.
inline constexpr std::size_t kGradientParts = 4;

inline std::size_t key_blocks(const Geometry& s) { return divide_up(s.key_panels, kKeyPanels); }
inline std::size_t gradient_parts(const Geometry& s) {
  return std::min(kGradientParts, key_blocks(s));
}
/// Elements of one part of dq: [heads * query_panels * kPanel][padded K].
template <class T>
std::size_t gradient_part_size(const Geometry& s) {
  return s.heads * s.query_panels * kPanel * padded<T>(s.K);
}

template <class T>
struct DirectBackwardShared : GradientQueries<T> {
  T* dq;  ///< gradient with respect to the queries' kappa, [parts][gradient_part_size]

  DirectBackwardShared(Arena& a, const Geometry& s)
      : GradientQueries<T>(a, s, s.heads * s.query_panels),
        dq(a.take<T>(gradient_parts(s) * gradient_part_size<T>(s))) {}
};

template <class T>
struct DirectBackwardWorker {
  T* keys;     ///< kappa, [kKeyPanels][dims][kPanel]
  T* values;   ///< [kKeyPanels][channels][kPanel]
  T* rows;     ///< kappa times the key's weight as rows, [kKeyPanels][kPanel][padded K]
  T* inverse;  ///< [kKeyPanels][kPanel]
  T* weight;   ///< [kKeyPanels][kPanel], zeros behind the last key
  T* dX;       ///< [kKeyPanels][dims][kPanel]
  T* dV;       ///< [kKeyPanels][channels][kPanel]
  T* F;        ///< [kPanel][kPanel]
  T* dS;       ///< [kPanel][kPanel]

  DirectBackwardWorker(Arena& a, const Geometry& s)
      : keys(a.take<T>(kKeyPanels * s.dims * kPanel)),
        values(a.take<T>(kKeyPanels * s.channels * kPanel)),
        rows(a.take<T>(kKeyPanels * kPanel * padded<T>(s.K))),
        inverse(a.take<T>(kKeyPanels * kPanel)),
        weight(a.take<T>(kKeyPanels * kPanel)),
        dX(a.take<T>(kKeyPanels * s.dims * kPanel)),
        dV(a.take<T>(kKeyPanels * s.channels * kPanel)),
        F(a.take<T>(kPanel * kPanel)),
        dS(a.take<T>(kPanel * kPanel)) {}
};

/// Shapes of the factorised form.
struct FactorisedShape : Geometry {
  bool causal;
  bool drops_features;
  bool tiles;
  const FeatureTable& table;
  std::size_t features;  ///< rows of the state, padded
  std::size_t step;      ///< blocks of features that a chunk meets at a time
  std::size_t chunk;     ///< panels that read the state, then join it
  std::size_t span;      ///< panels between two barriers, a multiple of chunk
  std::size_t slices;    ///< causal: parts of the features whose outputs are summed apart, in order
  std::size_t value_stride;  ///< of the state's rows and of padded values

  template <class Call>
  FactorisedShape(const Call& call, std::size_t threads = 1)
      : Geometry(call),
        causal(call.causal),
        drops_features(fastmax::drops_features(call.dropout)),
        tiles(call.tiles),
        table(feature_table(call.p, K, tiles ? amx::kBlock : kFeatureBlock)),
        features(table.padded_count()),
        step(tiles ? amx::kReadBlocks : 1),
        chunk(std::clamp<std::size_t>(call.chunk / kPanel, 1, kMaxChunk)),
        span(groups_in_parallel(groups, threads) ? chunk : round_up(kSpan, chunk)),
        slices(std::min(kSlices, table.blocks.size())),
        value_stride(padded<decltype(call.scale)>(E)) {}

  /// Blocks of features of slice i of n.
  std::size_t slice_begin(std::size_t i, std::size_t n) const {
    return table.blocks.size() * i / n;
  }

  static constexpr std::size_t kSpan = 16, kSlices = 8;
};

/// Rows of values lie in place if vectors may read them to the end.
template <class T>
bool values_in_place(const Geometry& s) {
  return padded<T>(s.E) == s.E;
}

/// sum over tokens of w_f phi_f(token) [v, 1]: one head's whole past.
template <class T>
struct StateScratch {
  T* M;                   ///< [features][value_stride]
  T* y;                   ///< [features], the column of ones
  const T* weight;        ///< w_f / c_p, [features]
  const T* value_weight;  ///< the same, masked where features are dropped
  amx::Bits* tiles;       ///< M as tiles read it, [blocks][amx::state_size]
  T* mean;                ///< with tiles, M holds v - mean: small numbers lose less in bf16. [E]

  StateScratch(Arena& a, const FactorisedShape& s)
      : M(a.take<T>(s.features * s.value_stride)),
        y(a.take<T>(s.features)),
        weight(nullptr),
        value_weight(nullptr),
        tiles(a.take<amx::Bits>(s.tiles ? s.table.blocks.size() * amx::state_size(s.E) : 0)),
        mean(a.take<T>(s.tiles ? s.E : 0)) {}
};

/// Tokens of one side, packed panel by panel.
template <class T>
struct TokenScratch {
  T* x;              ///< kappa, [panels][dims][kPanel]
  T* inverse;        ///< 1 / sqrt(var + eps), [panels][kPanel]
  T* weight;         ///< key weights, zeros behind the last token, [panels][kPanel]
  T* values;         ///< rows, [panels][kPanel][value_stride], only if they do not lie in place
  amx::Bits* tiles;  ///< values as tiles, [panels][amx::value_size]

  TokenScratch(Arena& a, const FactorisedShape& s, std::size_t panels)
      : x(a.take<T>(panels * s.dims * kPanel)),
        inverse(a.take<T>(panels * kPanel)),
        weight(a.take<T>(panels * kPanel)),
        values(a.take<T>(values_in_place<T>(s) ? 0 : panels * kPanel * s.value_stride)),
        tiles(a.take<amx::Bits>(s.tiles ? panels * amx::value_size(s.E) : 0)) {}
};

/// w_f / c_p, and the same masked by dropout of features.
template <class T>
struct FeatureWeights {
  T* plain;   ///< [features]
  T* masked;  ///< [features]; the same array where no feature is dropped

  FeatureWeights(Arena& a, const FactorisedShape& s)
      : plain(a.take<T>(s.features)), masked(s.drops_features ? a.take<T>(s.features) : plain) {}

  /// Of one head group; b and key_head say which features it keeps.
  void fill(const Settings<T>& settings, const FeatureTable& table, std::size_t b,
            std::size_t key_head) const {
    feature_weights(table, settings.unit_coefficients(), plain);
    if (masked == plain) return;
    draw_kept(settings.dropout, Drawn::kFeature, settings.first_batch + b, key_head, 0,
              table.padded_count(), masked);
    const T kept = static_cast<T>(1 / (1 - settings.dropout.rate));
    const int lowest = settings.dropout.mode == DropoutMode::kQuadratic ? 2 : 0;
    for (std::size_t f = 0; f < table.padded_count(); ++f) {
      const bool may_drop = f < table.count && table.degree[f] >= lowest;
      masked[f] = plain[f] * (may_drop ? kept * masked[f] : T{1});
    }
  }
};

template <class T>
struct FactorisedForwardShared {
  FeatureWeights<T> weight;
  StateScratch<T> state;
  TokenScratch<T> keys;  ///< of one span, causal only
  T* queries;            ///< kappa, [heads * span][dims][kPanel]
  T* ot;                 ///< [slices][heads * span][channels][kPanel]
  T* g;                  ///< [slices][heads * span][kPanel]

  FactorisedForwardShared(Arena& a, const FactorisedShape& s)
      : weight(a, s),
        state(a, s),
        keys(a, s, s.causal ? s.span : 0),
        queries(a.take<T>(s.causal ? s.heads * s.span * s.dims * kPanel : 0)),
        ot(a.take<T>(s.causal ? s.slices * s.heads * s.span * s.channels * kPanel : 0)),
        g(a.take<T>(s.causal ? s.slices * s.heads * s.span * kPanel : 0)) {
    state.weight = weight.plain;
    state.value_weight = weight.masked;
  }
};

template <class T>
struct FactorisedForwardWorker {
  TokenScratch<T> tokens;  ///< of one chunk
  T* ot;                   ///< [chunk][channels][kPanel]
  T* g;                    ///< [chunk][kPanel]
  T* S;                    ///< features of one block or scores, [kPanel][kPanel]
  T* features;             ///< of two panels, [2][kPanel][kPanel], where dropout needs them
  amx::Bits* tiles;        ///< features of one block as tiles, [chunk][amx::join_size]

  FactorisedForwardWorker(Arena& a, const FactorisedShape& s)
      : tokens(a, s, s.chunk),
        ot(a.take<T>(s.chunk * s.channels * kPanel)),
        g(a.take<T>(s.chunk * kPanel)),
        S(a.take<T>(kPanel * kPanel)),
        features(a.take<T>(s.drops_features ? 2 * kPanel * kPanel : 0)),
        tiles(a.take<amx::Bits>(s.tiles ? s.chunk * amx::join_size() : 0)) {}
};

/// What the factorised backward packs of `queries` panels of queries and `keys` panels of keys.
template <class T>
struct FactorisedGradientTokens {
  GradientQueries<T> queries;
  T* u_rows;  ///< [queries][kPanel][value_stride]
  TokenScratch<T> keys;
  T* values;  ///< [keys][channels][kPanel]

  FactorisedGradientTokens(Arena& a, const FactorisedShape& s, std::size_t query_panels,
                           std::size_t key_panels)
      : queries(a, s, query_panels),
        u_rows(a.take<T>(query_panels * kPanel * s.value_stride)),
        keys(a, s, key_panels),
        values(a.take<T>(key_panels * s.channels * kPanel)) {}
};

template <class T>
struct FactorisedBackwardShared {
  FeatureWeights<T> weight;
  StateScratch<T> M, R;
  FactorisedGradientTokens<T> tokens;  ///< of one span, causal only
  T* dX;                               ///< [slices][heads * span][dims][kPanel]
  T* dV;                               ///< [slices][span][channels][kPanel]

  FactorisedBackwardShared(Arena& a, const FactorisedShape& s)
      : weight(a, s),
        M(a, s),
        R(a, s),
        tokens(a, s, s.causal ? s.heads * s.span : 0, s.causal ? s.span : 0),
        dX(a.take<T>(s.causal ? s.slices * s.heads * s.span * s.dims * kPanel : 0)),
        dV(a.take<T>(s.causal ? s.slices * s.span * s.channels * kPanel : 0)) {
    M.weight = R.weight = weight.plain;
    M.value_weight = R.value_weight = weight.masked;
  }
};

template <class T>
struct FactorisedBackwardWorker {
  FactorisedGradientTokens<T> tokens;  ///< of one chunk
  T* dX;                               ///< [chunk][dims][kPanel]
  T* dV;                               ///< [chunk][channels][kPanel]
  T* S;                                ///< features of one block, or scores, [kPanel][kPanel]
  T* F;                                ///< [kPanel][kPanel]
  T* features;  ///< of two panels, [2][kPanel][kPanel], where dropout needs them

  FactorisedBackwardWorker(Arena& a, const FactorisedShape& s)
      : tokens(a, s, s.chunk, s.chunk),
        dX(a.take<T>(s.chunk * s.dims * kPanel)),
        dV(a.take<T>(s.chunk * s.channels * kPanel)),
        S(a.take<T>(kPanel * kPanel)),
        F(a.take<T>(kPanel * kPanel)),
        features(a.take<T>(s.drops_features ? 2 * kPanel * kPanel : 0)) {}
};

template <class T>
struct StepScratch {
  T* panel;    ///< kappa of one token, [dims][kPanel]
  T* key;      ///< [K]
  T* queries;  ///< [heads][K]
  T* value;    ///< w [v, 1], [E + 1]
  T* common;   ///< [heads], the common factors of a run
  T* sums;     ///< [heads][padded E + 1]

  StepScratch(Arena& a, const Geometry& s)
      : panel(a.take<T>(s.dims * kPanel)),
        key(a.take<T>(s.K)),
        queries(a.take<T>(s.heads * s.K)),
        value(a.take<T>(s.E + 1)),
        common(a.take<T>(s.heads)),
        sums(a.take<T>(s.heads * padded<T>(s.E + 1))) {}
};

template <class T>
struct WeightsScratch {
  FeatureWeights<T> weight;
  T* query;       ///< kappa, [dims][kPanel]
  T* key;         ///< likewise
  T* key_weight;  ///< [kPanel]
  T* g;           ///< [kPanel]
  T* S;           ///< [kPanel][kPanel]
  T* features;    ///< of two panels, [2][kPanel][kPanel], where dropout needs them

  WeightsScratch(Arena& a, const FactorisedShape& s)
      : weight(a, s),
        query(a.take<T>(s.dims * kPanel)),
        key(a.take<T>(s.dims * kPanel)),
        key_weight(a.take<T>(kPanel)),
        g(a.take<T>(kPanel)),
        S(a.take<T>(kPanel * kPanel)),
        features(a.take<T>(s.drops_features ? 2 * kPanel * kPanel : 0)) {}
};

}  // namespace fastmax::cpu
