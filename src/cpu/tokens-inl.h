// Tokens of one head to kappa panels and their gradients back: which scale, norm and dropout each side has.
#include <cstddef>

#include "hwy/highway.h"
#include "src/cpu/kernels.h"
#include "src/cpu/scratch.h"
#include "src/dropout.h"

#if defined(FASTMAX_CPU_TOKENS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FASTMAX_CPU_TOKENS_INL_H_
#undef FASTMAX_CPU_TOKENS_INL_H_
#else
#define FASTMAX_CPU_TOKENS_INL_H_
#endif

#include "src/cpu/kappa-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

template <class T>
HWY_INLINE Kappa<T> query_kappa(const Settings<T>& s, const Geometry& shape, std::size_t b,
                                std::size_t head) {
  return {s.normalize, T{1}, s.scale * (s.query_factor ? s.query_factor[b * shape.H + head] : T{1}),
          shape.whole_panels};
}
template <class T>
HWY_INLINE Kappa<T> key_kappa(const Settings<T>& s, const Geometry& shape, std::size_t b,
                              std::size_t key_head) {
  return {s.normalize, s.unit,
          s.unit * (s.key_factor ? s.key_factor[b * shape.Hkv + key_head] : T{1}),
          shape.whole_panels};
}

/// What multiplies x^ of n tokens of one head: 0 for those that token dropout drops and, under kMaxNorm, for keys of weight
/// 0. Those are not measured, and longer than what is by any factor: 0 times their f need not be 0.
template <class T>
class KeptTokens {
 public:
  /// weight: the batch entry's, of keys, or nullptr.
  KeptTokens(const Settings<T>& s, Drawn side, const T* weight, std::size_t b, std::size_t head,
             std::size_t first, std::size_t n)
      : all_(!drops_tokens(s.dropout) && !(weight && s.normalize == Normalize::kMaxNorm)) {
    if (all_) return;
    std::fill(keep_, keep_ + n, T{1});
    std::fill(keep_ + n, keep_ + kPanel, T{0});
    if (drops_tokens(s.dropout))
      draw_kept(s.dropout, side, s.first_batch + b, head, first, n, keep_);
    for (std::size_t j = 0; weight && j < n; ++j)
      if (weight[first + j] == 0) keep_[j] = 0;
  }
  /// [kPanel], or nullptr: all of them.
  const T* keep() const { return all_ ? nullptr : keep_; }

 private:
  bool all_;
  alignas(64) T keep_[kPanel];
};

/// Of n queries, or keys, of one head from `first`.
template <class T, class Call>
HWY_INLINE KeptTokens<T> kept_queries(const Call& call, std::size_t b, std::size_t head,
                                      std::size_t first, std::size_t n) {
  return {call, Drawn::kQuery, nullptr, b, head, first, n};
}
template <class T, class Call>
HWY_INLINE KeptTokens<T> kept_keys(const Call& call, std::size_t b, std::size_t key_head,
                                   std::size_t first, std::size_t n) {
  const T* weight = call.args.key_weight.row(static_cast<std::int64_t>(b));
  return {call, Drawn::kKey, weight, b, key_head, first, n};
}

template <class T>
HWY_INLINE void pack_tokens(const Kappa<T>& kappa, const KeptTokens<T>& kept, Rows<const T> x,
                            std::size_t first, std::size_t n, T* X, T* inverse) {
  pack_kappa(kappa, x[static_cast<std::int64_t>(first)].data(), static_cast<std::size_t>(x.stride),
             n, static_cast<std::size_t>(x.D), kept.keep(), X, inverse);
}

/// n queries of one head from `first`: kappa to X [dims][kPanel]; inverse as pack_kappa, or nullptr.
template <class Call, class T>
HWY_INLINE void pack_queries(const Call& call, const Geometry& shape, std::size_t b,
                             std::size_t head, std::size_t first, std::size_t n, T* X, T* inverse) {
  pack_tokens<T>(query_kappa(call, shape, b, head), kept_queries<T>(call, b, head, first, n),
                 call.args.q.head(static_cast<std::int64_t>(b), static_cast<std::int64_t>(head)),
                 first, n, X, inverse);
}

/// n keys of one head from `first`, likewise.
template <class Call, class T>
HWY_INLINE void pack_keys(const Call& call, const Geometry& shape, std::size_t b,
                          std::size_t key_head, std::size_t first, std::size_t n, T* X,
                          T* inverse) {
  pack_tokens<T>(
      key_kappa(call, shape, b, key_head), kept_keys<T>(call, b, key_head, first, n),
      call.args.k.head(static_cast<std::int64_t>(b), static_cast<std::int64_t>(key_head)), first, n,
      X, inverse);
}

/// weight[kPanel] of n keys from `first`: given or 1, and 0 behind them. `given` is one batch entry's, or nullptr.
template <class T>
HWY_INLINE void pack_weights(const T* given, std::size_t first, std::size_t n, T* weight) {
  for (std::size_t j = 0; j < kPanel; ++j)
    weight[j] = j >= n ? T{0} : given ? given[first + j] : T{1};
}

/// dX back to dq of n queries from `first`; X and inverse from pack_queries.
template <class T>
HWY_INLINE void write_query_gradients(const BackwardCall<T>& call, const Geometry& shape,
                                      std::size_t b, std::size_t head, std::size_t first,
                                      std::size_t n, T* dX, const T* X, const T* inverse) {
  const auto dq = call.args.dq.head(static_cast<std::int64_t>(b), static_cast<std::int64_t>(head));
  unpack_kappa_gradient(
      query_kappa(call, shape, b, head), dX, X, inverse, shape.D, static_cast<const T*>(nullptr), n,
      dq[static_cast<std::int64_t>(first)].data(), static_cast<std::size_t>(dq.stride));
}

/// dX and dV, still without the keys' weights, to dk and dv of n keys from `first`; X and inverse from pack_keys.
template <class T>
HWY_INLINE void write_key_gradients(const BackwardCall<T>& call, const Geometry& shape,
                                    std::size_t b, std::size_t key_head, std::size_t first,
                                    std::size_t n, T* dX, const T* dV, const T* X, const T* inverse,
                                    const T* weight) {
  const auto dk =
      call.args.dk.head(static_cast<std::int64_t>(b), static_cast<std::int64_t>(key_head));
  const auto dv =
      call.args.dv.head(static_cast<std::int64_t>(b), static_cast<std::int64_t>(key_head));
  const auto at = static_cast<std::int64_t>(first);
  unpack_kappa_gradient(key_kappa(call, shape, b, key_head), dX, X, inverse, shape.D, weight, n,
                        dk[at].data(), static_cast<std::size_t>(dk.stride));
  unpack_plain(dV, shape.E, weight, n, dv[at].data(), static_cast<std::size_t>(dv.stride));
}

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // FASTMAX_CPU_TOKENS_INL_H_
