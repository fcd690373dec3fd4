// Scratch of the direct form: what one head group shares and what each worker has of its own.
#pragma once
#include <algorithm>
#include <cstddef>

#include "src/cpu/scratch.h"

namespace fastmax::cpu {

template <class T>
struct DirectForwardShared {
  T* keys;         ///< kappa, [key_panels][dims][kPanel]
  T* values;       ///< rows, [key_panels][kPanel][padded E], only if they do not lie in place
  T* tail_weight;  ///< [kPanel], of the last panel

  DirectForwardShared(Arena& a, const Geometry& s)
      : keys(a.take<T>(s.key_panels * s.dims * kPanel)),
        values(a.take<T>(values_in_place<T>(s) ? 0 : s.key_panels * kPanel * padded<T>(s.E))),
        tail_weight(a.take<T>(kPanel)) {}
};

/// Query panels that share one pass over the keys, so that keys and values come from L2 a quarter as often.
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

/// Key panels that share one pass over the queries, at most.
inline constexpr std::size_t kKeyPanels = 4;
/// dq is the sum over keys of at most this many parts, which threads compute apart and add in order.
inline constexpr std::size_t kGradientParts = 4;

/// Key panels that do: of a short head so few that there is a block for each part.
inline std::size_t key_block(const Geometry& s) {
  return std::clamp<std::size_t>(s.key_panels / kGradientParts, 1, kKeyPanels);
}
inline std::size_t key_blocks(const Geometry& s) { return divide_up(s.key_panels, key_block(s)); }
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

}  // namespace fastmax::cpu
