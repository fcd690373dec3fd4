// Scratch of the factorised form for p = 1, where kappa itself is the features.
#pragma once
#include "src/cpu/factorised_scratch.h"

namespace fastmax::cpu {

/// Tokens of a causal sequence that meet each other directly. Beside the state, a block of C tokens costs C / D of what
/// the state costs; a shorter one than a vector would leave lanes empty.
inline constexpr std::size_t kBlock = 16;

/// Where rows of n elements start: an odd number of lines apart. Rows a multiple of 512 bytes apart share an eighth of
/// L1's sets, and kappa, values and state are read together.
template <class T>
constexpr std::size_t spread(std::size_t n) {
  constexpr std::size_t kLine = 64 / sizeof(T);
  return (divide_up(n, kLine) | 1) * kLine;
}

/// Without chunks. Threads that share a head group own parts of the value channels or of the entries of kappa, whole
/// lines of them, which does not change a bit.
struct LinearShape : FactorisedShape {
  std::size_t line;     ///< elements of 64 bytes
  std::size_t ld;       ///< of rows of kappa
  std::size_t entries;  ///< K in whole lines
  std::size_t columns;  ///< E in whole lines

  template <class Call>
  LinearShape(const Call& call, std::size_t threads) : FactorisedShape(call, threads) {
    using T = decltype(call.scale);
    const bool alone = groups_in_parallel(groups, threads);
    line = padded<T>(1);
    ld = spread<T>(K);
    entries = padded<T>(K);
    columns = padded<T>(E);
    value_stride = spread<T>(E);
    span = alone ? 1 : kSpan;
    slices = alone ? 1 : std::min(threads, columns / line);
  }

  /// Where part i of `count` begins.
  std::size_t part(std::size_t elements, std::size_t i, std::size_t count) const {
    return elements / line * i / count * line;
  }
};

template <class T>
struct LinearForwardShared {
  FeatureWeights<T> weight;
  StateScratch<T> state;
  T* y;        ///< the state's column of ones, a copy for each slice, [slices][ld]
  T* keys;     ///< rows of kappa times the key's weight, [span][kPanel][ld]
  T* values;   ///< rows, [span][kPanel][value_stride], only if they do not lie in place
  T* queries;  ///< rows of kappa, [heads * span][kPanel][ld], causal only
  T* S;        ///< scores inside blocks, [heads * span][kPanel][kBlock], causal only

  LinearForwardShared(Arena& a, const LinearShape& s)
      : weight(a, s),
        state(a, s),
        y(a.take<T>(s.slices * s.ld)),
        keys(a.take<T>(s.span * kPanel * s.ld)),
        values(a.take<T>(values_in_place<T>(s) ? 0 : s.span * kPanel * s.value_stride)),
        queries(a.take<T>(s.causal ? s.heads * s.span * kPanel * s.ld : 0)),
        S(a.take<T>(s.causal ? s.heads * s.span * kPanel * kBlock : 0)) {
    state.weight = state.value_weight = weight.plain;
  }
};

template <class T>
struct LinearForwardWorker {
  T* X;        ///< a panel for RowPacker, [dims][kPanel]
  T* queries;  ///< unmasked: rows of kappa, [kPanel][ld]
  T* keys;     ///< causal: kappa of one block, [ld][kBlock]
  T* o;        ///< causal: of one block, [kBlock][value_stride]

  LinearForwardWorker(Arena& a, const LinearShape& s)
      : X(a.take<T>(s.dims * kPanel)),
        queries(a.take<T>(s.causal ? 0 : kPanel * s.ld)),
        keys(a.take<T>(s.causal ? s.ld * kBlock : 0)),
        o(a.take<T>(s.causal ? kBlock * s.value_stride : 0)) {}
};

/// Rows v~ = [v, 1] and u~ = [u, c] end in zeros up to `values`.
struct LinearBackwardShape : LinearShape {
  std::size_t values;        ///< of rows of v~ and u~
  std::size_t entry_slices;  ///< parts of the entries of kappa

  template <class Call>
  LinearBackwardShape(const Call& call, std::size_t threads)
      : LinearShape(call, threads),
        values(spread<decltype(call.scale)>(E + 1)),
        entry_slices(slices == 1 ? 1 : std::min(threads, entries / line)) {}
};

template <class T>
struct LinearBackwardShared {
  T* M;            ///< sum of w v~ kappa_k^T, [channels + 1][ld]
  T* Rt;           ///< sum of u~ kappa_q^T, likewise
  T* R;            ///< sum of kappa_q u^T, [dims][value_stride]
  T* keys;         ///< rows of kappa, [span][kPanel][ld]
  T* v;            ///< rows v~, [span][kPanel][values]
  T* queries;      ///< rows of kappa, [heads * span][kPanel][ld]
  T* u;            ///< rows u~, [heads * span][kPanel][values]
  T* c;            ///< [heads * span][kPanel]
  T* dX;           ///< gradients of kappa, [heads * span][kPanel][ld]
  T* E;            ///< e inside blocks, [heads * span][kPanel][kBlock], causal only
  T* S;            ///< scores inside blocks, likewise
  T* inverse;      ///< 1 / sigma of queries, [heads * span][kPanel]
  T* key_inverse;  ///< [span][kPanel]
  T* weight;       ///< of keys, [span][kPanel]

  LinearBackwardShared(Arena& a, const LinearBackwardShape& s)
      : M(a.take<T>((s.channels + 1) * s.ld)),
        Rt(a.take<T>((s.channels + 1) * s.ld)),
        R(a.take<T>(s.dims * s.value_stride)),
        keys(a.take<T>(s.span * kPanel * s.ld)),
        v(a.take<T>(s.span * kPanel * s.values)),
        queries(a.take<T>(s.heads * s.span * kPanel * s.ld)),
        u(a.take<T>(s.heads * s.span * kPanel * s.values)),
        c(a.take<T>(s.heads * s.span * kPanel)),
        dX(a.take<T>(s.heads * s.span * kPanel * s.ld)),
        E(a.take<T>(s.causal ? s.heads * s.span * kPanel * kBlock : 0)),
        S(a.take<T>(s.causal ? s.heads * s.span * kPanel * kBlock : 0)),
        inverse(a.take<T>(s.heads * s.span * kPanel)),
        key_inverse(a.take<T>(s.span * kPanel)),
        weight(a.take<T>(s.span * kPanel)) {}
};

template <class T>
struct LinearBackwardWorker {
  T* X;        ///< a panel, [dims][kPanel]
  T* dX;       ///< likewise
  T* columns;  ///< a block's rows as columns, [max(ld, values)][kBlock]
  T* block;    ///< [kBlock][max(ld, values)]

  LinearBackwardWorker(Arena& a, const LinearBackwardShape& s)
      : X(a.take<T>(s.dims * kPanel)),
        dX(a.take<T>(s.dims * kPanel)),
        columns(a.take<T>(std::max(s.ld, s.values) * kBlock)),
        block(a.take<T>(std::max(s.ld, s.values) * kBlock)) {}
};

}  // namespace fastmax::cpu
