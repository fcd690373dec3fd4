// Tokens to rows of kappa [tokens][ld], for p = 1: there kappa itself is the features, every product has one operand
// that is read by rows, and neither tokens nor outputs are transposed.
//
//   kappa = [one, x''_1, .., x''_{D-1}],   x''_j = (x_j - mean x) / sigma + reflected       (kappa-inl.h)
//
// A row's sums run across lanes. Sixteen rows are summed at once by a transpose that adds on the way, which costs
// a few shuffles a row whatever D is.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>

#include "hwy/highway.h"
#include "src/cpu/layout.h"

#if defined(FASTMAX_CPU_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FASTMAX_CPU_ROWS_INL_H_
#undef FASTMAX_CPU_ROWS_INL_H_
#else
#define FASTMAX_CPU_ROWS_INL_H_
#endif

#include "src/cpu/kappa-inl.h"
#include "src/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

/// body(d, n) for each vector of a row of D elements, n = min(kLanes, D - d) of them. Where n is kLanes the compiler
/// knows it.
template <class T, class Body>
HWY_INLINE void for_each_vector(std::size_t D, const Body& body) {
  std::size_t d = 0;
  for (; d + kLanes<T> <= D; d += kLanes<T>) body(d, kLanes<T>);
  if (d < D) body(d, D - d);
}

/// Lane j of the result is the sum of the lanes of term(j, d, n, .. term(j, 0, n, start(j))), over the vectors of row j.
template <class T, class Start, class Term>
HWY_INLINE Vec<T> sum_rows(std::size_t D, const Start& start, const Term& term) {
  constexpr std::size_t L = kLanes<T>,
                        kTogether = L < 4 ? L : 4;  // chains that hide the latency of one
  Vec<T> sum[L];
  HWY_UNROLL(1)  // sixteen rows at once would be more addresses than registers
  for (std::size_t j0 = 0; j0 < L; j0 += kTogether) {
    Vec<T> s[kTogether];
    for (std::size_t j = 0; j < kTogether; ++j) s[j] = start(j0 + j);
    for_each_vector<T>(D, [&](std::size_t d, std::size_t n) HWY_ATTR {
      HWY_UNROLL(4)
      for (std::size_t j = 0; j < kTogether; ++j) s[j] = term(j0 + j, d, n, s[j]);
    });
    for (std::size_t j = 0; j < kTogether; ++j) sum[j0 + j] = s[j];
  }
  return row_sums<T>(sum);
}

/// Two such sums at once, of rows that begin at zero: term(j, d, n, first, second) adds to both.
template <class T, class Term>
HWY_INLINE void sum_rows_twice(std::size_t D, const Term& term, Vec<T>& first, Vec<T>& second) {
  constexpr std::size_t L = kLanes<T>, kTogether = L < 4 ? L : 4;
  Vec<T> sum[2][L];
  HWY_UNROLL(1)
  for (std::size_t j0 = 0; j0 < L; j0 += kTogether) {
    Vec<T> s[2][kTogether];
    for (std::size_t j = 0; j < kTogether; ++j) s[0][j] = s[1][j] = hn::Zero(Tag<T>());
    for_each_vector<T>(D, [&](std::size_t d, std::size_t n) HWY_ATTR {
      HWY_UNROLL(4)
      for (std::size_t j = 0; j < kTogether; ++j) term(j0 + j, d, n, s[0][j], s[1][j]);
    });
    for (std::size_t j = 0; j < kTogether; ++j) {
      sum[0][j0 + j] = s[0][j];
      sum[1][j0 + j] = s[1][j];
    }
  }
  first = row_sums<T>(sum[0]);
  second = row_sums<T>(sum[1]);
}

/// Packs up to kPanel tokens of D dimensions. The last vector of each row ends in zeros; rows behind the last token hold
/// finite numbers without a meaning, up to a whole vector of tokens. X is scratch, one panel.
template <class T>
class RowPacker {
 public:
  RowPacker(const Kappa<T>& kappa, std::size_t D, std::size_t ld, T* X)
      : kappa_(kappa), D_(D), K_(kappa.reflects() ? D : D + 1), ld_(ld), X_(X) {}

  /// keep and inverse are as in pack_kappa; weight[n], if given, multiplies whole rows, slot 0 included.
  HWY_NOINLINE void pack(const T* x, std::size_t stride, std::size_t n, const T* keep,
                         const T* weight, T* rows, T* inverse) const {
    if (!kappa_.reflects()) {
      pack_kappa(kappa_, x, stride, n, D_, keep, X_, inverse);
      panel_to_rows(X_, K_, weight, n, rows, ld_);
      return;
    }
    constexpr std::size_t L = kLanes<T>;
    for (std::size_t lane = 0; lane < n; lane += L, x += L * stride, rows += L * ld_) {
      const std::size_t tokens = std::min(L, n - lane);
      const T* keeps = keep ? keep + lane : nullptr;
      const T* weights = weight ? weight + lane : nullptr;
      T* inverses = inverse ? inverse + lane : nullptr;
      alignas(64) T var[L];
      if (tokens == L) {
        standardize(x, stride, tokens, keeps, weights, rows, inverses, var);
      } else {  // the last one stands in for those that are not there
        for (std::size_t j = 0; j < L; ++j)
          std::copy_n(x + std::min(j, tokens - 1) * stride, D_, X_ + j * D_);
        standardize(X_, D_, tokens, keeps, weights, rows, inverses, var);
      }
      const Tag<T> d_tag;
      constexpr T kMost = std::numeric_limits<T>::max();
      if (HWY_LIKELY(hn::AllTrue(d_tag, hn::Le(hn::Load(d_tag, var), hn::Set(d_tag, kMost))))) {
        continue;
      }
      for (std::size_t j = 0; j < tokens; ++j) {
        if (var[j] <= kMost) continue;
        pack_huge(x + j * stride, keeps ? keeps[j] : T{1}, weights ? weights[j] : T{1},
                  rows + j * ld_, inverses ? inverses + j : nullptr);
      }
    }
  }

 private:
  /// Three passes over rows that stay in L1: mean, variance, result, as standardize_lanes has them.
  void standardize(const T* x, std::size_t stride, std::size_t tokens, const T* keep,
                   const T* weight, T* rows, T* inverse, T* variance) const {
    constexpr std::size_t L = kLanes<T>;
    const Tag<T> d_tag;
    const std::size_t D = D_, ld = ld_;  // vectors that are stored might alias members
    const auto per_dim = hn::Set(d_tag, T{1} / static_cast<T>(D));
    const auto zero = [&](std::size_t) HWY_ATTR { return hn::Zero(d_tag); };

    const auto mean = hn::Mul(
        per_dim, sum_rows<T>(D, zero,
                             [&](std::size_t j, std::size_t d, std::size_t n, Vec<T> sum)
                                 HWY_ATTR { return hn::Add(sum, load_n(x + j * stride + d, n)); }));
    alignas(64) T factor[L], shift[L], slot_0[L];
    hn::Store(mean, d_tag, shift);
    auto rest = hn::Zero(d_tag), square = rest;
    sum_rows_twice<T>(
        D,
        [&](std::size_t j, std::size_t d, std::size_t n, Vec<T>& sum, Vec<T>& squares) HWY_ATTR {
          auto c = hn::Sub(load_n(x + j * stride + d, n), hn::Set(d_tag, shift[j]));
          if (n < L) c = hn::IfThenElseZero(hn::FirstN(d_tag, n), c);
          hn::StoreU(c, d_tag, rows + j * ld + d);
          sum = hn::Add(sum, c);
          squares = hn::MulAdd(c, c, squares);
        },
        rest, square);
    const auto mean_c = hn::Mul(per_dim, rest);
    const auto var = hn::NegMulAdd(mean_c, mean_c, hn::Mul(per_dim, square));
    for (std::size_t j = 0; j < L; ++j) shift[j] = rows[j * ld];
    const auto c_0 = hn::Load(d_tag, shift);

    const T root = std::sqrt(static_cast<T>(D));
    const auto one = hn::Set(d_tag, T{1});
    const auto kept = keep ? load_n(keep, tokens) : one,
               weighs = weight ? load_n(weight, tokens) : one;
    const auto inverse_std = hn::Mul(
        kept, hn::Div(one, hn::Sqrt(hn::Add(hn::Max(var, hn::Zero(d_tag)),
                                            hn::Set(d_tag, static_cast<T>(kVarianceFloor))))));
    const auto f = hn::Mul(hn::Mul(inverse_std, weighs), hn::Set(d_tag, kappa_.scale));
    hn::Store(f, d_tag, factor);
    hn::Store(hn::Mul(f, hn::Mul(hn::NegMulAdd(rest, hn::Set(d_tag, T{1} / root), c_0),
                                 hn::Set(d_tag, D > 1 ? T{1} / (root - T{1}) : T{0}))),
              d_tag, shift);
    hn::Store(hn::Mul(weighs, hn::Set(d_tag, kappa_.one)), d_tag, slot_0);
    if (inverse) store_n(inverse_std, inverse, tokens);
    hn::Store(var, d_tag, variance);

    for (std::size_t j = 0; j < L; ++j) {
      T* row = rows + j * ld;
      for_each_vector<T>(D, [&](std::size_t d, std::size_t n) HWY_ATTR {
        auto k = hn::MulAdd(hn::LoadU(d_tag, row + d), hn::Set(d_tag, factor[j]),
                            hn::Set(d_tag, shift[j]));
        if (n < L) k = hn::IfThenElseZero(hn::FirstN(d_tag, n), k);
        hn::StoreU(k, d_tag, row + d);
      });
      row[0] = slot_0[j];
    }
  }

  /// A token alone whose squares overflow: the panel's way knows how.
  HWY_NOINLINE void pack_huge(const T* x, T keep, T weight, T* row, T* inverse) const {
    alignas(64) T keeps[kPanel] = {keep}, inverses[kPanel];
    pack_kappa(kappa_, x, D_, 1, D_, keeps, X_, inverses);
    for (std::size_t d = 0; d < D_; ++d) row[d] = weight * X_[d * kPanel];
    if (inverse) *inverse = inverses[0];
  }

  const Kappa<T> kappa_;
  const std::size_t D_, K_, ld_;
  T* const X_;
};

/// The gradient with respect to kappa, rows dX (overwritten), back to rows of dx; unpack_kappa_gradient says how. rows
/// are what RowPacker made without weights. X and dX_panel are scratch, a panel each.
template <class T>
class RowUnpacker {
 public:
  RowUnpacker(const Kappa<T>& kappa, std::size_t D, std::size_t ld, T* X, T* dX_panel)
      : kappa_(kappa), D_(D), K_(kappa.reflects() ? D : D + 1), ld_(ld), X_(X), dX_(dX_panel) {}

  HWY_NOINLINE void unpack(T* dX, const T* rows, const T* inverse, const T* token_weight,
                           std::size_t n, T* dx, std::size_t stride) const {
    if (!kappa_.reflects()) {
      pack_plain(rows, ld_, n, K_, X_);
      pack_plain(dX, ld_, n, K_, dX_);
      unpack_kappa_gradient(kappa_, dX_, X_, inverse, D_, token_weight, n, dx, stride);
      return;
    }
    for (std::size_t lane = 0; lane < n; lane += kLanes<T>) {
      reflect_back(dX + lane * ld_, rows + lane * ld_, inverse + lane,
                   token_weight ? token_weight + lane : nullptr, std::min(kLanes<T>, n - lane),
                   dx + lane * stride, stride);
    }
  }

 private:
  void reflect_back(T* dX, const T* rows, const T* inverse, const T* token_weight,
                    std::size_t tokens, T* dx, std::size_t stride) const {
    constexpr std::size_t L = kLanes<T>;
    const Tag<T> d_tag;
    const std::size_t D = D_, ld = ld_;
    const T scale = kappa_.scale;
    const auto zero = [&](std::size_t) HWY_ATTR { return hn::Zero(d_tag); };
    const T root = std::sqrt(static_cast<T>(D));
    for (std::size_t j = 0; j < L; ++j) dX[j * ld] = 0;  // the constant's
    const auto along = hn::Mul(
        hn::Set(d_tag, T{1} / (kappa_.scale * static_cast<T>(D))),
        sum_rows<T>(D, zero, [&](std::size_t j, std::size_t d, std::size_t, Vec<T> sum) HWY_ATTR {
          return hn::MulAdd(hn::LoadU(d_tag, rows + j * ld + d), hn::LoadU(d_tag, dX + j * ld + d),
                            sum);
        }));
    alignas(64) T a[L], reflected[L], first[L], f[L];
    hn::Store(along, d_tag, a);
    const auto total =
        sum_rows<T>(D, zero, [&](std::size_t j, std::size_t d, std::size_t, Vec<T> sum) HWY_ATTR {
          T* at = dX + j * ld + d;
          const auto x =
              d > 0 ? hn::LoadU(d_tag, rows + j * ld + d)
                    : hn::IfThenZeroElse(hn::FirstN(d_tag, 1), hn::LoadU(d_tag, rows + j * ld));
          const auto v = hn::NegMulAdd(x, hn::Set(d_tag, a[j]),
                                       hn::Mul(hn::Set(d_tag, scale), hn::LoadU(d_tag, at)));
          hn::StoreU(v, d_tag, at);
          return hn::Add(sum, v);
        });
    const auto per_root = hn::Mul(total, hn::Set(d_tag, T{1} / root));
    const auto r = hn::Mul(per_root, hn::Set(d_tag, D > 1 ? T{1} / (root - T{1}) : T{0}));
    hn::Store(r, d_tag, reflected);
    hn::Store(hn::Add(per_root, r), d_tag, first);  // so that every entry subtracts `reflected`
    auto factor = load_n(inverse, tokens);
    if (token_weight) factor = hn::Mul(factor, load_n(token_weight, tokens));
    hn::Store(factor, d_tag, f);
    for (std::size_t j = 0; j < tokens; ++j) {
      T* row = dX + j * ld;
      row[0] = first[j];
      for_each_vector<T>(D, [&](std::size_t d, std::size_t n) HWY_ATTR {
        const auto g = hn::Sub(hn::LoadU(d_tag, row + d), hn::Set(d_tag, reflected[j]));
        store_n(hn::Mul(hn::Set(d_tag, f[j]), g), dx + j * stride + d, n);
      });
    }
  }

  const Kappa<T> kappa_;
  const std::size_t D_, K_, ld_;
  T* const X_;
  T* const dX_;
};

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // FASTMAX_CPU_ROWS_INL_H_
