// The factorised form, backward, from q, k, v, o and g alone.
//
//   u = d_o / g,  c = -u . o,  d~ = [u, c]                              t_f = M_f . u + y_f c
//   M_f  = w_f sum_m w_m phi_f(k_m) [v_m, 1]                            dq = J_phi(q)^T t
//   R_f  = w_f sum_n phi_f(q_n) d~_n                                    dk = w_m J_phi(k)^T (R v~)
//                                                                       dv = w_m R^T phi(k),
//                                                                       without its last entry
//
// Five passes over a state against forward's two: M and R are built, dq comes through M, dk and dv
// through R. Unmasked, each state is complete before it is read. Causal, dq needs the keys before
// it (a scan forwards with M), dk and dv the queries after (a scan backwards with R); inside a
// chunk the gradient is computed directly, dq in the first scan and dk, dv in the second. That
// repeats two small products and keeps nothing between scans.
#include "src/cpu/factorised_scratch.h"
#include "src/cpu/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/cpu/factorised_backward.cc"
#include "hwy/foreach_target.h"  // re-includes this file once per instruction set
#include "hwy/highway.h"
#include "src/cpu/direct-inl.h"
#include "src/cpu/factorised_gradient-inl.h"
#include "src/cpu/masked-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

template <class T>
class FactorisedBackward {
 public:
  using Shared = FactorisedBackwardShared<T>;
  using Worker = FactorisedBackwardWorker<T>;
  using Tokens = FactorisedGradientTokens<T>;

  FactorisedBackward(const BackwardCall<T>& call, const Team& team, std::byte* workspace)
      : call_(call), shape_(call, team.size()), panels_{call_, shape_}, workspace_(workspace) {}

  void run(const Team& team) const {
    run_groups<Shared, Worker>(
        shape_, team, workspace_,
        [&](std::size_t group, const Shared& shared, const auto& workers, const Team& inner) {
          const std::size_t b = group / shape_.Hkv, h = group % shape_.Hkv;
          shared.weight.fill(call_, shape_.table, b, h);
          load_state(call_, shape_, call_.initial_state.head(b, h), true, shared.M);
          load_state(call_, shape_, call_.args.d_final_state.head(b, h), false, shared.R);
          const std::size_t before =
              call_.causal ? static_cast<std::size_t>(shape_.offset) : shape_.M;
          join_keys_before(b, h, before, shared, workers, inner);
          if (call_.causal) {
            for (std::size_t first = 0; first < shape_.query_panels; first += shape_.span) {
              scan(Direction::kForwards, b, h, first, shared, workers, inner);
            }
            for (std::size_t first = round_up(shape_.query_panels, shape_.span); first > 0;) {
              first -= shape_.span;
              scan(Direction::kBackwards, b, h, first, shared, workers, inner);
            }
          } else {
            join_all_queries(b, h, shared, workers, inner);
            read_queries(b, h, shared, workers, inner);
          }
          read_keys(b, h, before, shared, workers, inner);
          if (const auto& out = call_.args.d_initial_state; out.data) {
            store_state(call_, shape_, shared.R, false, static_cast<std::size_t>(out.F),
                        out.head(b, h));
          }
        });
  }

 private:
  enum class Direction : unsigned char { kForwards, kBackwards };

  template <class WorkersOf>
  void join_keys_before(std::size_t b, std::size_t h, std::size_t tokens, const Shared& shared,
                        const WorkersOf& workers, const Team& team) const {
    const std::size_t slices = join_slices(team);
    team.for_each(slices, [&](std::size_t worker, std::size_t slice) {
      const Worker w = workers[worker];
      join_keys(call_, shape_, shared.M, b, h, tokens, shape_.slice_begin(slice, slices),
                shape_.slice_begin(slice + 1, slices), w.tokens.keys, w.S,
                /*phi=*/nullptr);
    });
  }

  template <class WorkersOf>
  void join_all_queries(std::size_t b, std::size_t h, const Shared& shared,
                        const WorkersOf& workers, const Team& team) const {
    const std::size_t slices = join_slices(team), panels = shape_.heads * shape_.query_panels;
    team.for_each(slices, [&](std::size_t worker, std::size_t slice) {
      const Worker w = workers[worker];
      for (std::size_t first = 0; first < panels; first += shape_.chunk) {
        const std::size_t count = std::min(shape_.chunk, panels - first);
        JoiningPanel<T> queries[kMaxChunk];
        for (std::size_t i = 0; i < count; ++i) {
          const std::size_t panel = first + i;
          queries[i] = panels_.pack_query(b, h * shape_.heads + panel / shape_.query_panels,
                                          panel % shape_.query_panels, w.tokens, i, w.dV);
        }
        for (std::size_t block = shape_.slice_begin(slice, slices);
             block < shape_.slice_begin(slice + 1, slices); ++block) {
          for (std::size_t i = 0; i < count; ++i) {
            join_state(shape_, shared.R, shape_.table.blocks[block], queries[i], w.S);
          }
        }
      }
    });
  }

  /// Unmasked: dq of every query through M.
  template <class WorkersOf>
  void read_queries(std::size_t b, std::size_t h, const Shared& shared, const WorkersOf& workers,
                    const Team& team) const {
    const std::size_t items = divide_up(shape_.query_panels, shape_.chunk);
    team.for_each(shape_.heads * items, [&](std::size_t worker, std::size_t item) {
      const Worker w = workers[worker];
      const std::size_t head = h * shape_.heads + item / items, first = item % items * shape_.chunk;
      const std::size_t count = std::min(shape_.chunk, shape_.query_panels - first);
      for (std::size_t i = 0; i < count; ++i)
        panels_.pack_query(b, head, first + i, w.tokens, i, w.dV);
      std::fill_n(w.dX, count * panels_.x_size(), T{0});
      for (std::size_t block = 0; block < shape_.table.blocks.size(); ++block) {
        for (std::size_t i = 0; i < count; ++i) {
          panels_.through_M(shared.M, shape_.table.blocks[block], w.tokens, i,
                            panel_tokens(shape_.N, first + i), w.dX + i * panels_.x_size(), w.S);
        }
      }
      for (std::size_t i = 0; i < count; ++i)
        panels_.write_dq(b, head, first + i, w.tokens, i, w.dX + i * panels_.x_size());
    });
  }

  /// dk and dv of the first `tokens` keys, which every query sees, through the complete R.
  template <class WorkersOf>
  void read_keys(std::size_t b, std::size_t h, std::size_t tokens, const Shared& shared,
                 const WorkersOf& workers, const Team& team) const {
    const std::size_t panels = divide_up(tokens, kPanel);
    team.for_each(divide_up(panels, shape_.chunk), [&](std::size_t worker, std::size_t item) {
      const Worker w = workers[worker];
      const std::size_t first = item * shape_.chunk, count = std::min(shape_.chunk, panels - first);
      for (std::size_t i = 0; i < count; ++i) {
        panels_.pack_key(b, h, (first + i) * kPanel, panel_tokens(tokens, first + i), w.tokens, i);
      }
      std::fill_n(w.dX, count * panels_.x_size(), T{0});
      std::fill_n(w.dV, count * panels_.v_size(), T{0});
      for (std::size_t block = 0; block < shape_.table.blocks.size(); ++block) {
        for (std::size_t i = 0; i < count; ++i) {
          panels_.through_R(shared.R, shape_.table.blocks[block], w.tokens, i,
                            panel_tokens(tokens, first + i), w.dX + i * panels_.x_size(),
                            w.dV + i * panels_.v_size(), w.S);
        }
      }
      for (std::size_t i = 0; i < count; ++i) {
        panels_.write_dk_dv(b, h, (first + i) * kPanel, panel_tokens(tokens, first + i), w.tokens,
                            i, w.dX + i * panels_.x_size(), w.dV + i * panels_.v_size());
      }
    });
  }

  /// Causal: the span of panels from `first`. Forwards: dq, and its keys join M. Backwards: dk and
  /// dv, and its queries join R.
  template <class WorkersOf>
  void scan(Direction direction, std::size_t b, std::size_t h, std::size_t first,
            const Shared& shared, const WorkersOf& workers, const Team& team) const {
    const std::size_t count = std::min(shape_.span, shape_.query_panels - first);
    JoiningPanel<T> keys[FactorisedShape::kSpan + kMaxChunk];
    team.for_each(count, [&](std::size_t worker, std::size_t i) {
      const Worker w = workers[worker];
      keys[i] =
          panels_.pack_key(b, h, static_cast<std::size_t>(shape_.offset) + (first + i) * kPanel,
                           panel_tokens(shape_.N, first + i), shared.tokens, i);
      for (std::size_t head = 0; head < shape_.heads; ++head) {
        panels_.pack_query(b, h * shape_.heads + head, first + i, shared.tokens,
                           head * shape_.span + i, w.dV);
      }
    });
    const std::size_t chunks = divide_up(count, shape_.chunk);
    for (std::size_t slice = 0; slice < shape_.slices; slice += shape_.at_once) {
      team.for_each(shape_.at_once, [&](std::size_t worker, std::size_t part) {
        const Worker w = workers[worker];
        for (std::size_t i = 0; i < chunks; ++i) {
          if (direction == Direction::kForwards) {
            queries_then_keys(slice + part, part, first, i * shape_.chunk, count, keys, shared,
                              w.S);
          } else {
            keys_then_queries(slice + part, part, first, (chunks - 1 - i) * shape_.chunk, count,
                              shared, w.S);
          }
        }
      });
      const bool last = slice + shape_.at_once == shape_.slices;
      if (direction == Direction::kForwards) {
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

  std::size_t join_slices(const Team& team) const {
    return std::min(shape_.table.blocks.size(), team.size() == 1 ? 1 : 2 * team.size());
  }
  T* dX(const Shared& shared, std::size_t part, std::size_t head, std::size_t panel) const {
    return shared.dX + ((part * shape_.heads + head) * shape_.span + panel) * panels_.x_size();
  }
  T* dV(const Shared& shared, std::size_t part, std::size_t panel) const {
    return shared.dV + (part * shape_.span + panel) * panels_.v_size();
  }

  const BackwardCall<T>& call_;
  const FactorisedShape shape_;
  const FactorisedGradient<T> panels_;
  std::byte* const workspace_;
};

FASTMAX_INSTANTIATE(factorised_backward, BackwardCall, FactorisedBackward)

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fastmax::cpu {
FASTMAX_DISPATCH(factorised_backward, BackwardCall)

template <class T>
std::size_t factorised_backward_bytes(const BackwardCall<T>& call, std::size_t threads) {
  return groups_workspace<FactorisedBackwardShared<T>, FactorisedBackwardWorker<T>>(
      FactorisedShape(call, threads), threads);
}
FASTMAX_WORKSPACE(factorised_backward, BackwardCall)
}  // namespace fastmax::cpu
#endif
