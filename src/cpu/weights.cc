// Rows of the attention matrix as it was applied, for looking at: a_nm = w_m f(s_nm) / g_n, with the dropout of the
// call in it.
#include <algorithm>
#include <cstdint>

#include "src/cpu/factorised_scratch.h"
#include "src/cpu/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/cpu/weights.cc"
#include "hwy/foreach_target.h"  // re-includes this file once per instruction set
#include "hwy/highway.h"
#include "src/cpu/masked-inl.h"
#include "src/cpu/output-inl.h"
#include "src/cpu/score-inl.h"
#include "src/cpu/tokens-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

template <class T>
class Weights {
 public:
  using Scratch = WeightsScratch<T>;

  Weights(const WeightsCall<T>& call, const Team&, std::byte* workspace)
      : call_(call), shape_(call), workspace_(workspace) {}

  void run(const Team& team) const {
    const std::size_t bytes = bytes_of<Scratch>(shape_);
    team.for_each(shape_.B * shape_.H, [&](std::size_t worker, std::size_t item) {
      Arena arena(workspace_ + worker * bytes);
      const Scratch scratch(arena, shape_);
      const std::size_t b = item / shape_.H, head = item % shape_.H;
      if (drops_features(call_.dropout))
        scratch.weight.fill(call_, shape_.table, b, head / shape_.heads);
      const auto count = static_cast<std::size_t>(call_.args.a.N);
      for (std::size_t i = 0; i < count;) {
        std::size_t n = 1;  // rows that follow each other share a panel
        while (n < kPanel && i + n < count && row(i + n) == row(i) + n) ++n;
        write_rows(b, head, i, n, scratch);
        i += n;
      }
    });
  }

 private:
  std::size_t row(std::size_t i) const {
    return call_.args.rows.empty() ? i : static_cast<std::size_t>(call_.args.rows[i]);
  }

  void write_rows(std::size_t b, std::size_t head, std::size_t first, std::size_t n,
                  const Scratch& s) const {
    const auto a = call_.args.a.head(static_cast<std::int64_t>(b), static_cast<std::int64_t>(head));
    const T* weight = call_.args.key_weight.row(static_cast<std::int64_t>(b));
    const std::size_t query = row(first);
    pack_queries(call_, shape_, b, head, query, n, s.query, static_cast<T*>(nullptr));
    std::fill_n(s.g, kPanel, T{0});
    for (std::size_t panel = 0; panel < shape_.key_panels; ++panel) {
      const std::size_t keys = panel_tokens(shape_.M, panel), from = panel * kPanel;
      pack_keys(call_, shape_, b, head / shape_.heads, from, keys, s.key, static_cast<T*>(nullptr));
      pack_weights(weight, from, keys, s.key_weight);
      const std::int64_t delta = call_.causal ? static_cast<std::int64_t>(from) - shape_.offset -
                                                    static_cast<std::int64_t>(query)
                                              : -static_cast<std::int64_t>(kPanel);
      std::fill_n(s.S, kPanel * kPanel, T{0});
      weigh<true, T>(call_.p, call_.score,
                     {round_up(keys, kRows), divide_up(n, kLanes<T>), shape_.K, s.key, s.query},
                     s.key_weight, delta, s.S, s.g);
      if (drops_features(call_.dropout)) {
        masked_scores<Lanes::kQueries>(shape_.table, s.weight.masked,
                                       {s.key, nullptr, keys, s.query, nullptr, n}, s.key_weight,
                                       delta, s.S, s.features, s.features + kPanel * kPanel);
      }
      for (std::size_t j = 0; j < n; ++j) {
        auto to = a[static_cast<std::int64_t>(first + j)];
        for (std::size_t m = 0; m < keys; ++m) to[from + m] = s.S[m * kPanel + j];
      }
    }
    for (std::size_t j = 0; j < n; ++j) {
      const auto leading = static_cast<T>(call_.score.leading);
      const T visible = call_.visible_weight(
          static_cast<std::int64_t>(b), static_cast<std::int64_t>(head / shape_.heads),
          static_cast<std::int64_t>(shape_.M), visible_keys(call_, shape_, query + j));
      const T denominator =
          call_.floored(leading * s.g[j], visible,
                        (b * shape_.H + head) * static_cast<std::size_t>(a.N) + first + j);
      const T factor = denominator > 0 ? leading / denominator : T{0};
      for (T& x : a[static_cast<std::int64_t>(first + j)]) x *= factor;
    }
  }

  const WeightsCall<T>& call_;
  const FactorisedShape shape_;
  std::byte* const workspace_;
};

FASTMAX_INSTANTIATE(attention_weights, WeightsCall, Weights)

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fastmax::cpu {
FASTMAX_DISPATCH(attention_weights, WeightsCall)

template <class T>
std::size_t attention_weights_bytes(const WeightsCall<T>& call, std::size_t threads) {
  return threads * bytes_of<WeightsScratch<T>>(FactorisedShape(call));
}
FASTMAX_WORKSPACE(attention_weights, WeightsCall)
}  // namespace fastmax::cpu
#endif
