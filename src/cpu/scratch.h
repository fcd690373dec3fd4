// Shapes in the kernels' terms, and where scratch comes from: what one head group shares and what each worker has of
// its own.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "src/cpu/kernels.h"
#include "src/cpu/layout.h"

namespace fastmax::cpu {

/// A head group is one key head with the query heads that read it; everything is computed group by group.
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
  std::size_t v_stride;  ///< between the caller's rows of values
  std::int64_t offset;   ///< M - N: query n sees keys up to n + offset when causal
  bool whole_panels =
      false;  ///< features are formed of all lanes of a panel, so that absent tokens must be zeros

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
  static std::size_t value_row_stride(const Args& a) {
    if constexpr (requires { a.v; }) return static_cast<std::size_t>(a.v.stride_n);
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
        v_stride(value_row_stride(a)),
        offset(a.k.N - a.q.N) {}
};

/// Tokens of panel i of a sequence of n.
inline std::size_t panel_tokens(std::size_t n, std::size_t i) {
  return std::min(kPanel, n - i * kPanel);
}

/// Rows of values lie in place if vectors may read them to the end, and if they do not lie a multiple of 1024 bytes
/// apart: those share a sixteenth of L1's sets, and a panel of them does not fit there.
template <class T>
bool values_in_place(const Geometry& s) {
  return padded<T>(s.E) == s.E && s.v_stride * sizeof(T) % 1024 != 0;
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

template <class T>
struct StepScratch {
  T* panel;    ///< kappa of one token, [dims][kPanel]
  T* key;      ///< [padded K], with a vector of room
  T* queries;  ///< [heads][padded K], likewise
  T* value;    ///< w [v, 1], [padded E + 1]
  T* phi;      ///< the key's features of a block, with a vector of room
  T* reading;  ///< a query's, weighted
  T* sums;     ///< [heads][padded E + 1]

  StepScratch(Arena& a, const Geometry& s)
      : panel(a.take<T>(s.dims * kPanel)),
        key(a.take<T>(padded<T>(s.K) + kRoom)),
        queries(a.take<T>(s.heads * padded<T>(s.K) + kRoom)),
        value(a.take<T>(padded<T>(s.E + 1))),
        phi(a.take<T>(kFeatureBlock + kRoom)),
        reading(a.take<T>(kFeatureBlock + kRoom)),
        sums(a.take<T>(s.heads * padded<T>(s.E + 1))) {}

  static constexpr std::size_t kRoom = 64 / sizeof(T);
};

}  // namespace fastmax::cpu
