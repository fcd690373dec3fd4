// The factorised form, backward, from q, k, v, o and g alone.
//
//   u = d_o / g,  c = -u . o,  d~ = [u, c]                              t_f = M_f . u + y_f c
//   M_f  = w_f sum_m w_m phi_f(k_m) [v_m, 1]                            dq = J_phi(q)^T t
//   R_f  = w_f sum_n phi_f(q_n) d~_n                                    dk = w_m J_phi(k)^T (R v~)
//                                                                       dv = w_m R^T phi(k),
//                                                                       without its last entry
//
// v and o lose one vector m first, which changes no gradient: u . (v - m) + c with c = -u . (o - m) is u . v + c with
// c = -u . o, but sums of small numbers round less. A state that comes in or goes out has v, so M_f loses y_f m, and
// R_f, a gradient with respect to [v, 1], gains R_f . m in its last entry on the way in and gives it back on the way out.
//
// Five passes over a state against forward's two: M and R are built, dq comes through M, dk and dv
// through R. Unmasked, each state is complete before it is read. Causal, dq needs the keys before
// it (a scan forwards with M), dk and dv the queries after (a scan backwards with R).
#include "src/cpu/factorised_scratch.h"
#include "src/cpu/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/cpu/factorised_backward.cc"
#include "hwy/foreach_target.h"  // re-includes this file once per instruction set
#include "hwy/highway.h"
#include "src/cpu/factorised_gradient-inl.h"
#include "src/cpu/factorised_gradient_scan-inl.h"

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
          panels_.take_mean(b, h, shared.M.mean);
          load_state(call_, shape_, call_.initial_state.head(b, h), true, shared.M);
          load_state(call_, shape_, call_.args.d_final_state.head(b, h), false, shared.R);
          if (call_.args.d_final_state.data) shear_state(shape_, shared.R, shared.M.mean, T{1});
          const std::size_t before =
              call_.causal ? static_cast<std::size_t>(shape_.offset) : shape_.M;
          join_keys_before(b, h, before, shared, workers, inner);
          if (call_.causal) {
            const GradientScan<T> scan{call_, shape_, panels_};
            for (std::size_t first = 0; first < shape_.query_panels; first += shape_.span) {
              scan.run(ScanDirection::kForwards, b, h, first, shared, workers, inner);
            }
            for (std::size_t first = round_up(shape_.query_panels, shape_.span); first > 0;) {
              first -= shape_.span;
              scan.run(ScanDirection::kBackwards, b, h, first, shared, workers, inner);
            }
          } else {
            join_all_queries(b, h, shared, workers, inner);
            read_queries(b, h, shared, workers, inner);
          }
          read_keys(b, h, before, shared, workers, inner);
          if (const auto& out = call_.args.d_initial_state; out.data) {
            shear_state(shape_, shared.R, shared.M.mean, T{-1});
            store_state(call_, shape_, shared.R, false, static_cast<std::size_t>(out.F),
                        out.head(b, h));
          }
        });
  }

 private:
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
          queries[i] =
              panels_.pack_query(b, h * shape_.heads + panel / shape_.query_panels,
                                 panel % shape_.query_panels, shared.M.mean, w.tokens, i, w.dV);
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
        panels_.pack_query(b, head, first + i, shared.M.mean, w.tokens, i, w.dV);
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
        panels_.pack_key(b, h, (first + i) * kPanel, panel_tokens(tokens, first + i), shared.M.mean,
                         w.tokens, i);
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

  std::size_t join_slices(const Team& team) const {
    return std::min(shape_.table.blocks.size(), team.size() == 1 ? 1 : 2 * team.size());
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
