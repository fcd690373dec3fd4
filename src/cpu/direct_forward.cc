// The direct form, forward: o = f(Q K^T) V / f(Q K^T) 1, tile by tile, as flash attention with a
// polynomial where softmax has an exponential. No running maximum is needed, so a tile is finished
// when it is computed.
//
//   lanes = queries, rows = keys:
//   S^T[64 keys][64 queries] = f(kappa_k kappa_q^T)     K multiply-adds an element, f in registers
//   O^T[E][64 queries]      += V^T S^T                  V read by column, as it lies
//
// Four panels of queries share one pass over the keys: at D = 128 and long N keys and values no
// longer fit L2, and reading them once a panel made the kernel slower than softmax.
#include "src/cpu/direct_scratch.h"
#include "src/cpu/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/cpu/direct_forward.cc"
#include "hwy/foreach_target.h"  // re-includes this file once per instruction set
#include "hwy/highway.h"
#include "src/cpu/direct-inl.h"
#include "src/cpu/output-inl.h"
#include "src/cpu/tokens-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

template <class T>
class DirectForward {
 public:
  using Shared = DirectForwardShared<T>;
  using Worker = DirectForwardWorker<T>;

  DirectForward(const ForwardCall<T>& call, const Team&, std::byte* workspace)
      : call_(call), shape_(call), workspace_(workspace) {}

  void run(const Team& team) const {
    run_groups<Shared, Worker>(
        shape_, team, workspace_,
        [&](std::size_t group, const Shared& shared, const auto& workers, const Team& inner) {
          const std::size_t b = group / shape_.Hkv, h = group % shape_.Hkv;
          inner.for_each(shape_.key_panels, [&](std::size_t, std::size_t panel) {
            prepare_keys(b, h, panel, shared);
          });
          // Few panels an item when there are few items, so that every thread has work. The last queries first: where
          // causal they see most keys, and threads that end with short items end together.
          const std::size_t panels = std::clamp<std::size_t>(
              shape_.heads * shape_.query_panels / (2 * inner.size()), 1, kQueryPanels);
          const std::size_t items = divide_up(shape_.query_panels, panels);
          inner.for_each(shape_.heads * items, [&](std::size_t worker, std::size_t item) {
            const std::size_t first = (items - 1 - item % items) * panels;
            attend(b, h, h * shape_.heads + item / items, first,
                   std::min(panels, shape_.query_panels - first), shared, workers[worker]);
          });
        });
  }

 private:
  T* keys(const Shared& shared, std::size_t panel) const {
    return shared.keys + panel * shape_.dims * kPanel;
  }

  void prepare_keys(std::size_t b, std::size_t h, std::size_t panel, const Shared& shared) const {
    const std::size_t n = panel_tokens(shape_.M, panel), first = panel * kPanel;
    pack_keys(call_, shape_, b, h, first, n, keys(shared, panel), static_cast<T*>(nullptr));
    if (!values_in_place<T>(shape_)) {
      const auto v = call_.args.v.head(b, h);
      const std::size_t ld = padded<T>(shape_.E);
      pad_rows(v[first].data(), v.stride, n, shape_.E, shared.values + first * ld, ld);
    }
    if (panel + 1 == shape_.key_panels) {
      pack_weights(call_.args.key_weight.row(b), first, n, shared.tail_weight);
    }
  }

  KeyPanel<T> key_panel(std::size_t b, std::size_t h, std::size_t panel,
                        const Shared& shared) const {
    KeyPanel<T> k{.x = keys(shared, panel),
                  .n = panel_tokens(shape_.M, panel),
                  .v = {},
                  .ldv = {},
                  .key_weight = {}};
    const std::size_t first = panel * kPanel;
    if (values_in_place<T>(shape_)) {
      const auto v = call_.args.v.head(b, h);
      k.v = v[first].data();
      k.ldv = v.stride;
    } else {
      k.ldv = padded<T>(shape_.E);
      k.v = shared.values + first * k.ldv;
    }
    const T* weight = call_.args.key_weight.row(b);
    // Rows of the product behind the last key must weigh nothing.
    if (k.n % kRows != 0 || (weight && panel + 1 == shape_.key_panels)) {
      k.key_weight = shared.tail_weight;
    } else if (weight) {
      k.key_weight = weight + first;
    }
    return k;
  }

  /// `panels` panels of queries of one head, from panel `first`, against all keys that they see.
  void attend(std::size_t b, std::size_t key_head, std::size_t head, std::size_t first,
              std::size_t panels, const Shared& shared, const Worker& w) const {
    QueryPanel<T> query[kQueryPanels];
    for (std::size_t i = 0; i < panels; ++i) {
      T* x = w.queries + i * shape_.dims * kPanel;
      query[i] = {x, panel_tokens(shape_.N, first + i), w.ot + i * shape_.channels * kPanel,
                  w.g + i * kPanel};
      pack_queries(call_, shape_, b, head, (first + i) * kPanel, query[i].n, x,
                   static_cast<T*>(nullptr));
      std::fill_n(query[i].g, kPanel, T{0});
    }
    for (std::size_t panel = 0; panel < shape_.key_panels; ++panel) {
      const auto k = key_panel(b, key_head, panel, shared);
      for (std::size_t i = 0; i < panels; ++i) {
        // Lane l sees row m if l >= m + delta.
        const auto delta = call_.causal
                               ? static_cast<std::int64_t>(panel * kPanel) - shape_.offset -
                                     static_cast<std::int64_t>((first + i) * kPanel)
                               : -static_cast<std::int64_t>(kPanel);
        if (delta >= static_cast<std::int64_t>(query[i].n)) continue;
        forward_block(call_, query[i], k, shape_.K, shape_.E, delta, panel > 0, w.S);
      }
    }
    for (std::size_t i = 0; i < panels; ++i) {
      write_outputs(call_, shape_, b, head, query[i].ot, query[i].g, (first + i) * kPanel,
                    query[i].n);
    }
  }

  const ForwardCall<T>& call_;
  const Geometry shape_;
  std::byte* const workspace_;
};

FASTMAX_INSTANTIATE(direct_forward, ForwardCall, DirectForward)

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fastmax::cpu {
FASTMAX_DISPATCH(direct_forward, ForwardCall)

template <class T>
std::size_t direct_forward_bytes(const ForwardCall<T>& call, std::size_t threads) {
  return groups_workspace<DirectForwardShared<T>, DirectForwardWorker<T>>(Geometry(call), threads);
}
FASTMAX_WORKSPACE(direct_forward, ForwardCall)
}  // namespace fastmax::cpu
#endif
