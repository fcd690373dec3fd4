// The factorised form for p = 1, backward. f' = 1, so nothing of the forward pass is needed but o and g:
//
//   u~ = [d_o / g, c],  c = -u . o,  v~ = [v, 1]                 e_nm = u~_n . v~_m
//   dkappa_n = sum_m w_m e_nm kappa_m = u~_n M~        M~ = sum_m w_m v~_m kappa_m^T
//   dkappa_m = w_m sum_n e_nm kappa_n = w_m v~_m R~    R~ = sum_n u~_n kappa_n^T
//   dv_m     = w_m kappa_m R                           R  = sum_n kappa_n u_n^T, R~ transposed, without its last row
//
// Here the constant's coefficient c_0 / c_1 stands in slot 0 of the queries' kappa.
//
// Causal, M~ holds the keys before a block of kBlock tokens and R~, R the queries after it: dq in a scan forwards, dk
// and dv in one backwards; inside the block e and S = K Q^T are computed. R~ and R are built
// apart, rather than one transposed for each block, so that two threads have a product each.
#include "src/cpu/kernels.h"
#include "src/cpu/linear_scratch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/cpu/linear_backward.cc"
#include "hwy/foreach_target.h"  // re-includes this file once per instruction set
#include "hwy/highway.h"
#include "src/cpu/linear_gradient-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

template <class T>
class LinearBackward {
 public:
  using Shared = LinearBackwardShared<T>;
  using Worker = LinearBackwardWorker<T>;
  using Gradient = LinearGradient<T>;

  LinearBackward(const BackwardCall<T>& call, const Team& team, std::byte* workspace)
      : call_(call),
        shape_(call, team.size()),
        length_(shape_.span * kPanel),
        offset_(static_cast<std::size_t>(shape_.offset)),
        workspace_(workspace) {}

  void run(const Team& team) const {
    run_groups<Shared, Worker>(
        shape_, team, workspace_,
        [&](std::size_t group, const Shared& shared, const auto& workers, const Team& inner) {
          const Gradient g{call_, shape_, shared, group / shape_.Hkv, group % shape_.Hkv};
          g.load();
          const std::size_t before = call_.causal ? offset_ : shape_.M;
          for_each_span(before, [&](std::size_t first, std::size_t n) {
            join_keys(g, first, n, workers, inner);
          });
          if (call_.causal) {
            for_each_span(shape_.N, [&](std::size_t first, std::size_t n) {
              scan_forwards(g, first, n, workers, inner);
            });
            for (std::size_t first = round_up(shape_.N, length_); first > 0;) {
              first -= length_;
              scan_backwards(g, first, std::min(length_, shape_.N - first), workers, inner);
            }
          } else {
            for_each_span(shape_.N, [&](std::size_t first, std::size_t n) {
              read_and_join_queries(g, first, n, workers, inner);
            });
          }
          for_each_span(before, [&](std::size_t first, std::size_t n) {
            read_keys(g, first, n, workers, inner);
          });
          g.store();
        });
  }

 private:
  template <class Body>
  void for_each_span(std::size_t tokens, const Body& body) const {
    for (std::size_t first = 0; first < tokens; first += length_)
      body(first, std::min(length_, tokens - first));
  }

  /// Packs n keys from `first`, at most a span, panel by panel, and calls body(at, tokens, worker) after each.
  template <class WorkersOf, class Body>
  void pack_keys(const Gradient& g, std::size_t first, std::size_t n, bool weighted,
                 const WorkersOf& workers, const Team& team, const Body& body) const {
    team.for_each(divide_up(n, kPanel), [&](std::size_t worker, std::size_t i) {
      const Worker w = workers[worker];
      const std::size_t at = i * kPanel, count = std::min(kPanel, n - at);
      g.pack_keys(first + at, count, at, weighted, w);
      body(at, count, w);
    });
  }

  /// n keys that every query sees join M~.
  template <class WorkersOf>
  void join_keys(const Gradient& g, std::size_t first, std::size_t n, const WorkersOf& workers,
                 const Team& team) const {
    pack_keys(g, first, n, /*weighted=*/true, workers, team,
              [](std::size_t, std::size_t, const Worker&) {});
    team.for_each(shape_.entry_slices, [&](std::size_t, std::size_t slice) {
      for (std::size_t at = 0; at < n; at += kPanel)
        g.join_keys(at, std::min(kPanel, n - at), slice);
    });
  }

  /// dk and dv of n keys that every query sees, through the complete R~ and R.
  template <class WorkersOf>
  void read_keys(const Gradient& g, std::size_t first, std::size_t n, const WorkersOf& workers,
                 const Team& team) const {
    pack_keys(g, first, n, /*weighted=*/false, workers, team,
              [&](std::size_t at, std::size_t count, const Worker& w) {
                g.read_keys(at, count, {}, g.all_entries());
                g.write_dv(first + at, at, count, {}, g.all_channels());
                g.write_dk(first + at, at, count, w);
              });
  }

  /// Unmasked: dq through the complete M~; then the queries join R~ and R.
  template <class WorkersOf>
  void read_and_join_queries(const Gradient& g, std::size_t first, std::size_t n,
                             const WorkersOf& workers, const Team& team) const {
    team.for_each(divide_up(n, kPanel) * shape_.heads, [&](std::size_t worker, std::size_t item) {
      const std::size_t head = item % shape_.heads, at = item / shape_.heads * kPanel,
                        count = std::min(kPanel, n - at);
      const Worker w = workers[worker];
      g.pack_queries(head, first + at, count, at, w);
      g.read_queries(head, at, count, {}, g.all_entries());
      g.write_dq(head, first + at, at, count, w);
    });
    team.for_each(shape_.entry_slices + shape_.slices, [&](std::size_t, std::size_t item) {
      for (std::size_t at = 0; at < n; at += kPanel) {
        for (std::size_t head = 0; head < shape_.heads; ++head)
          g.join_queries(head, at, std::min(kPanel, n - at), item);
      }
    });
  }

  /// A B^T of one block, where row and lane see each other.
  template <Lanes kLanesAre>
  void meet(const Matrix<const T>& rows, const Matrix<const T>& lanes, std::size_t K, T* to,
            const Worker& w) const {
    transpose_block<T>(lanes, K, w.columns);
    product<By::kRow>(kBlock, kBlock / kLanes<T>, K, rows.data, rows.ld, w.columns, kBlock,
                      StoreVisible<T, kLanesAre>{{to, kBlock, false}});
  }

  /// Causal: dq of queries [first, first + n), whose keys join M~ block by block.
  template <class WorkersOf>
  void scan_forwards(const Gradient& g, std::size_t first, std::size_t n, const WorkersOf& workers,
                     const Team& team) const {
    pack_keys(g, offset_ + first, n, /*weighted=*/true, workers, team,
              [&](std::size_t at, std::size_t count, const Worker& w) {
                for (std::size_t head = 0; head < shape_.heads; ++head) {
                  g.pack_queries(head, first + at, count, at, w);
                  for (std::size_t block = at; block < at + count; block += kBlock)
                    meet<Lanes::kKeys>(g.u(head, block), g.values(block), shape_.E + 1,
                                       g.in_block(g.s.E, head, block), w);
                }
              });
    team.for_each(shape_.entry_slices, [&](std::size_t worker, std::size_t slice) {
      const Range<T> f = g.entries(slice);
      const Matrix<T> sum{workers[worker].block, shape_.ld};
      for (std::size_t at = 0; at < n; at += kBlock) {
        const std::size_t count = std::min(kBlock, n - at);
        for (std::size_t head = 0; head < shape_.heads; ++head) {
          meet_earlier<T>({g.in_block(g.s.E, head, at), kBlock}, count,
                          g.keys(at).columns_from(f.begin), f.vectors(), sum);
          g.read_queries(head, at, count, {sum.data, sum.ld}, f);
        }
        g.join_keys(at, count, slice);
      }
    });
    team.for_each(divide_up(n, kPanel) * shape_.heads, [&](std::size_t worker, std::size_t item) {
      const std::size_t head = item % shape_.heads, at = item / shape_.heads * kPanel;
      g.write_dq(head, first + at, at, std::min(kPanel, n - at), workers[worker]);
    });
  }

  /// Causal: dk and dv of the keys that stand with queries [first, first + n), which join R~ and R, last block first.
  template <class WorkersOf>
  void scan_backwards(const Gradient& g, std::size_t first, std::size_t n, const WorkersOf& workers,
                      const Team& team) const {
    pack_keys(g, offset_ + first, n, /*weighted=*/false, workers, team,
              [&](std::size_t at, std::size_t count, const Worker& w) {
                for (std::size_t head = 0; head < shape_.heads; ++head) {
                  g.pack_queries(head, first + at, count, at, w);
                  for (std::size_t block = at; block < at + count; block += kBlock) {
                    meet<Lanes::kQueries>(g.values(block), g.u(head, block), shape_.E + 1,
                                          g.in_block(g.s.E, head, block), w);
                    meet<Lanes::kQueries>(g.keys(block), g.queries(head, block), shape_.K,
                                          g.in_block(g.s.S, head, block), w);
                  }
                }
              });
    team.for_each(shape_.entry_slices + shape_.slices, [&](std::size_t worker, std::size_t item) {
      const Matrix<T> sum{workers[worker].block, std::max(shape_.ld, shape_.values)};
      for (std::size_t at = round_up(n, kBlock); at > 0;) {
        at -= kBlock;
        const std::size_t count = std::min(kBlock, n - at);
        if (item < shape_.entry_slices) {
          const Range<T> f = g.entries(item);
          meet_later(
              g, g.s.E, at, count,
              [&](std::size_t head) { return g.queries(head, at).columns_from(f.begin); },
              f.vectors(), sum);
          g.read_keys(at, count, {sum.data, sum.ld}, f);
        } else {
          const Range<T> e = g.channels(item - shape_.entry_slices);
          meet_later(
              g, g.s.S, at, count,
              [&](std::size_t head) { return g.u(head, at).columns_from(e.begin); }, e.vectors(),
              sum);
          g.write_dv(offset_ + first + at, at, count, {sum.data, sum.ld}, e);
        }
        for (std::size_t head = 0; head < shape_.heads; ++head)
          g.join_queries(head, at, count, item);
      }
    });
    team.for_each(divide_up(n, kPanel), [&](std::size_t worker, std::size_t i) {
      g.write_dk(offset_ + first + i * kPanel, i * kPanel, std::min(kPanel, n - i * kPanel),
                 workers[worker]);
    });
  }

  /// C = sum over heads of A B inside a block of n tokens; A is zero where a query does not see a key.
  template <class RowsOf>
  void meet_later(const Gradient& g, T* A, std::size_t at, std::size_t n, const RowsOf& rows,
                  std::size_t vectors, const Matrix<T>& c) const {
    for (std::size_t head = 0; head < shape_.heads; ++head) {
      const Matrix<const T> b = rows(head);
      product<By::kRow>(round_up(n, kRows), vectors, n, g.in_block(A, head, at), kBlock, b.data,
                        b.ld, StoreOrAdd<T>{c.data, c.ld, head > 0});
    }
  }

  const BackwardCall<T>& call_;
  const LinearBackwardShape shape_;
  const std::size_t length_;  ///< tokens of a span
  const std::size_t offset_;
  std::byte* const workspace_;
};

FASTMAX_INSTANTIATE(linear_backward, BackwardCall, LinearBackward)

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fastmax::cpu {
FASTMAX_DISPATCH(linear_backward, BackwardCall)

template <class T>
std::size_t linear_backward_bytes(const BackwardCall<T>& call, std::size_t threads) {
  return groups_workspace<LinearBackwardShared<T>, LinearBackwardWorker<T>>(
      LinearBackwardShape(call, threads), threads);
}
FASTMAX_WORKSPACE(linear_backward, BackwardCall)
}  // namespace fastmax::cpu
#endif
