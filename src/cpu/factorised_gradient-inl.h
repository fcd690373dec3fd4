// The gradient of the factorised form, panel by panel: what factorised_backward.cc says in what order.
#include <algorithm>
#include <cmath>
#include <cstddef>

#include "hwy/highway.h"
#include "src/cpu/factorised_scratch.h"

#if defined(FASTMAX_CPU_FACTORISED_GRADIENT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FASTMAX_CPU_FACTORISED_GRADIENT_INL_H_
#undef FASTMAX_CPU_FACTORISED_GRADIENT_INL_H_
#else
#define FASTMAX_CPU_FACTORISED_GRADIENT_INL_H_
#endif

#include "src/cpu/joining-inl.h"
#include "src/cpu/output-inl.h"
#include "src/cpu/state-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

template <class T>
struct FactorisedGradient {
  using Tokens = FactorisedGradientTokens<T>;

  const BackwardCall<T>& call;
  const FactorisedShape& shape;

  /// A vector near the values, to subtract from values and outputs: the mean output of the last queries, which see the most
  /// keys. It only rounds otherwise, so that causal gradients may know it. nullptr stays what it is.
  void take_mean(std::size_t b, std::size_t h, T* mean) const {
    if (!mean) return;
    const auto o = call.args.o.head(b, h * shape.heads);
    const T* g = call.args.g.head(b, h * shape.heads);
    std::fill_n(mean, shape.E, T{0});
    std::size_t count = 0;
    for (std::size_t n = shape.N - std::min(shape.N, kPanel); n < shape.N; ++n) {
      if (!(g[n] > 0)) continue;  // sees no key
      ++count;
      for (std::size_t e = 0; e < shape.E; ++e) mean[e] += o[n][e];
    }
    for (std::size_t e = 0; e < shape.E; ++e) {
      mean[e] /= static_cast<T>(count);
      if (!(std::abs(mean[e]) <= kMostMean<T>)) mean[e] = 0;
    }
  }

  /// kappa, u, c, 1/std of panel `panel` of one head into slot `slot`, u as rows too.
  JoiningPanel<T> pack_query(std::size_t b, std::size_t head, std::size_t panel, const T* mean,
                             const Tokens& to, std::size_t slot, T* scratch) const {
    const std::size_t n = panel_tokens(shape.N, panel), first = panel * kPanel;
    T* x = to.queries.x + slot * x_size();
    T* u = to.queries.u + slot * v_size();
    T* c = to.queries.c + slot * kPanel;
    T* rows = to.u_rows + slot * kPanel * shape.value_stride;
    pack_queries(call, shape, b, head, first, n, x, to.queries.inverse + slot * kPanel);
    pack_output_gradients(call, shape, b, head, first, n, mean, u, c, scratch);
    panel_to_rows(u, shape.channels, static_cast<const T*>(nullptr), n, rows, shape.value_stride);
    return {x, n, nullptr, rows, shape.value_stride, c};
  }
  JoiningPanel<T> pack_key(std::size_t b, std::size_t h, std::size_t first, std::size_t n,
                           const T* mean, const Tokens& to, std::size_t slot) const {
    const auto tokens = pack_joining(call, shape, b, h, first, n, mean, to.keys, slot);
    pack_plain(tokens.rows, tokens.ld, n, shape.E, to.values + slot * v_size(), shape.whole_panels);
    return tokens;
  }

  /// d_x += gradient of queries through M.
  void through_M(const StateScratch<T>& M, const FeatureBlock& block, const Tokens& tokens,
                 std::size_t slot, std::size_t n, T* d_x, T* S) const {
    gradient_through_state(shape, M, block, tokens.queries.x + slot * x_size(), n,
                           tokens.queries.u + slot * v_size(), tokens.queries.c + slot * kPanel,
                           d_x, S);
  }
  /// d_x and d_v += gradients of keys through R.
  void through_R(const StateScratch<T>& R, const FeatureBlock& block, const Tokens& tokens,
                 std::size_t slot, std::size_t n, T* d_x, T* d_v, T* S) const {
    const T* x = tokens.keys.x + slot * x_size();
    read_state(shape, R, block, x, n, true, d_v, static_cast<T*>(nullptr), S);
    gradient_through_state(shape, R, block, x, n, tokens.values + slot * v_size(),
                           static_cast<const T*>(nullptr), d_x, S);
  }

  void write_dq(std::size_t b, std::size_t head, std::size_t panel, const Tokens& tokens,
                std::size_t slot, T* d_x) const {
    write_query_gradients(call, shape, b, head, panel * kPanel, panel_tokens(shape.N, panel), d_x,
                          tokens.queries.x + slot * x_size(),
                          tokens.queries.inverse + slot * kPanel);
  }
  void write_dk_dv(std::size_t b, std::size_t h, std::size_t first, std::size_t n,
                   const Tokens& tokens, std::size_t slot, T* d_x, const T* d_v) const {
    write_key_gradients(call, shape, b, h, first, n, d_x, d_v, tokens.keys.x + slot * x_size(),
                        tokens.keys.inverse + slot * kPanel, tokens.keys.weight + slot * kPanel);
  }

  std::size_t x_size() const { return shape.dims * kPanel; }
  std::size_t v_size() const { return shape.channels * kPanel; }
};

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // FASTMAX_CPU_FACTORISED_GRADIENT_INL_H_
