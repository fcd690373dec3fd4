// Dropout of features inside a causal chunk. The numerator there is no longer f(s) of a score: it is the sum over the
// features that stay,
//
//   P_mn = w_m sum_f mask_f w_f phi_f(k_m) phi_f(q_n)   for keys m that query n sees,
//
// so features are formed for both sides and multiplied, F multiply-adds a pair where a score takes D. The denominator
// keeps all features and comes from scores.
#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "src/cpu/features.h"

#if defined(FASTMAX_CPU_MASKED_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FASTMAX_CPU_MASKED_INL_H_
#undef FASTMAX_CPU_MASKED_INL_H_
#else
#define FASTMAX_CPU_MASKED_INL_H_
#endif

#include "src/cpu/features-inl.h"
#include "src/cpu/product-inl.h"
#include "src/cpu/score-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

/// Two panels of tokens, one along rows and one along lanes. `value` are v or u, [E][kPanel].
template <class T>
struct PanelPair {
  const T* row_x;
  const T* row_value;
  std::size_t rows;
  const T* lane_x;
  const T* lane_value;
  std::size_t lanes;
};

/// A[row][lane], times the weight of each row if given, where the two see each other, else 0.
template <Lanes kLanesAre, class T>
HWY_INLINE void cut(const PanelPair<T>& pair, const T* row_weight, std::int64_t delta, T* A) {
  const Tag<T> d;
  for (std::size_t row = 0; row < pair.rows; ++row) {
    const auto w = hn::Set(d, row_weight ? row_weight[row] : T{1});
    for (std::size_t lane = 0; lane < pair.lanes; lane += kLanes<T>) {
      T* at = A + row * kPanel + lane;
      hn::StoreU(keep_visible<kLanesAre, T>(hn::Mul(w, hn::LoadU(d, at)), row, lane, delta), d, at);
    }
  }
}

/// P as above, [rows][kPanel]. S_rows and S_lanes are scratch for one block of features each.
template <Lanes kLanesAre, class T>
HWY_NOINLINE void masked_scores(const FeatureTable& table, const T* masked_weight,
                                const PanelPair<T>& pair, const T* row_weight, std::int64_t delta,
                                T* P, T* S_rows, T* S_lanes) {
  const Tag<T> d;
  const std::size_t vectors = divide_up(pair.lanes, kLanes<T>);
  NoVisitor<T> nothing;
  for (const FeatureBlock& block : table.blocks) {
    form(block, table.p, pair.rows, pair.row_x, static_cast<const T*>(nullptr), S_rows, nothing);
    form(block, table.p, pair.lanes, pair.lane_x, static_cast<const T*>(nullptr), S_lanes, nothing);
    for (std::size_t f = 0; f < block.count; ++f) {
      const auto w = hn::Set(d, masked_weight[block.first + f]);
      for (std::size_t z = 0; z < vectors; ++z) {
        T* at = S_lanes + f * kPanel + z * kLanes<T>;
        hn::StoreU(hn::Mul(w, hn::LoadU(d, at)), d, at);
      }
    }
    product<By::kColumn>(round_up(pair.rows, kRows), vectors, block.count, S_rows, kPanel, S_lanes,
                         kPanel, StoreOrAdd<T>{P, kPanel, block.first > 0});
  }
  cut<kLanesAre>(pair, row_weight, delta, P);
}

/// The gradient of the numerator with respect to the lanes' kappa: with A_rl = value_r . value_l of the pairs that see
/// each other, dX_l += J_phi(l)^T t, t_f = mask_f w_f sum_r phi_f(r) A_rl.
template <Lanes kLanesAre, class T>
HWY_NOINLINE void masked_gradient(const FeatureTable& table, const T* masked_weight,
                                  const PanelPair<T>& pair, std::size_t E, const T* row_weight,
                                  std::int64_t delta, T* dX, T* A, T* S_rows, T* t) {
  const std::size_t vectors = divide_up(pair.lanes, kLanes<T>);
  NoVisitor<T> nothing;
  product<By::kColumn>(round_up(pair.rows, kRows), vectors, E, pair.row_value, kPanel,
                       pair.lane_value, kPanel, StoreOrAdd<T>{A, kPanel, false});
  cut<kLanesAre>(pair, row_weight, delta, A);
  for (const FeatureBlock& block : table.blocks) {
    form(block, table.p, pair.rows, pair.row_x, static_cast<const T*>(nullptr), S_rows, nothing);
    std::fill_n(t, block.rows() * kPanel, T{0});
    product<By::kRow>(block.rows(), vectors, pair.rows, S_rows, kPanel, A, kPanel,
                      AddWeighted<T>{{t, kPanel, true}, masked_weight + block.first});
    contract(block, table.p, pair.lanes, pair.lane_x, t, dX);
  }
}

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // FASTMAX_CPU_MASKED_INL_H_
