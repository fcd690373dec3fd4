// The factorised form, forward: every token's features meet one state, in time linear in the tokens.
//
//   M_f = w_f sum_m w_m phi_f(k_m) v_m,   y_f = w_f sum_m w_m phi_f(k_m)
//   o_n = sum_f phi_f(q_n) M_f / sum_f phi_f(q_n) y_f                                      [eq. 24 - 29]
//
// Unmasked: all keys join the state, then all queries read it. Causal: chunk by chunk, queries read
// the state before their chunk, its keys join, and inside the chunk f(Q K^T) V is computed directly.
//
// Features are formed in lanes = tokens, 48 at a time into 12 KB of scratch, and used from there:
// they never reach memory. In both products the state's rows are read once a block and chunk.
//
// One head over several threads: unmasked, each thread owns some of the features while keys join
// and some of the queries after. Causal, features are cut into slices whose partial outputs are
// summed in order, so that the result does not depend on how many threads share the slices: a
// thread that has the head for itself adds each slice before it takes the next.
#include "src/cpu/factorised_scratch.h"
#include "src/cpu/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/cpu/factorised_forward.cc"
#include "hwy/foreach_target.h"  // re-includes this file once per instruction set
#include "hwy/highway.h"
#include "src/cpu/direct-inl.h"
#include "src/cpu/joining-inl.h"
#include "src/cpu/masked-inl.h"
#include "src/cpu/output-inl.h"
#include "src/cpu/state-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

template <class T>
class FactorisedForward {
 public:
  using Shared = FactorisedForwardShared<T>;
  using Worker = FactorisedForwardWorker<T>;

  FactorisedForward(const ForwardCall<T>& call, const Team& team, std::byte* workspace)
      : call_(call), shape_(call, team.size()), workspace_(workspace) {}

  void run(const Team& team) const {
    run_groups<Shared, Worker>(
        shape_, team, workspace_,
        [&](std::size_t group, const Shared& shared, const auto& workers, const Team& inner) {
          const std::size_t b = group / shape_.Hkv, h = group % shape_.Hkv;
          shared.weight.fill(call_, shape_.table, b, h);
          take_mean(call_, shape_, b, h, shared.state);
          load_state(call_, shape_, call_.initial_state.head(b, h), true, shared.state);
          const std::size_t before =
              call_.causal ? static_cast<std::size_t>(shape_.offset) : shape_.M;
          join(b, h, before, shared, workers, inner);
          if (!call_.causal) read_all(b, h, shared, workers, inner);
          for (std::size_t first = 0; call_.causal && first < shape_.query_panels;
               first += shape_.span) {
            scan(b, h, first, std::min(shape_.span, shape_.query_panels - first), shared, workers,
                 inner);
          }
          if (const auto& out = call_.args.final_state; out.data) {
            store_state(call_, shape_, shared.state, true, static_cast<std::size_t>(out.F),
                        out.head(b, h));
          }
        });
  }

 private:
  /// The first `tokens` keys, which every query sees, join the state.
  template <class WorkersOf>
  void join(std::size_t b, std::size_t h, std::size_t tokens, const Shared& shared,
            const WorkersOf& workers, const Team& team) const {
    const std::size_t slices =
        std::min(shape_.table.blocks.size(), team.size() == 1 ? 1 : 2 * team.size());
    team.for_each(slices, [&](std::size_t worker, std::size_t slice) {
      const Worker w = workers[worker];
      const amx::Tiles tiles(shape_.tiles);
      const std::size_t begin = shape_.slice_begin(slice, slices),
                        end = shape_.slice_begin(slice + 1, slices);
      join_keys(call_, shape_, shared.state, b, h, tokens, begin, end, w.tokens, w.S, w.tiles);
      if (!call_.causal) pack_tiles(shape_, shared.state, begin, end);
    });
  }

  /// Unmasked: every query of every head reads the state.
  template <class WorkersOf>
  void read_all(std::size_t b, std::size_t h, const Shared& shared, const WorkersOf& workers,
                const Team& team) const {
    const std::size_t items = divide_up(shape_.query_panels, shape_.chunk);
    team.for_each(shape_.heads * items, [&](std::size_t worker, std::size_t item) {
      const Worker w = workers[worker];
      const amx::Tiles tiles(shape_.tiles);
      const std::size_t head = h * shape_.heads + item / items, first = item % items * shape_.chunk;
      const std::size_t count = std::min(shape_.chunk, shape_.query_panels - first);
      for (std::size_t i = 0; i < count; ++i)
        pack_query(b, head, first + i, w.tokens.x + i * x_size());
      std::fill_n(w.g, count * kPanel, T{0});
      const std::size_t blocks = shape_.table.blocks.size();
      for (std::size_t block = 0; block < blocks; block += shape_.step) {
        for (std::size_t i = 0; i < count; ++i) {
          read_panel(shape_, shared.state, block, std::min(block + shape_.step, blocks),
                     w.tokens.x + i * x_size(), tokens(first + i), block > 0, w.ot + i * ot_size(),
                     w.g + i * kPanel, w.S);
        }
      }
      for (std::size_t i = 0; i < count; ++i) {
        add_mean(shape_, shared.state, w.g + i * kPanel, w.ot + i * ot_size());
        write(b, head, first + i, w.ot + i * ot_size(), w.g + i * kPanel);
      }
    });
  }

  /// Causal: `count` panels of queries from panel `first`, and the keys that stand with them.
  template <class WorkersOf>
  void scan(std::size_t b, std::size_t h, std::size_t first, std::size_t count,
            const Shared& shared, const WorkersOf& workers, const Team& team) const {
    JoiningPanel<T> keys[FactorisedShape::kSpan + kMaxChunk];
    team.for_each(count, [&](std::size_t, std::size_t i) {
      const std::size_t from = static_cast<std::size_t>(shape_.offset) + (first + i) * kPanel;
      keys[i] = pack_joining(call_, shape_, b, h, from, tokens(first + i), shared.state.mean,
                             shared.keys, i);
      for (std::size_t head = 0; head < shape_.heads; ++head) {
        pack_query(b, h * shape_.heads + head, first + i,
                   shared.queries + (head * shape_.span + i) * x_size());
      }
    });
    for (std::size_t slice = 0; slice < shape_.slices; slice += shape_.at_once) {
      team.for_each(shape_.at_once, [&](std::size_t worker, std::size_t part) {
        scan_slice(slice + part, part, first, count, keys, shared, workers[worker]);
      });
      team.for_each(shape_.heads * count, [&](std::size_t worker, std::size_t item) {
        const std::size_t head = item / count, i = item % count;
        if (slice == 0) start(first, head, i, keys, shared, workers[worker]);
        add_slices(first, head, i, shared);
        if (slice + shape_.at_once == shape_.slices) {
          write(b, h * shape_.heads + head, first + i, ot(shared, shape_.at_once, head, i),
                g(shared, shape_.at_once, head, i));
        }
      });
    }
  }

  bool has_past(std::size_t panel) const {
    return shape_.offset > 0 || panel >= shape_.chunk || call_.initial_state.data;
  }

  /// One slice of the features: chunk by chunk, queries read the state into `part`, then keys join it.
  void scan_slice(std::size_t slice, std::size_t part, std::size_t first, std::size_t count,
                  const JoiningPanel<T>* keys, const Shared& shared, const Worker& w) const {
    const amx::Tiles tiles(shape_.tiles);
    const std::size_t begin = shape_.slice_begin(slice, shape_.slices),
                      end = shape_.slice_begin(slice + 1, shape_.slices);
    for (std::size_t chunk = 0; chunk < count; chunk += shape_.chunk) {
      const std::size_t chunk_end = std::min(chunk + shape_.chunk, count);
      const bool last = first + chunk_end == shape_.query_panels && !call_.args.final_state.data;
      const auto for_each_reader = [&](const auto& visit) {
        for (std::size_t head = 0; has_past(first + chunk) && head < shape_.heads; ++head) {
          for (std::size_t i = chunk; i < chunk_end; ++i)
            visit(head, i, ot(shared, part, head, i), g(shared, part, head, i));
        }
      };
      for_each_reader([](std::size_t, std::size_t, T*, T* g) { std::fill_n(g, kPanel, T{0}); });
      for (std::size_t block = begin; block < end; block += shape_.step) {
        const std::size_t next = std::min(block + shape_.step, end);
        if (has_past(first + chunk)) pack_tiles(shape_, shared.state, block, next);
        for_each_reader([&](std::size_t head, std::size_t i, T* ot, T* g) {
          read_panel(shape_, shared.state, block, next,
                     shared.queries + (head * shape_.span + i) * x_size(), tokens(first + i),
                     block > begin, ot, g, w.S);
        });
        if (!last) {
          join_panels(shape_, shared.state, block, next, keys + chunk, chunk_end - chunk, w.S,
                      w.tiles);
        }
      }
      for_each_reader(
          [&](std::size_t, std::size_t, T* ot, T* g) { add_mean(shape_, shared.state, g, ot); });
    }
  }

  /// One panel of queries meets the keys of its own chunk directly.
  void start(std::size_t first, std::size_t head, std::size_t panel, const JoiningPanel<T>* keys,
             const Shared& shared, const Worker& w) const {
    const QueryPanel<T> q{shared.queries + (head * shape_.span + panel) * x_size(),
                          tokens(first + panel), ot(shared, shape_.at_once, head, panel),
                          g(shared, shape_.at_once, head, panel)};
    std::fill_n(q.g, kPanel, T{0});
    const std::size_t chunk = panel / shape_.chunk * shape_.chunk;
    for (std::size_t i = chunk; i <= panel; ++i) {
      const bool padded_rows = keys[i].n % kRows != 0;
      const KeyPanel<T> k{
          keys[i].x, keys[i].n, keys[i].rows, keys[i].ld,
          keys[i].weight || !padded_rows ? keys[i].weight : shared.keys.weight + i * kPanel};
      const auto delta = (static_cast<std::int64_t>(i) - static_cast<std::int64_t>(panel)) *
                         static_cast<std::int64_t>(kPanel);
      // Of scores, dropout of features takes g alone.
      forward_block(call_, q, k, shape_.K, shape_.drops_features ? 0 : shape_.E, delta, i > chunk,
                    w.S);
      if (shape_.drops_features) {
        masked_scores<Lanes::kQueries>(shape_.table, shared.weight.masked,
                                       {k.x, nullptr, k.n, q.x, nullptr, q.n}, k.key_weight, delta,
                                       w.S, w.features, w.features + kPanel * kPanel);
        product<By::kColumn>(shape_.channels, divide_up(q.n, kLanes<T>), k.n, k.v, k.ldv, w.S,
                             kPanel, StoreOrAdd<T>{q.ot, kPanel, i > chunk});
      }
    }
  }

  /// The slices at hand, in order.
  void add_slices(std::size_t first, std::size_t head, std::size_t panel,
                  const Shared& shared) const {
    if (!has_past(first + panel / shape_.chunk * shape_.chunk)) return;
    const std::size_t panels = shape_.heads * shape_.span;
    add_parts(ot(shared, shape_.at_once, head, panel), ot(shared, 0, head, panel),
              panels * ot_size(), shape_.at_once, ot_size());
    add_parts(g(shared, shape_.at_once, head, panel), g(shared, 0, head, panel), panels * kPanel,
              shape_.at_once, kPanel);
  }

  void pack_query(std::size_t b, std::size_t head, std::size_t panel, T* x) const {
    pack_queries(call_, shape_, b, head, panel * kPanel, tokens(panel), x,
                 static_cast<T*>(nullptr));
  }
  void write(std::size_t b, std::size_t head, std::size_t panel, const T* ot, const T* g) const {
    write_outputs(call_, shape_, b, head, ot, g, panel * kPanel, tokens(panel));
  }

  std::size_t tokens(std::size_t panel) const { return panel_tokens(shape_.N, panel); }
  std::size_t x_size() const { return shape_.dims * kPanel; }
  std::size_t ot_size() const { return shape_.channels * kPanel; }
  T* ot(const Shared& shared, std::size_t part, std::size_t head, std::size_t panel) const {
    return shared.ot + ((part * shape_.heads + head) * shape_.span + panel) * ot_size();
  }
  T* g(const Shared& shared, std::size_t part, std::size_t head, std::size_t panel) const {
    return shared.g + ((part * shape_.heads + head) * shape_.span + panel) * kPanel;
  }

  const ForwardCall<T>& call_;
  const FactorisedShape shape_;
  std::byte* const workspace_;
};

FASTMAX_INSTANTIATE(factorised_forward, ForwardCall, FactorisedForward)

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fastmax::cpu {
FASTMAX_DISPATCH(factorised_forward, ForwardCall)

template <class T>
std::size_t factorised_forward_bytes(const ForwardCall<T>& call, std::size_t threads) {
  return groups_workspace<FactorisedForwardShared<T>, FactorisedForwardWorker<T>>(
      FactorisedShape(call, threads), threads);
}
FASTMAX_WORKSPACE(factorised_forward, ForwardCall)
}  // namespace fastmax::cpu
#endif
