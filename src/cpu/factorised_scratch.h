// Shapes and scratch of the factorised form: what one head group shares and what each worker has of its own.
#pragma once
#include <algorithm>
#include <cstddef>

#include "src/cpu/amx.h"
#include "src/cpu/features.h"
#include "src/cpu/scratch.h"
#include "src/dropout.h"

namespace fastmax::cpu {

/// Shapes of the factorised form.
struct FactorisedShape : Geometry {
  bool causal;
  bool drops_features;
  bool tiles;
  bool centred;  ///< the state holds v - mean: small numbers lose less
  const FeatureTable& table;
  std::size_t features;  ///< rows of the state, padded
  std::size_t step;      ///< blocks of features that a chunk meets at a time
  std::size_t chunk;     ///< panels that read the state, then join it
  std::size_t span;      ///< panels between two barriers, a multiple of chunk
  std::size_t slices;    ///< causal: parts of the features whose outputs are summed apart, in order
  std::size_t
      at_once;  ///< of them, those that are kept until they are added: threads that share a head take all
  std::size_t value_stride;  ///< of the state's rows, of padded values and of u

  template <class Call>
  FactorisedShape(const Call& call, std::size_t threads = 1)
      : Geometry(call),
        causal(call.causal),
        drops_features(fastmax::drops_features(call.dropout)),
        tiles(call.tiles),
        centred(tiles || (is_backward(call) && !drops_features)),
        table(feature_table(call.p, K, tiles ? amx::kBlock : kFeatureBlock)),
        features(table.padded_count()),
        step(tiles ? amx::kReadBlocks : 1),
        chunk(std::clamp<std::size_t>(call.chunk / kPanel, 1, kMaxChunk)),
        span(groups_in_parallel(groups, threads) ? chunk : round_up(kSpan, chunk)),
        slices(std::min(
            {kSlices, table.blocks.size(), std::max(kFewSlices, table.blocks.size() / 4)})),
        at_once(groups_in_parallel(groups, threads) ? 1 : slices),
        value_stride(padded<decltype(call.scale)>(E)) {
    whole_panels = true;
  }

  /// Panels that a worker packs for itself: of a chunk, where tokens meet a whole state.
  std::size_t own_panels() const { return causal && offset == 0 ? 0 : chunk; }

  /// Tiles subtract the mean as they are filled.
  template <class T>
  bool reads_values_in_place() const {
    return values_in_place<T>(*this) && (tiles || !centred);
  }

  /// Blocks of features of slice i of n.
  std::size_t slice_begin(std::size_t i, std::size_t n) const {
    return table.blocks.size() * i / n;
  }

  /// Where features drop from numerators alone, v - mean does not have the outputs o - mean.
  template <class Call>
  static constexpr bool is_backward(const Call&) {
    return requires(const Call& call) { call.args.d_o; };
  }

  /// A slice is worth a pass over its outputs if it has four blocks or threads are short of slices.
  static constexpr std::size_t kSpan = 16, kSlices = 8, kFewSlices = 4;
};

/// sum over tokens of w_f phi_f(token) [v, 1]: one head's whole past.
template <class T>
struct StateScratch {
  T* M;                   ///< [features][value_stride]
  T* y;                   ///< [features], the column of ones
  const T* weight;        ///< w_f / c_p, [features]
  const T* value_weight;  ///< the same, masked where features are dropped
  amx::Bits* tiles;       ///< M as tiles read it, [blocks][amx::state_size]
  T* mean;                ///< M holds v - mean. [E]; nullptr: v

  StateScratch(Arena& a, const FactorisedShape& s)
      : M(a.take<T>(s.features * s.value_stride)),
        y(a.take<T>(s.features)),
        weight(nullptr),
        value_weight(nullptr),
        tiles(a.take<amx::Bits>(s.tiles ? s.table.blocks.size() * amx::state_size(s.E) : 0)),
        mean(s.centred ? a.take<T>(s.E) : nullptr) {}
};

/// Tokens of one side, packed panel by panel.
template <class T>
struct TokenScratch {
  T* x;              ///< kappa, [panels][dims][kPanel]
  T* inverse;        ///< 1 / sqrt(var + eps), [panels][kPanel]
  T* weight;         ///< key weights, zeros behind the last token, [panels][kPanel]
  T* values;         ///< rows, [panels][kPanel][value_stride], only if they are not read in place
  amx::Bits* tiles;  ///< values as tiles, [panels][amx::value_size]

  TokenScratch(Arena& a, const FactorisedShape& s, std::size_t panels)
      : x(a.take<T>(panels * s.dims * kPanel)),
        inverse(a.take<T>(panels * kPanel)),
        weight(a.take<T>(panels * kPanel)),
        values(a.take<T>(s.template reads_values_in_place<T>() ? 0
                                                               : panels * kPanel * s.value_stride)),
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
  T* ot;  ///< of the slices at once, then of all: [at_once + 1][heads * span][channels][kPanel]
  T* g;   ///< likewise, [at_once + 1][heads * span][kPanel]

  FactorisedForwardShared(Arena& a, const FactorisedShape& s)
      : weight(a, s),
        state(a, s),
        keys(a, s, s.causal ? s.span : 0),
        queries(a.take<T>(s.causal ? s.heads * s.span * s.dims * kPanel : 0)),
        ot(a.take<T>(s.causal ? (s.at_once + 1) * s.heads * s.span * s.channels * kPanel : 0)),
        g(a.take<T>(s.causal ? (s.at_once + 1) * s.heads * s.span * kPanel : 0)) {
    state.weight = weight.plain;
    state.value_weight = weight.masked;
  }
};

template <class T>
struct FactorisedForwardWorker {
  TokenScratch<T> tokens;  ///< of one chunk
  T* ot;                   ///< [chunk][channels][kPanel], unmasked only
  T* g;                    ///< [chunk][kPanel], likewise
  T* S;                    ///< features of one block or scores, [kPanel][kPanel]
  T* features;             ///< of two panels, [2][kPanel][kPanel], where dropout needs them
  amx::Bits* tiles;        ///< features of one block as tiles, [chunk][amx::join_size]

  FactorisedForwardWorker(Arena& a, const FactorisedShape& s)
      : tokens(a, s, s.own_panels()),
        ot(a.take<T>(s.causal ? 0 : s.chunk * s.channels * kPanel)),
        g(a.take<T>(s.causal ? 0 : s.chunk * kPanel)),
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
  T* dX;  ///< of the slices at once, then of all: [at_once + 1][heads * span][dims][kPanel]
  T* dV;  ///< likewise, [at_once + 1][span][channels][kPanel]

  FactorisedBackwardShared(Arena& a, const FactorisedShape& s)
      : weight(a, s),
        M(a, s),
        R(a, s),
        tokens(a, s, s.causal ? s.heads * s.span : 0, s.causal ? s.span : 0),
        dX(a.take<T>(s.causal ? (s.at_once + 1) * s.heads * s.span * s.dims * kPanel : 0)),
        dV(a.take<T>(s.causal ? (s.at_once + 1) * s.span * s.channels * kPanel : 0)) {
    M.weight = R.weight = weight.plain;
    M.value_weight = R.value_weight = weight.masked;
    R.mean = nullptr;
  }
};

template <class T>
struct FactorisedBackwardWorker {
  FactorisedGradientTokens<T> tokens;  ///< of one chunk
  T* dX;                               ///< [chunk][dims][kPanel]
  T* dV;        ///< [chunk][channels][kPanel]; causal packing needs one panel of it
  T* S;         ///< features of one block, or scores, [kPanel][kPanel]
  T* F;         ///< [kPanel][kPanel]
  T* features;  ///< of two panels, [2][kPanel][kPanel], where dropout needs them

  FactorisedBackwardWorker(Arena& a, const FactorisedShape& s)
      : tokens(a, s, s.own_panels(), s.own_panels()),
        dX(a.take<T>(s.own_panels() * s.dims * kPanel)),
        dV(a.take<T>(std::max<std::size_t>(s.own_panels(), 1) * s.channels * kPanel)),
        S(a.take<T>(kPanel * kPanel)),
        F(a.take<T>(kPanel * kPanel)),
        features(a.take<T>(s.drops_features ? 2 * kPanel * kPanel : 0)) {}
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
