// Rows of tokens to panels [dims][64 tokens] and back: lanes are tokens, so that what follows needs no horizontal sums.
#include <cstddef>
#include <cstring>

#include "hwy/highway.h"
#include "src/cpu/layout.h"

#if defined(FASTMAX_CPU_PACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FASTMAX_CPU_PACK_INL_H_
#undef FASTMAX_CPU_PACK_INL_H_
#else
#define FASTMAX_CPU_PACK_INL_H_
#endif

#include "src/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

/// Calls visit(d, d % 2, vector) with lane j = x[token j][d], for up to kLanes tokens and every d < D. The parity is
/// known when compiled, so that two sums in turn stay in registers.
template <class T, class Visit>
HWY_INLINE void for_each_column(const T* x, std::size_t stride, std::size_t tokens, std::size_t D,
                                const Visit& visit) {
  constexpr std::size_t L = kLanes<T>;
  const Tag<T> d_tag;
  for (std::size_t d0 = 0; d0 < D; d0 += L) {
    Vec<T> r[L];
    if (tokens >= L && D - d0 >= L) {
      HWY_UNROLL(16)
      for (std::size_t j = 0; j < L; ++j) r[j] = hn::LoadU(d_tag, x + j * stride + d0);
    } else {
      for (std::size_t j = 0; j < L; ++j) {
        r[j] = j < tokens ? load_n(x + j * stride + d0, D - d0) : hn::Zero(d_tag);
      }
    }
    transpose<T>(r);
    const std::size_t count = D - d0 < L ? D - d0 : L;
    if (count == L) {
      HWY_UNROLL(16)
      for (std::size_t i = 0; i < L; ++i) visit(d0 + i, i % 2, r[i]);
    } else {
      for (std::size_t i = 0; i < count; ++i) visit(d0 + i, i % 2, r[i]);
    }
  }
}

/// Writes x[token j][d] = lane j of column(d), for up to kLanes tokens and every d < D.
template <class T, class Column>
HWY_INLINE void write_columns(T* x, std::size_t stride, std::size_t tokens, std::size_t D,
                              const Column& column) {
  constexpr std::size_t L = kLanes<T>;
  const Tag<T> d_tag;
  for (std::size_t d0 = 0; d0 < D; d0 += L) {
    Vec<T> r[L];
    if (D - d0 >= L) {
      HWY_UNROLL(16)
      for (std::size_t i = 0; i < L; ++i) r[i] = column(d0 + i);
    } else {
      for (std::size_t i = 0; i < L; ++i) r[i] = d0 + i < D ? column(d0 + i) : hn::Zero(d_tag);
    }
    transpose<T>(r);
    if (tokens >= L && D - d0 >= L) {
      HWY_UNROLL(16)
      for (std::size_t j = 0; j < L; ++j) hn::StoreU(r[j], d_tag, x + j * stride + d0);
    } else {
      const std::size_t count = tokens < L ? tokens : L;
      for (std::size_t j = 0; j < count; ++j) store_n(r[j], x + j * stride + d0, D - d0);
    }
  }
}

template <class T>
HWY_INLINE std::size_t tokens_from(std::size_t n, std::size_t lane) {
  return n > lane ? n - lane : 0;
}

/// Lanes of a panel of n tokens that products read: whole vectors, and whole tiles of rows. What lies behind them is
/// undefined.
template <class T>
HWY_INLINE std::size_t used_lanes(std::size_t n) {
  return round_up(n, kLanes<T> > kRows ? kLanes<T> : kRows);
}

template <class T>
HWY_INLINE void zero_lanes(T* X, std::size_t from, std::size_t to, std::size_t lane) {
  for (std::size_t d = from; d < to; ++d)
    hn::StoreU(hn::Zero(Tag<T>()), Tag<T>(), X + d * kPanel + lane);
}

/// x[n][D] rows to X [round_up(D, kRows)][kPanel]; absent dims are zero, and so are absent tokens in the used lanes or,
/// if `whole`, in all.
template <class T>
HWY_NOINLINE void pack_plain(const T* x, std::size_t stride, std::size_t n, std::size_t D, T* X,
                             bool whole = false) {
  const Tag<T> d_tag;
  const std::size_t lanes = whole ? kPanel : used_lanes<T>(n);
  for (std::size_t lane = 0; lane < lanes; lane += kLanes<T>) {
    for_each_column(x, stride, tokens_from<T>(n, lane), D,
                    [&](std::size_t d, std::size_t, Vec<T> column)
                        HWY_ATTR { hn::StoreU(column, d_tag, X + d * kPanel + lane); });
    zero_lanes(X, D, round_up(D, kRows), lane);
    x += kLanes<T> * stride;
  }
}

/// X [D][kPanel] to rows, times one factor a token if given.
template <class T>
HWY_NOINLINE void unpack_plain(const T* X, std::size_t D, const T* factor, std::size_t n, T* x,
                               std::size_t stride) {
  const Tag<T> d_tag;
  for (std::size_t lane = 0; lane < n; lane += kLanes<T>) {
    const auto f = factor ? hn::LoadU(d_tag, factor + lane) : hn::Set(d_tag, T{1});
    write_columns(x + lane * stride, stride, n - lane, D, [&](std::size_t d) HWY_ATTR {
      return hn::Mul(f, hn::LoadU(d_tag, X + d * kPanel + lane));
    });
  }
}

/// Rows of D elements to rows of `ld`, zeros behind D.
template <class T>
HWY_INLINE void pad_rows(const T* x, std::size_t stride, std::size_t n, std::size_t D, T* rows,
                         std::size_t ld) {
  for (std::size_t j = 0; j < n; ++j) {
    std::memcpy(rows + j * ld, x + j * stride, D * sizeof(T));
    std::memset(rows + j * ld + D, 0, (ld - D) * sizeof(T));
  }
}

/// Rows of D elements less `mean` [D] to rows of `ld`, zeros behind D.
template <class T>
HWY_INLINE void center_rows(const T* x, std::size_t stride, std::size_t n, std::size_t D,
                            const T* mean, T* rows, std::size_t ld) {
  for (std::size_t j = 0; j < n; ++j) {
    for (std::size_t d = 0; d < D; ++d) rows[j * ld + d] = x[j * stride + d] - mean[d];
    std::memset(rows + j * ld + D, 0, (ld - D) * sizeof(T));
  }
}

/// X [round_up(D, kRows)][kPanel] of n tokens to padded rows [kPanel][ld], times one factor a token if given.
template <class T>
HWY_NOINLINE void panel_to_rows(const T* X, std::size_t D, const T* factor, std::size_t n, T* rows,
                                std::size_t ld) {
  const Tag<T> d_tag;
  for (std::size_t lane = 0; lane < used_lanes<T>(n); lane += kLanes<T>) {
    const auto f = factor ? hn::LoadU(d_tag, factor + lane) : hn::Set(d_tag, T{1});
    write_columns(rows + lane * ld, ld, kLanes<T>, ld, [&](std::size_t d) HWY_ATTR {
      return d < D ? hn::Mul(f, hn::LoadU(d_tag, X + d * kPanel + lane)) : hn::Zero(d_tag);
    });
  }
}

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // FASTMAX_CPU_PACK_INL_H_
