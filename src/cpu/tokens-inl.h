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

/// Which of n tokens of one head stay.
template <class T>
class TokenDropout {
 public:
  TokenDropout(const Settings<T>& s, Drawn side, std::size_t b, std::size_t head, std::size_t first,
               std::size_t n)
      : drops_(drops_tokens(s.dropout)) {
    if (!drops_) return;
    draw_kept(s.dropout, side, s.first_batch + b, head, first, n, keep_);
    std::fill(keep_ + n, keep_ + kPanel, T{0});
  }
  /// [kPanel], or nullptr: all of them.
  const T* keep() const { return drops_ ? keep_ : nullptr; }

 private:
  bool drops_;
  alignas(64) T keep_[kPanel];
};

template <class T>
HWY_INLINE void pack_tokens(const Settings<T>& s, const Kappa<T>& kappa, Drawn side,
                            Rows<const T> x, std::size_t b, std::size_t head, std::size_t first,
                            std::size_t n, T* X, T* inverse) {
  const TokenDropout<T> dropout(s, side, b, head, first, n);
  pack_kappa(kappa, x[static_cast<std::int64_t>(first)].data(), static_cast<std::size_t>(x.stride),
             n, static_cast<std::size_t>(x.D), dropout.keep(), X, inverse);
}

/// n queries of one head from `first`: kappa to X [dims][kPanel]; inverse as pack_kappa, or nullptr.
template <class Call, class T>
HWY_INLINE void pack_queries(const Call& call, const Geometry& shape, std::size_t b,
                             std::size_t head, std::size_t first, std::size_t n, T* X, T* inverse) {
  pack_tokens<T>(call, query_kappa(call, shape, b, head), Drawn::kQuery,
                 call.args.q.head(static_cast<std::int64_t>(b), static_cast<std::int64_t>(head)), b,
                 head, first, n, X, inverse);
}

/// n keys of one head from `first`, likewise.
template <class Call, class T>
HWY_INLINE void pack_keys(const Call& call, const Geometry& shape, std::size_t b,
                          std::size_t key_head, std::size_t first, std::size_t n, T* X,
                          T* inverse) {
  pack_tokens<T>(
      call, key_kappa(call, shape, b, key_head), Drawn::kKey,
      call.args.k.head(static_cast<std::int64_t>(b), static_cast<std::int64_t>(key_head)), b,
      key_head, first, n, X, inverse);
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
