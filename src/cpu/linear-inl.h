// What the passes for p = 1 share: rows against rows, inside blocks and with the state.
#include <algorithm>
#include <cstddef>

#include "hwy/highway.h"
#include "src/cpu/linear_scratch.h"

#if defined(FASTMAX_CPU_LINEAR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FASTMAX_CPU_LINEAR_INL_H_
#undef FASTMAX_CPU_LINEAR_INL_H_
#else
#define FASTMAX_CPU_LINEAR_INL_H_
#endif

#include "src/cpu/pack-inl.h"
#include "src/cpu/product-inl.h"
#include "src/cpu/rows-inl.h"
#include "src/cpu/score-inl.h"
#include "src/cpu/tokens-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

/// Rows of ld elements.
template <class T>
struct Matrix {
  T* data;
  std::size_t ld;
  T* operator[](std::size_t row) const { return data + row * ld; }
  Matrix columns_from(std::size_t column) const { return {data + column, ld}; }
};

/// Columns of rows, whole lines of them.
template <class T>
struct Range {
  std::size_t begin, end;
  std::size_t vectors() const { return (end - begin) / kLanes<T>; }
};
/// Part i of `count` of the value channels.
template <class T>
HWY_INLINE Range<T> channel_range(const LinearShape& shape, std::size_t i, std::size_t count) {
  return {shape.part(shape.columns, i, count), shape.part(shape.columns, i + 1, count)};
}

/// n queries of one head from `first` to rows of kappa [kPanel][ld], slot 0 times `constant`. X is scratch, one panel;
/// inverse as pack_kappa.
template <class Call, class T>
HWY_INLINE void pack_query_rows(const Call& call, const Geometry& shape, std::size_t b,
                                std::size_t head, std::size_t first, std::size_t n, T constant,
                                T* X, T* rows, std::size_t ld, T* inverse) {
  const auto kept = kept_queries<T>(call, b, head, first, n);
  const auto q = call.args.q.head(static_cast<std::int64_t>(b), static_cast<std::int64_t>(head));
  auto kappa = query_kappa<T>(call, shape, b, head);
  kappa.one *= constant;
  RowPacker<T>(kappa, shape.D, ld, X)
      .pack(q[static_cast<std::int64_t>(first)].data(), static_cast<std::size_t>(q.stride), n,
            kept.keep(), nullptr, rows, inverse);
}

/// n keys of one head from `first`, likewise, times weight[kPanel] if given.
template <class Call, class T>
HWY_INLINE void pack_key_rows(const Call& call, const Geometry& shape, std::size_t b,
                              std::size_t key_head, std::size_t first, std::size_t n, T constant,
                              const T* weight, T* X, T* rows, std::size_t ld, T* inverse) {
  const auto kept = kept_keys<T>(call, b, key_head, first, n);
  const auto k =
      call.args.k.head(static_cast<std::int64_t>(b), static_cast<std::int64_t>(key_head));
  auto kappa = key_kappa<T>(call, shape, b, key_head);
  kappa.one *= constant;
  RowPacker<T>(kappa, shape.D, ld, X)
      .pack(k[static_cast<std::int64_t>(first)].data(), static_cast<std::size_t>(k.stride), n,
            kept.keep(), weight, rows, inverse);
}

/// Epilogue: products inside a block, 0 where row and lane do not see each other.
template <class T, Lanes kLanesAre>
struct StoreVisible : StoreOrAdd<T> {
  template <int R, int Z>
  HWY_INLINE void finish(Vec<T> (&acc)[R][Z], std::size_t row, std::size_t column) const {
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) {
      HWY_UNROLL(8)
      for (int z = 0; z < Z; ++z) {
        const std::size_t lane = column + z * kLanes<T>;
        hn::StoreU(keep_visible<kLanesAre, T>(acc[r][z], row + r, lane, 0), Tag<T>(),
                   this->c + (row + r) * this->ldc + lane);
      }
    }
  }
};

/// Epilogue: factor_n (C + A B)_n to rows of the caller's, and nothing behind them.
template <class T>
struct WriteRows {
  Matrix<const T> c;  ///< without data: zeros
  const T* factor;    ///< nullptr: ones
  Matrix<T> to;
  std::size_t rows, columns;

  template <int R, int Z>
  HWY_INLINE void start(Vec<T> (&acc)[R][Z], std::size_t row, std::size_t column) const {
    const Tag<T> d;
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) {
      HWY_UNROLL(8)
      for (int z = 0; z < Z; ++z) {
        acc[r][z] = c.data ? hn::LoadU(d, c[row + r] + column + z * kLanes<T>) : hn::Zero(d);
      }
    }
  }
  template <int R, int Z>
  HWY_INLINE void finish(Vec<T> (&acc)[R][Z], std::size_t row, std::size_t column) const {
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) {
      if (row + r >= rows) return;
      const auto f = hn::Set(Tag<T>(), factor ? factor[row + r] : T{1});
      HWY_UNROLL(8)
      for (int z = 0; z < Z; ++z) {
        const std::size_t e = column + z * kLanes<T>;
        if (e < columns) store_n(hn::Mul(f, acc[r][z]), to[row + r] + e, columns - e);
      }
    }
  }
};

/// The rows of one block as columns, [D][kBlock].
template <class T>
HWY_INLINE void transpose_block(const Matrix<const T>& rows, std::size_t D, T* columns) {
  for (std::size_t lane = 0; lane < kBlock; lane += kLanes<T>) {
    for_each_column(rows[lane], rows.ld, kLanes<T>, D,
                    [&](std::size_t d, std::size_t, Vec<T> column)
                        HWY_ATTR { hn::StoreU(column, Tag<T>(), columns + d * kBlock + lane); });
  }
}

/// C = A B for n rows of a block that see their own and earlier rows of B: a group of rows needs no later ones.
template <class T>
HWY_INLINE void meet_earlier(const Matrix<const T>& a, std::size_t n, const Matrix<const T>& b,
                             std::size_t vectors, const Matrix<T>& c) {
  for (std::size_t row = 0; row < n; row += kRows) {
    product<By::kRow>(kRows, vectors, std::min(n, row + kRows), a[row], a.ld, b.data, b.ld,
                      StoreOrAdd<T>{c[row], c.ld, false});
  }
}

/// sum[K] += factor_j row_j over n rows; factor nullptr: ones. The last vector is added to its end.
template <class T>
HWY_INLINE void add_rows(const Matrix<const T>& rows, std::size_t n, std::size_t K, const T* factor,
                         T* sum) {
  const Tag<T> d;
  for (std::size_t i = 0; i < K; i += kLanes<T>) {
    auto s = hn::Zero(d);
    for (std::size_t j = 0; j < n; ++j) {
      const auto x = hn::LoadU(d, rows[j] + i);
      s = factor ? hn::MulAdd(hn::Set(d, factor[j]), x, s) : hn::Add(x, s);
    }
    hn::StoreU(hn::Add(hn::LoadU(d, sum + i), s), d, sum + i);
  }
}

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // FASTMAX_CPU_LINEAR_INL_H_
