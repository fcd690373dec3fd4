// A Fastmax call with something beside q, k and v whose answer is a plain call's: what the option costs is the ratio of
// their times, and the plain truth judges both.
#pragma once
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>
#include <vector>

#include "app/bench_contender.h"
#include "torch_ops/threads.h"

namespace fastmax::app {

/// The heads of k or v that a call is given: a group of heads shares the first.
inline at::Tensor own_heads(const BenchShape& s, const at::Tensor& x) {
  return s.extra == Extra::kGrouped ? x.narrow(1, 0, 1) : x;
}

/// [B, H, N, ...] in memory as `given` wants it.
inline at::Tensor laid_out(const BenchShape& s, const at::Tensor& x) {
  return s.extra == Extra::kPacked ? x.transpose(0, 1).contiguous().transpose(0, 1) : x;
}

/// A tensor [B, H, N, ...] as a call is given it: packed sequences lie behind one another, [1, H, B N, ...].
inline at::Tensor given(const BenchShape& s, const at::Tensor& x) {
  if (s.extra != Extra::kPacked) return x;
  auto sizes = x.sizes().vec();
  sizes[2] *= sizes[0];
  sizes[0] = 1;
  return x.transpose(0, 1).view(sizes);  // throws where it would have to copy
}

class Extras {
 public:
  Extras(const BenchShape& s, int order, at::ScalarType type) {
    if (s.extra == Extra::kWeights) key_weight_ = at::ones({s.B, s.N}, type);
    if (s.extra == Extra::kStates) {
      before_ = at::zeros({s.B, s.H, state_features(order, s.D), s.D + 1}, type);
      after_ = at::full_like(before_, NAN);
    }
    if (s.extra == Extra::kPacked)
      for (std::int64_t b = 0; b <= s.B; ++b) ends_.push_back(static_cast<std::int32_t>(b * s.N));
  }

  template <class T>
  void add_to(ForwardArgs<T>& args) const {
    args.key_weight = weights<Compute<T>>();
    args.initial_state = state<const Compute<T>>(before_);
    args.final_state = state<Compute<T>>(after_);
  }
  template <class T>
  void add_to(BackwardArgs<T>& args) const {
    args.key_weight = weights<Compute<T>>();
    args.initial_state = args.d_final_state = state<const Compute<T>>(before_);
    args.d_initial_state = state<Compute<T>>(after_);
  }

  template <class Args>
  Plan plan(const Args& args, const Options& options) const {
    return with_sequences([&](const auto&... sequences) {
      return fastmax::plan(args, sequences..., options, at::get_num_threads());
    });
  }
  template <class T>
  void run(const ForwardArgs<T>& args, const Options& options) const {
    with_sequences([&](const auto&... sequences) {
      forward(args, sequences..., options, torch_ops::torch_execution());
    });
  }
  template <class T>
  void run(const BackwardArgs<T>& args, const Options& options) const {
    with_sequences([&](const auto&... sequences) {
      backward(args, sequences..., options, torch_ops::torch_execution());
    });
  }

 private:
  /// call(Sequences) where they are packed, else call().
  template <class Call>
  auto with_sequences(const Call& call) const {
    return ends_.empty() ? call() : call(Sequences(ends_, ends_));
  }
  template <class T>
  BnView<const T> weights() const {
    if (!key_weight_.defined()) return {};
    return {key_weight_.const_data_ptr<T>(), key_weight_.size(0), key_weight_.size(1),
            key_weight_.stride(0)};
  }
  template <class T>
  static StateView<T> state(const at::Tensor& x) {
    if (!x.defined()) return {};
    return {static_cast<T*>(x.data_ptr()), x.size(0), x.size(1), x.size(2), x.size(3) - 1};
  }

  at::Tensor key_weight_, before_, after_;  // all 1; a state of nothing; the state that comes out
  std::vector<std::int32_t> ends_;          // of packed sequences, from 0 on
};

}  // namespace fastmax::app
