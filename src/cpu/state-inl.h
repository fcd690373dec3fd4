// The state of the factorised form: tokens join it, queries read it, gradients come back through
// it. One block of features at a time, so that its rows of the state stay in cache while all panels
// of a chunk use them.
#include <algorithm>
#include <cstddef>
#include <type_traits>

#include "hwy/highway.h"
#include "src/cpu/amx.h"
#include "src/cpu/factorised_scratch.h"
#include "src/cpu/features.h"

#if defined(FASTMAX_CPU_STATE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FASTMAX_CPU_STATE_INL_H_
#undef FASTMAX_CPU_STATE_INL_H_
#else
#define FASTMAX_CPU_STATE_INL_H_
#endif

#include "src/cpu/features-inl.h"
#include "src/cpu/lanes-inl.h"
#include "src/cpu/product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

/// Scales between the caller's state, sums of bare monomials, and the kernel's, which has w_f / c_p on every row and
/// unit^p from the keys' side.
template <class T>
HWY_INLINE T unit_power(const Settings<T>& s) {
  T power = 1;
  for (int i = 0; i < s.p; ++i) power *= s.unit;
  return power;
}

/// M and y from S [features][E + 1], or zeros without one. `weighted`: rows get their weights and the keys' unit.
template <class T>
HWY_NOINLINE void load_state(const Settings<T>& s, const FactorisedShape& shape, const T* S,
                             bool weighted, const StateScratch<T>& state) {
  std::fill_n(state.M, shape.features * shape.value_stride, T{0});
  std::fill_n(state.y, shape.features, T{0});
  if (!S) return;
  const T power = weighted ? unit_power(s) : T{1};
  for (std::size_t f = 0; f < shape.table.count; ++f, S += shape.E + 1) {
    const T w = weighted ? state.weight[f] * power : T{1},
            w_v = weighted ? state.value_weight[f] * power : T{1};
    T* M = state.M + f * shape.value_stride;
    for (std::size_t e = 0; e < shape.E; ++e)
      M[e] = w_v * (state.mean ? S[e] - state.mean[e] * S[shape.E] : S[e]);
    state.y[f] = w * S[shape.E];
  }
}

/// The way back. Rows behind the table's, the features of the x''_0 that standardised tokens do not have, are zero.
template <class T>
HWY_NOINLINE void store_state(const Settings<T>& s, const FactorisedShape& shape,
                              const StateScratch<T>& state, bool weighted, std::size_t rows, T* S) {
  const T power = weighted ? T{1} / unit_power(s) : T{1};
  for (std::size_t f = 0; f < shape.table.count; ++f, S += shape.E + 1) {
    const T w = weighted ? power / state.weight[f] : T{1};
    const T* M = state.M + f * shape.value_stride;
    for (std::size_t e = 0; e < shape.E; ++e)
      S[e] = w * (state.mean ? M[e] + state.mean[e] * state.y[f] : M[e]);
    S[shape.E] = w * state.y[f];
  }
  std::fill_n(S, (rows - shape.table.count) * (shape.E + 1), T{0});
}

/// y_f += sign mean . M_f: what the last entry of a gradient's row gains when v becomes v - mean, for sign = 1.
template <class T>
HWY_NOINLINE void shear_state(const FactorisedShape& shape, const StateScratch<T>& state,
                              const T* mean, T sign) {
  if (!mean) return;
  for (std::size_t f = 0; f < shape.table.count; ++f) {
    const T* M = state.M + f * shape.value_stride;
    T sum = 0;
    for (std::size_t e = 0; e < shape.E; ++e) sum += mean[e] * M[e];
    state.y[f] += sign * sum;
  }
}

/// Tokens about to join a state.
template <class T>
struct JoiningPanel {
  const T* x;       ///< kappa [K][kPanel]
  std::size_t n;    ///< tokens
  const T* weight;  ///< of each token, zeros behind the last; nullptr: all ones
  const T* rows;    ///< values, [n][value_stride] or in place
  std::size_t ld;
  const T*
      last;  ///< the last entry of each token's v~, zeros behind the last token; nullptr: all ones
  const amx::Bits* tiles = nullptr;  ///< values less their mean, if the state is joined by tiles
};

/// M_f += w_f sum_n weight_n phi_f(n) v_n and y_f += w_f sum_n weight_n phi_f(n) last_n, for a
/// block of features.
template <class T>
HWY_NOINLINE void join_state(const FactorisedShape& shape, const StateScratch<T>& state,
                             const FeatureBlock& block, const JoiningPanel<T>& tokens, T* S) {
  SumOverTokens<T> ones(tokens.last, block.count);
  form(block, shape.table.p, tokens.n, tokens.x, tokens.weight, S, ones);
  ones.add_to(state.weight + block.first, state.y + block.first);
  product<By::kRow>(
      block.rows(), shape.value_stride / kLanes<T>, tokens.n, S, kPanel, tokens.rows, tokens.ld,
      AddWeighted<T>{{state.M + block.first * shape.value_stride, shape.value_stride, true},
                     state.value_weight + block.first});
}

/// ot (+)= M^T phi(n) and, if g is given, g += y . phi(n), over a block of features, for the n
/// tokens of a panel.
template <class T>
HWY_NOINLINE void read_state(const FactorisedShape& shape, const StateScratch<T>& state,
                             const FeatureBlock& block, const T* x, std::size_t n, bool add, T* ot,
                             T* g, T* S) {
  if (g) {
    DotWithState<T> denominator(state.y + block.first, g);
    form(block, shape.table.p, n, x, static_cast<const T*>(nullptr), S, denominator);
  } else {
    NoVisitor<T> nothing;
    form(block, shape.table.p, n, x, static_cast<const T*>(nullptr), S, nothing);
  }
  product<By::kColumn>(shape.channels, divide_up(n, kLanes<T>), block.count,
                       state.M + block.first * shape.value_stride, shape.value_stride, S, kPanel,
                       StoreOrAdd<T>{ot, kPanel, add});
}

/// Epilogue: starts at y_f last_n, stores.
template <class T>
struct StoreFromOuter : StoreOrAdd<T> {
  const T* y;
  const T* last;  ///< nullptr: all ones

  template <int R, int Z>
  HWY_INLINE void start(Vec<T> (&acc)[R][Z], std::size_t row, std::size_t column) const {
    const Tag<T> d;
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) {
      HWY_UNROLL(8)
      for (int z = 0; z < Z; ++z) {
        const auto y_f = hn::Set(d, y[row + r]);
        acc[r][z] = last ? hn::Mul(y_f, hn::LoadU(d, last + column + z * kLanes<T>)) : y_f;
      }
    }
  }
};

/// dX += J_phi(token)^T (M v~), over a block of features: t_f = M_f . v + y_f last, then the
/// product rule. `values` are [E][kPanel].
template <class T>
HWY_NOINLINE void gradient_through_state(const FactorisedShape& shape, const StateScratch<T>& state,
                                         const FeatureBlock& block, const T* x, std::size_t n,
                                         const T* values, const T* last, T* dX, T* S) {
  product<By::kRow>(block.rows(), divide_up(n, kLanes<T>), shape.E,
                    state.M + block.first * shape.value_stride, shape.value_stride, values, kPanel,
                    StoreFromOuter<T>{{S, kPanel, false}, state.y + block.first, last});
  contract(block, shape.table.p, n, x, S, dX);
}

/// The panels of a chunk join, blocks [begin, end) of the features. S and phi are scratch.
template <class T>
HWY_INLINE void join_panels(const FactorisedShape& shape, const StateScratch<T>& state,
                            std::size_t begin, std::size_t end, const JoiningPanel<T>* panels,
                            std::size_t count, T* S, amx::Bits* phi) {
  for (std::size_t i = begin; i < end; ++i) {
    const FeatureBlock& block = shape.table.blocks[i];
    if (!shape.tiles) {
      for (std::size_t panel = 0; panel < count; ++panel)
        join_state(shape, state, block, panels[panel], S);
    } else if constexpr (std::is_same_v<T, float>) {
      amx::Keys keys[kMaxChunk];
      for (std::size_t panel = 0; panel < count; ++panel)
        keys[panel] = {panels[panel].x, panels[panel].weight, panels[panel].tiles};
      amx::join(block, shape.table.p, keys, count, shape.E, state.weight + block.first,
                state.value_weight + block.first, state.M + block.first * shape.value_stride,
                shape.value_stride, state.y + block.first, phi);
    }
  }
}

/// M of blocks [begin, end) as the tiles that read_panel reads.
template <class T>
HWY_INLINE void pack_tiles(const FactorisedShape& shape, const StateScratch<T>& state,
                           std::size_t begin, std::size_t end) {
  if constexpr (std::is_same_v<T, float>) {
    for (std::size_t i = begin; shape.tiles && i < end; ++i) {
      const FeatureBlock& block = shape.table.blocks[i];
      amx::pack_state(state.M + block.first * shape.value_stride, shape.value_stride, block.count,
                      shape.E, state.tiles + i * amx::state_size(shape.E));
    }
  }
}

/// ot (+)= M^T phi(n) and g += y . phi(n) over blocks [begin, end), at most shape.step of them, for the n tokens of a
/// panel. With tiles, ot lacks add_mean's share.
template <class T>
HWY_INLINE void read_panel(const FactorisedShape& shape, const StateScratch<T>& state,
                           std::size_t begin, std::size_t end, const T* x, std::size_t n, bool add,
                           T* ot, T* g, T* S) {
  const FeatureBlock* blocks = shape.table.blocks.data() + begin;
  if (!shape.tiles) {
    read_state(shape, state, *blocks, x, n, add, ot, g, S);
  } else if constexpr (std::is_same_v<T, float>) {
    amx::read(blocks, end - begin, shape.table.p, x, state.tiles + begin * amx::state_size(shape.E),
              state.y + blocks->first, shape.E, add, ot, g);
  }
}

/// ot += mean g: what v - mean leaves out of a panel that has read the state.
template <class T>
HWY_INLINE void add_mean(const FactorisedShape& shape, const StateScratch<T>& state, const T* g,
                         T* ot) {
  const Tag<T> d;
  for (std::size_t e = 0; state.mean && e < shape.E; ++e, ot += kPanel) {
    const auto mean = hn::Set(d, state.mean[e]);
    for (std::size_t n = 0; n < kPanel; n += kLanes<T>)
      hn::StoreU(hn::MulAdd(mean, hn::LoadU(d, g + n), hn::LoadU(d, ot + n)), d, ot + n);
  }
}

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // FASTMAX_CPU_STATE_INL_H_
