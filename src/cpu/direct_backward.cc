// The direct form, backward: one pass, keys outer, five products a tile.
//
//   u = d_o / g,  c = -u . o                            e_nm = u_n . v_m + c_n
//   lanes = keys, rows = queries:
//   T  [64 queries][64 keys]  = 1 + s                   K multiply-adds an element
//   dS = f'(s) e,  F = f(s)                             E, the epilogue in registers
//   dK^T[K][64 keys]         += kappa_q^T dS
//   dV^T[E][64 keys]         += u^T F
//   dQ  [64 queries][K]      += dS kappa_k              the only product with dims across lanes
//
// Keys outer, because then one array of length N is streamed (dQ) and not two. Up to four panels of keys
// share a pass over the queries, or dQ would come from memory too often at D = 128.
#include "src/cpu/direct_scratch.h"
#include "src/cpu/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/cpu/direct_backward.cc"
#include "hwy/foreach_target.h"  // re-includes this file once per instruction set
#include "hwy/highway.h"
#include "src/cpu/direct-inl.h"
#include "src/cpu/output-inl.h"
#include "src/cpu/tokens-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

template <class T>
class DirectBackward {
 public:
  using Shared = DirectBackwardShared<T>;
  using Worker = DirectBackwardWorker<T>;

  DirectBackward(const BackwardCall<T>& call, const Team&, std::byte* workspace)
      : call_(call), shape_(call), ld_(padded<T>(shape_.K)), workspace_(workspace) {}

  void run(const Team& team) const {
    run_groups<Shared, Worker>(
        shape_, team, workspace_,
        [&](std::size_t group, const Shared& shared, const auto& workers, const Team& inner) {
          const std::size_t b = group / shape_.Hkv, h = group % shape_.Hkv;
          const std::size_t panels = shape_.heads * shape_.query_panels;
          inner.for_each(panels, [&](std::size_t worker, std::size_t panel) {
            prepare_queries(b, h, panel, shared, workers[worker]);
          });
          const std::size_t parts = gradient_parts(shape_), block = key_block(shape_),
                            blocks = key_blocks(shape_);
          inner.for_each(parts, [&](std::size_t worker, std::size_t part) {
            T* dq = shared.dq + part * gradient_part_size<T>(shape_);
            const std::size_t begin = blocks * part / parts, end = blocks * (part + 1) / parts;
            for (std::size_t i = begin; i < end; ++i) {
              const std::size_t first = i * block;
              attend(b, h, first, std::min(block, shape_.key_panels - first), shared, dq, i > begin,
                     workers[worker]);
            }
          });
          inner.for_each(panels, [&](std::size_t worker, std::size_t panel) {
            write_dq(b, h, panel, shared, workers[worker]);
          });
        });
  }

 private:
  GradientPanel<T> query_panel(const Shared& shared, std::size_t panel) const {
    return {shared.x + panel * shape_.dims * kPanel, shared.u + panel * shape_.channels * kPanel,
            panel_tokens(shape_.N, panel % shape_.query_panels)};
  }

  void prepare_queries(std::size_t b, std::size_t key_head, std::size_t panel, const Shared& shared,
                       const Worker& w) const {
    const std::size_t head = key_head * shape_.heads + panel / shape_.query_panels;
    const std::size_t i = panel % shape_.query_panels, first = i * kPanel,
                      n = panel_tokens(shape_.N, i);
    pack_queries(call_, shape_, b, head, first, n, shared.x + panel * shape_.dims * kPanel,
                 shared.inverse + panel * kPanel);
    pack_output_gradients(call_, shape_, b, head, first, n, static_cast<const T*>(nullptr),
                          shared.u + panel * shape_.channels * kPanel, shared.c + panel * kPanel,
                          w.dV);
  }

  /// `panels` panels of keys from panel `first` against all queries that see them; dq is written, or added to.
  void attend(std::size_t b, std::size_t key_head, std::size_t first, std::size_t panels,
              const Shared& shared, T* dq, bool add, const Worker& w) const {
    const auto v = call_.args.v.head(b, key_head);
    const std::size_t x_size = shape_.dims * kPanel, v_size = shape_.channels * kPanel;
    for (std::size_t i = 0; i < panels; ++i) {
      const std::size_t from = (first + i) * kPanel, n = panel_tokens(shape_.M, first + i);
      pack_keys(call_, shape_, b, key_head, from, n, w.keys + i * x_size, w.inverse + i * kPanel);
      pack_plain(v[from].data(), v.stride, n, shape_.E, w.values + i * v_size);
      pack_weights(call_.args.key_weight.row(b), from, n, w.weight + i * kPanel);
      panel_to_rows(w.keys + i * x_size, shape_.dims, w.weight + i * kPanel, n,
                    w.rows + i * kPanel * ld_, ld_);
    }
    bool seen[kKeyPanels] = {};  // by an earlier panel of queries; the last one sees every key

    for (std::size_t panel = 0; panel < shape_.heads * shape_.query_panels; ++panel) {
      const auto q = query_panel(shared, panel);
      const std::size_t q_from = panel % shape_.query_panels * kPanel;
      bool written = add;
      for (std::size_t i = 0; i < panels; ++i) {
        const GradientPanel<T> keys{w.keys + i * x_size, w.values + i * v_size,
                                    panel_tokens(shape_.M, first + i)};
        // Row n sees lane m if m <= n + delta.
        const auto delta = call_.causal ? static_cast<std::int64_t>(q_from) + shape_.offset -
                                              static_cast<std::int64_t>((first + i) * kPanel)
                                        : static_cast<std::int64_t>(kPanel);
        if (delta + static_cast<std::int64_t>(q.n) <= 0) continue;
        backward_keys(call_, q, shared.c + panel * kPanel, keys, shape_.K, shape_.E, delta, seen[i],
                      w.F, w.dS, w.dX + i * x_size, w.dV + i * v_size);
        seen[i] = true;
        product<By::kRow>(round_up(q.n, kRows), ld_ / kLanes<T>, keys.n, w.dS, kPanel,
                          w.rows + i * kPanel * ld_, ld_,
                          StoreOrAdd<T>{dq + panel * kPanel * ld_, ld_, written});
        written = true;
      }
      if (!written) std::fill_n(dq + panel * kPanel * ld_, round_up(q.n, kRows) * ld_, T{0});
    }
    for (std::size_t i = 0; i < panels; ++i) {
      const std::size_t from = (first + i) * kPanel, n = panel_tokens(shape_.M, first + i);
      write_key_gradients(call_, shape_, b, key_head, from, n, w.dX + i * x_size, w.dV + i * v_size,
                          w.keys + i * x_size, w.inverse + i * kPanel, w.weight + i * kPanel);
    }
  }

  void write_dq(std::size_t b, std::size_t key_head, std::size_t panel, const Shared& shared,
                const Worker& w) const {
    const std::size_t head = key_head * shape_.heads + panel / shape_.query_panels;
    const std::size_t i = panel % shape_.query_panels, first = i * kPanel,
                      n = panel_tokens(shape_.N, i);
    T* sum = shared.dq + panel * kPanel * ld_;
    const std::size_t size = gradient_part_size<T>(shape_);
    add_parts(sum, sum + size, size, gradient_parts(shape_) - 1, n * ld_);
    pack_plain(sum, ld_, n, shape_.K, w.dX);
    write_query_gradients(call_, shape_, b, head, first, n, w.dX,
                          shared.x + panel * shape_.dims * kPanel, shared.inverse + panel * kPanel);
  }

  const BackwardCall<T>& call_;
  const Geometry shape_;
  const std::size_t ld_;
  std::byte* const workspace_;
};

FASTMAX_INSTANTIATE(direct_backward, BackwardCall, DirectBackward)

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fastmax::cpu {
FASTMAX_DISPATCH(direct_backward, BackwardCall)

template <class T>
std::size_t direct_backward_bytes(const BackwardCall<T>& call, std::size_t threads) {
  return groups_workspace<DirectBackwardShared<T>, DirectBackwardWorker<T>>(Geometry(call),
                                                                            threads);
}
FASTMAX_WORKSPACE(direct_backward, BackwardCall)
}  // namespace fastmax::cpu
#endif
