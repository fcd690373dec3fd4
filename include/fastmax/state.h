// A state as a value: everything that attention needs of a past of any length.
//
//   S = sum_m w_m phi(k^_m) [v_m, 1]          [B, Hkv, F, E + 1], F = C(D + p, p)
//
// States of the same options add up, so a sequence may be split anywhere, in any order, over any machines.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "fastmax/fastmax.h"

namespace fastmax {

/// One token: key and value join the state, then the query reads it. q, k, v and o have N = 1.
template <class T>
struct StepArgs {
  BhndView<const T> q, k, v;
  BnView<const T> key_weight = {};  ///< [B, 1]
  StateView<T> state;               ///< changes in place
  BhndView<T> o;
};

/// o of the newest token, in time and memory O(F E) whatever the past: reads and writes the state once. Of the options,
/// form, chunk and causal do not matter here, and dropout is refused. Same rules as forward. A call that throws leaves the
/// state as it was: where Floor::kError may end it, the workspace holds a copy.
template <class T>
FASTMAX_API Report step(const StepArgs<T>& args, const Options& options = {},
                        const Execution& = {});
/// The workspace of that call. State's other calls are forward's, with view() as initial_state and, but for query, as
/// final_state, N = 0 (add) or M = 0 (query), and options(), causal for extend: plan of those arguments is theirs.
template <class T>
FASTMAX_API Plan plan(const StepArgs<T>& args, const Options& options = {}, int threads = 0);

/// Owns a state and the options it was made with. T is float or double. A call that throws leaves it as it was.
template <class T>
class FASTMAX_API State {
 public:
  /// Zeros: no token yet. Throws Error where the sizes or options make no state.
  State(std::int64_t B, std::int64_t Hkv, std::int64_t D, std::int64_t E,
        const Options& options = {});

  /// Keys and values [B, Hkv, M, .] join.
  void add(const BhndView<const T>& k, const BhndView<const T>& v,
           const BnView<const T>& key_weight = {}, const Execution& = {});
  /// o [B, H, N, E] of queries [B, H, N, D] that see all tokens so far and nothing else.
  Report query(const BhndView<const T>& q, const BhndView<T>& o, const Execution& = {}) const;
  /// Prefill: causal attention of new tokens to the past and to each other, then they join. Any split of a sequence
  /// gives the numbers of the whole, to rounding.
  Report extend(const BhndView<const T>& q, const BhndView<const T>& k, const BhndView<const T>& v,
                const BhndView<T>& o, const BnView<const T>& key_weight = {},
                const Execution& = {});
  /// extend for one token a sequence, of weight 1.
  Report step(const BhndView<const T>& q, const BhndView<const T>& k, const BhndView<const T>& v,
              const BhndView<T>& o, const Execution& = {});
  /// The tokens of both. Throws Error where sizes or options differ.
  State& operator+=(const State& other);

  /// A safetensors file: one tensor `state` and metadata order, D, E, count, scale, normalize. Written under another
  /// name and renamed. load throws Error where the file is not such a state, and std::runtime_error where it cannot be
  /// read.
  void save(const std::string& path) const;
  static State load(const std::string& path);

  StateView<T> view() { return {data_.data(), B_, H_, F_, E_}; }
  StateView<const T> view() const { return {data_.data(), B_, H_, F_, E_}; }
  std::int64_t D() const { return D_; }
  std::int64_t count() const { return count_; }  ///< tokens that joined, padding included
  const Options& options() const { return options_; }

 private:
  std::int64_t B_, H_, D_, E_, F_;
  std::int64_t count_ = 0;
  Options options_;
  std::vector<T> data_;
};

}  // namespace fastmax
