// The causal gradient of the factorised form, span by span of panels.
//
//   forwards    dq_n through M of the keys before its chunk, whose own keys then join
//   backwards   dk_m and dv_m through R of the queries after its chunk, whose own queries then join
//
// Inside a chunk the gradient is computed directly, dq in the first scan and dk, dv in the second. That repeats two
// small products and keeps nothing between scans.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "src/cpu/factorised_scratch.h"

#if defined(FASTMAX_CPU_FACTORISED_GRADIENT_SCAN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FASTMAX_CPU_FACTORISED_GRADIENT_SCAN_INL_H_
#undef FASTMAX_CPU_FACTORISED_GRADIENT_SCAN_INL_H_
#else
#define FASTMAX_CPU_FACTORISED_GRADIENT_SCAN_INL_H_
#endif

#include "src/cpu/direct-inl.h"
#include "src/cpu/factorised_gradient-inl.h"
#include "src/cpu/masked-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

enum class ScanDirection : unsigned char { kForwards, kBackwards };

template <class T>
class GradientScan {
 public:
  using Shared = FactorisedBackwardShared<T>;
  using Worker = FactorisedBackwardWorker<T>;

  GradientScan(const BackwardCall<T>& call, const FactorisedShape& shape,
               const FactorisedGradient<T>& panels)
      : call_(call), shape_(shape), panels_(panels) {}

  /// The span of panels from `first`. Forwards: dq, and its keys join M. Backwards: dk and dv, and its queries join R.
  template <class WorkersOf>
  void run(ScanDirection direction, std::size_t b, std::size_t h, std::size_t first,
           const Shared& shared, const WorkersOf& workers, const Team& team) const {
    const std::size_t count = std::min(shape_.span, shape_.query_panels - first);
    JoiningPanel<T> keys[FactorisedShape::kSpan + kMaxChunk];
    team.for_each(count, [&](std::size_t worker, std::size_t i) {
      const Worker w = workers[worker];
      keys[i] =
          panels_.pack_key(b, h, static_cast<std::size_t>(shape_.offset) + (first + i) * kPanel,
                           panel_tokens(shape_.N, first + i), shared.M.mean, shared.tokens, i);
      for (std::size_t head = 0; head < shape_.heads; ++head) {
        panels_.pack_query(b, h * shape_.heads + head, first + i, shared.M.mean, shared.tokens,
                           head * shape_.span + i, w.dV);
      }
    });
    const std::size_t chunks = divide_up(count, shape_.chunk);
    for (std::size_t slice = 0; slice < shape_.slices; slice += shape_.at_once) {
      team.for_each(shape_.at_once, [&](std::size_t worker, std::size_t part) {
        const Worker w = workers[worker];
        for (std::size_t i = 0; i < chunks; ++i) {
          if (direction == ScanDirection::kForwards) {
            queries_then_keys(slice + part, part, first, i * shape_.chunk, count, keys, shared,
                              w.S);
          } else {
            keys_then_queries(slice + part, part, first, (chunks - 1 - i) * shape_.chunk, count,
                              shared, w.S);
          }
        }
      });
      const bool last = slice + shape_.at_once == shape_.slices;
      if (direction == ScanDirection::kForwards) {
        team.for_each(shape_.heads * count, [&](std::size_t worker, std::size_t item) {
          const std::size_t head = item / count, i = item % count;
          if (slice == 0) start_queries(first, head, i, keys, shared, workers[worker]);
          add_query_slices(first, head, i, shared);
          if (last) {
            panels_.write_dq(b, h * shape_.heads + head, first + i, shared.tokens,
                             head * shape_.span + i, dX(shared, shape_.at_once, head, i));
          }
        });
      } else {
        team.for_each(count, [&](std::size_t worker, std::size_t i) {
          if (slice == 0) start_keys(first, i, count, shared, workers[worker]);
          add_key_slices(first, i, shared);
          if (last) {
            panels_.write_dk_dv(b, h,
                                static_cast<std::size_t>(shape_.offset) + (first + i) * kPanel,
                                panel_tokens(shape_.N, first + i), shared.tokens, i,
                                dX(shared, shape_.at_once, 0, i), dV(shared, shape_.at_once, i));
          }
        });
      }
    }
  }

 private:
  bool has_past(std::size_t panel) const {
    return shape_.offset > 0 || panel >= shape_.chunk || call_.initial_state.data;
  }
  bool has_future(std::size_t chunk_begin) const {
    return chunk_begin + shape_.chunk < shape_.query_panels || call_.args.d_final_state.data;
  }

  void queries_then_keys(std::size_t slice, std::size_t part, std::size_t first, std::size_t chunk,
                         std::size_t count, const JoiningPanel<T>* keys, const Shared& shared,
                         T* S) const {
    const std::size_t end = std::min(chunk + shape_.chunk, count);
    const bool past = has_past(first + chunk), future = has_future(first + chunk);
    for (std::size_t head = 0; past && head < shape_.heads; ++head) {
      std::fill_n(dX(shared, part, head, chunk), (end - chunk) * panels_.x_size(), T{0});
    }
    for (std::size_t block = shape_.slice_begin(slice, shape_.slices);
         block < shape_.slice_begin(slice + 1, shape_.slices); ++block) {
      for (std::size_t head = 0; past && head < shape_.heads; ++head) {
        for (std::size_t i = chunk; i < end; ++i) {
          panels_.through_M(shared.M, shape_.table.blocks[block], shared.tokens,
                            head * shape_.span + i, panel_tokens(shape_.N, first + i),
                            dX(shared, part, head, i), S);
        }
      }
      for (std::size_t i = chunk; future && i < end; ++i) {
        join_state(shape_, shared.M, shape_.table.blocks[block], keys[i], S);
      }
    }
  }

  void keys_then_queries(std::size_t slice, std::size_t part, std::size_t first, std::size_t chunk,
                         std::size_t count, const Shared& shared, T* S) const {
    const std::size_t end = std::min(chunk + shape_.chunk, count);
    // R is read before this chunk's queries join it, or handed out.
    const bool joins = has_past(first + chunk) || call_.args.d_initial_state.data;
    const bool future = has_future(first + chunk);
    if (future) {
      std::fill_n(dX(shared, part, 0, chunk), (end - chunk) * panels_.x_size(), T{0});
      std::fill_n(dV(shared, part, chunk), (end - chunk) * panels_.v_size(), T{0});
    }
    for (std::size_t block = shape_.slice_begin(slice, shape_.slices);
         block < shape_.slice_begin(slice + 1, shape_.slices); ++block) {
      for (std::size_t i = chunk; future && i < end; ++i) {
        panels_.through_R(shared.R, shape_.table.blocks[block], shared.tokens, i,
                          panel_tokens(shape_.N, first + i), dX(shared, part, 0, i),
                          dV(shared, part, i), S);
      }
      for (std::size_t head = 0; joins && head < shape_.heads; ++head) {
        for (std::size_t i = chunk; i < end; ++i) {
          const std::size_t slot = head * shape_.span + i;
          join_state(
              shape_, shared.R, shape_.table.blocks[block],
              {shared.tokens.queries.x + slot * panels_.x_size(), panel_tokens(shape_.N, first + i),
               nullptr, shared.tokens.u_rows + slot * kPanel * shape_.value_stride,
               shape_.value_stride, shared.tokens.queries.c + slot * kPanel},
              S);
        }
      }
    }
  }

  /// dq of one panel from the keys of its own chunk, directly.
  void start_queries(std::size_t first, std::size_t head, std::size_t panel,
                     const JoiningPanel<T>* keys, const Shared& shared, const Worker& w) const {
    const std::size_t slot = head * shape_.span + panel,
                      chunk = panel / shape_.chunk * shape_.chunk;
    T* const d_x = dX(shared, shape_.at_once, head, panel);
    std::fill_n(d_x, panels_.x_size(), T{0});
    for (std::size_t i = chunk; i <= panel; ++i) {
      const auto delta = (static_cast<std::int64_t>(i) - static_cast<std::int64_t>(panel)) *
                         static_cast<std::int64_t>(kPanel);
      const auto q = query_panel(first, panel, slot, shared), k = key_panel(first, i, shared);
      backward_queries(call_, q, shared.tokens.queries.c + slot * kPanel, k, keys[i].weight,
                       shape_.K, score_channels(), delta, w.F, w.S, d_x);
      if (shape_.drops_features) {
        masked_gradient<Lanes::kQueries>(
            shape_.table, shared.weight.masked, {k.x, k.value, k.n, q.x, q.value, q.n}, shape_.E,
            keys[i].weight, delta, d_x, w.F, w.features, w.features + kPanel * kPanel);
      }
    }
  }
  void add_query_slices(std::size_t first, std::size_t head, std::size_t panel,
                        const Shared& shared) const {
    if (!has_past(first + panel / shape_.chunk * shape_.chunk)) return;
    add_parts(dX(shared, shape_.at_once, head, panel), dX(shared, 0, head, panel),
              shape_.heads * shape_.span * panels_.x_size(), shape_.at_once, panels_.x_size());
  }

  /// dk and dv of one panel from the queries of its own chunk, directly.
  void start_keys(std::size_t first, std::size_t panel, std::size_t count, const Shared& shared,
                  const Worker& w) const {
    const std::size_t end = std::min(panel / shape_.chunk * shape_.chunk + shape_.chunk, count);
    T* const d_x = dX(shared, shape_.at_once, 0, panel);
    T* const d_v = dV(shared, shape_.at_once, panel);
    std::fill_n(d_x, panels_.x_size(), T{0});
    std::fill_n(d_v, panels_.v_size(), T{0});
    for (std::size_t head = 0; head < shape_.heads; ++head) {
      for (std::size_t i = panel; i < end; ++i) {
        const std::size_t slot = head * shape_.span + i;
        const auto delta = (static_cast<std::int64_t>(i) - static_cast<std::int64_t>(panel)) *
                           static_cast<std::int64_t>(kPanel);
        const auto q = query_panel(first, i, slot, shared), k = key_panel(first, panel, shared);
        backward_keys(call_, q, shared.tokens.queries.c + slot * kPanel, k, shape_.K,
                      score_channels(), delta, true, w.F, w.S, d_x, d_v);
        if (shape_.drops_features) masked_keys(q, k, delta, shared, w, d_x, d_v);
      }
    }
  }
  void add_key_slices(std::size_t first, std::size_t panel, const Shared& shared) const {
    if (!has_future(first + panel / shape_.chunk * shape_.chunk)) return;
    add_parts(dX(shared, shape_.at_once, 0, panel), dX(shared, 0, 0, panel),
              shape_.heads * shape_.span * panels_.x_size(), shape_.at_once, panels_.x_size());
    add_parts(dV(shared, shape_.at_once, panel), dV(shared, 0, panel),
              shape_.span * panels_.v_size(), shape_.at_once, panels_.v_size());
  }

  /// Channels of e = d~ . v~ that scores carry: none where the numerator is made of features, and c remains.
  std::size_t score_channels() const { return shape_.drops_features ? 0 : shape_.E; }

  void masked_keys(const GradientPanel<T>& q, const GradientPanel<T>& k, std::int64_t delta,
                   const Shared& shared, const Worker& w, T* d_x, T* d_v) const {
    const PanelPair<T> pair{q.x, q.value, q.n, k.x, k.value, k.n};
    T* more = w.features + kPanel * kPanel;
    masked_gradient<Lanes::kKeys>(shape_.table, shared.weight.masked, pair, shape_.E,
                                  static_cast<const T*>(nullptr), delta, d_x, w.F, w.features,
                                  more);
    masked_scores<Lanes::kKeys>(shape_.table, shared.weight.masked, pair,
                                static_cast<const T*>(nullptr), delta, w.F, w.features, more);
    product<By::kRow>(shape_.channels, divide_up(k.n, kLanes<T>), q.n, q.value, kPanel, w.F, kPanel,
                      StoreOrAdd<T>{d_v, kPanel, true});
  }

  GradientPanel<T> query_panel(std::size_t first, std::size_t panel, std::size_t slot,
                               const Shared& shared) const {
    return {shared.tokens.queries.x + slot * panels_.x_size(),
            shared.tokens.queries.u + slot * panels_.v_size(),
            panel_tokens(shape_.N, first + panel)};
  }
  GradientPanel<T> key_panel(std::size_t first, std::size_t panel, const Shared& shared) const {
    return {shared.tokens.keys.x + panel * panels_.x_size(),
            shared.tokens.values + panel * panels_.v_size(), panel_tokens(shape_.N, first + panel)};
  }

  T* dX(const Shared& shared, std::size_t part, std::size_t head, std::size_t panel) const {
    return shared.dX + ((part * shape_.heads + head) * shape_.span + panel) * panels_.x_size();
  }
  T* dV(const Shared& shared, std::size_t part, std::size_t panel) const {
    return shared.dV + (part * shape_.span + panel) * panels_.v_size();
  }

  const BackwardCall<T>& call_;
  const FactorisedShape& shape_;
  const FactorisedGradient<T>& panels_;
};

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // FASTMAX_CPU_FACTORISED_GRADIENT_SCAN_INL_H_
