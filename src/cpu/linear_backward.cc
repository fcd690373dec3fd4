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
// and dv in one backwards; inside the block e and S = K Q^T are computed. Building both R~ and R costs less than
// transposing one for each block, and gives two threads a product each.
#include "src/cpu/kernels.h"
#include "src/cpu/linear_scratch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/cpu/linear_backward.cc"
#include "hwy/foreach_target.h"  // re-includes this file once per instruction set
#include "hwy/highway.h"
#include "src/cpu/linear-inl.h"
#include "src/cpu/output-inl.h"
#include "src/cpu/state-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

template <class T>
class LinearBackward {
 public:
  using Shared = LinearBackwardShared<T>;
  using Worker = LinearBackwardWorker<T>;

  LinearBackward(const BackwardCall<T>& call, const Team& team, std::byte* workspace)
      : call_(call), shape_(call, team.size()), workspace_(workspace) {}

  void run(const Team& team) const {
    run_groups<Shared, Worker>(
        shape_, team, workspace_,
        [&](std::size_t group, const Shared& shared, const auto& workers, const Team& inner) {
          const std::size_t b = group / shape_.Hkv, h = group % shape_.Hkv;
          load(b, h, shared);
          const std::size_t before =
              call_.causal ? static_cast<std::size_t>(shape_.offset) : shape_.M;
          for_each_span(before, [&](std::size_t first, std::size_t n) {
            pack_keys_and(b, h, first, n, /*weighted=*/true, shared, workers, inner,
                          [](std::size_t, std::size_t, const Worker&) {});
            inner.for_each(shape_.entry_slices, [&](std::size_t, std::size_t slice) {
              for (std::size_t at = 0; at < n; at += kPanel)
                join_keys(at, std::min(kPanel, n - at), slice, shared);
            });
          });
          if (call_.causal) {
            for_each_span(shape_.N, [&](std::size_t first, std::size_t n) {
              scan_forwards(b, h, first, n, shared, workers, inner);
            });
            const std::size_t length = shape_.span * kPanel;
            for (std::size_t first = round_up(shape_.N, length); first > 0;) {
              first -= length;
              scan_backwards(b, h, first, std::min(length, shape_.N - first), shared, workers,
                             inner);
            }
          } else {
            for_each_span(shape_.N, [&](std::size_t first, std::size_t n) {
              read_and_join_queries(b, h, first, n, shared, workers, inner);
            });
          }
          for_each_span(before, [&](std::size_t first, std::size_t n) {
            pack_keys_and(b, h, first, n, /*weighted=*/false, shared, workers, inner,
                          [&](std::size_t at, std::size_t count, const Worker& w) {
                            read_keys(at, count, {}, all_entries(), shared);
                            write_dv(b, h, first + at, at, count, {}, all_channels(), shared);
                            write_dk(b, h, first + at, at, count, shared, w);
                          });
          });
          store(b, h, shared);
        });
  }

 private:
  struct Range {
    std::size_t begin, end;
    std::size_t vectors() const { return (end - begin) / kLanes<T>; }
  };
  Range entries(std::size_t slice) const {
    return {shape_.part(shape_.entries, slice, shape_.entry_slices),
            shape_.part(shape_.entries, slice + 1, shape_.entry_slices)};
  }
  Range channels(std::size_t slice) const {
    return {shape_.part(shape_.columns, slice, shape_.slices),
            shape_.part(shape_.columns, slice + 1, shape_.slices)};
  }
  Range all_entries() const { return {0, shape_.entries}; }
  Range all_channels() const { return {0, shape_.columns}; }

  template <class Body>
  void for_each_span(std::size_t tokens, const Body& body) const {
    const std::size_t length = shape_.span * kPanel;
    for (std::size_t first = 0; first < tokens; first += length)
      body(first, std::min(length, tokens - first));
  }

  /// Packs n keys from `first`, at most a span, panel by panel and calls body(at, tokens, worker) after each.
  template <class WorkersOf, class Body>
  void pack_keys_and(std::size_t b, std::size_t h, std::size_t first, std::size_t n, bool weighted,
                     const Shared& s, const WorkersOf& workers, const Team& team,
                     const Body& body) const {
    team.for_each(divide_up(n, kPanel), [&](std::size_t worker, std::size_t i) {
      const Worker w = workers[worker];
      const std::size_t at = i * kPanel, count = std::min(kPanel, n - at);
      pack_keys_at(b, h, first + at, count, at, weighted, s, w);
      body(at, count, w);
    });
  }

  /// Unmasked: dq through the complete M~; then the queries join R~ and R.
  template <class WorkersOf>
  void read_and_join_queries(std::size_t b, std::size_t h, std::size_t first, std::size_t n,
                             const Shared& s, const WorkersOf& workers, const Team& team) const {
    team.for_each(divide_up(n, kPanel) * shape_.heads, [&](std::size_t worker, std::size_t item) {
      const std::size_t head = item % shape_.heads, at = item / shape_.heads * kPanel,
                        count = std::min(kPanel, n - at);
      const Worker w = workers[worker];
      pack_queries_at(b, h, head, first + at, count, at, s, w);
      read_queries(head, at, count, {}, all_entries(), s);
      write_dq(b, h, head, first + at, at, count, s, w);
    });
    team.for_each(shape_.entry_slices + shape_.slices, [&](std::size_t, std::size_t item) {
      for (std::size_t at = 0; at < n; at += kPanel) {
        for (std::size_t head = 0; head < shape_.heads; ++head)
          join_queries(head, at, std::min(kPanel, n - at), item, s);
      }
    });
  }

  template <class WorkersOf>
  void scan_forwards(std::size_t b, std::size_t h, std::size_t first, std::size_t n,
                     const Shared& s, const WorkersOf& workers, const Team& team) const {
    const std::size_t offset = static_cast<std::size_t>(shape_.offset);
    pack_keys_and(b, h, offset + first, n, /*weighted=*/true, s, workers, team,
                  [&](std::size_t at, std::size_t count, const Worker& w) {
                    for (std::size_t head = 0; head < shape_.heads; ++head)
                      pack_queries_at(b, h, head, first + at, count, at, s, w);
                    for (std::size_t block = at; block < at + count; block += kBlock) {
                      transpose_block<T>(values(s, block), shape_.E + 1, w.columns);
                      for (std::size_t head = 0; head < shape_.heads; ++head) {
                        product<By::kRow>(kBlock, kBlock / kLanes<T>, shape_.E + 1,
                                          u(s, head, block).data, shape_.values, w.columns, kBlock,
                                          StoreVisible<T, Lanes::kKeys>{
                                              {in_block(s.E, head, block), kBlock, false}});
                      }
                    }
                  });
    team.for_each(shape_.entry_slices, [&](std::size_t worker, std::size_t slice) {
      const Range f = entries(slice);
      const Matrix<T> sum{workers[worker].block, shape_.ld};
      for (std::size_t at = 0; at < n; at += kBlock) {
        const std::size_t count = std::min(kBlock, n - at);
        for (std::size_t head = 0; head < shape_.heads; ++head) {
          meet_earlier<T>({in_block(s.E, head, at), kBlock}, count,
                          keys(s, at).columns_from(f.begin), f.vectors(), sum);
          read_queries(head, at, count, {sum.data, sum.ld}, f, s);
        }
        join_keys(at, count, slice, s);
      }
    });
    team.for_each(divide_up(n, kPanel) * shape_.heads, [&](std::size_t worker, std::size_t item) {
      const std::size_t head = item % shape_.heads, at = item / shape_.heads * kPanel;
      write_dq(b, h, head, first + at, at, std::min(kPanel, n - at), s, workers[worker]);
    });
  }

  template <class WorkersOf>
  void scan_backwards(std::size_t b, std::size_t h, std::size_t first, std::size_t n,
                      const Shared& s, const WorkersOf& workers, const Team& team) const {
    const std::size_t offset = static_cast<std::size_t>(shape_.offset);
    pack_keys_and(
        b, h, offset + first, n, /*weighted=*/false, s, workers, team,
        [&](std::size_t at, std::size_t count, const Worker& w) {
          for (std::size_t head = 0; head < shape_.heads; ++head) {
            pack_queries_at(b, h, head, first + at, count, at, s, w);
            for (std::size_t block = at; block < at + count; block += kBlock) {
              const auto meet = [&](const Matrix<const T>& rows, const Matrix<const T>& lanes,
                                    std::size_t K, T* to) {
                transpose_block<T>(lanes, K, w.columns);
                product<By::kRow>(
                    kBlock, kBlock / kLanes<T>, K, rows.data, rows.ld, w.columns, kBlock,
                    StoreVisible<T, Lanes::kQueries>{{in_block(to, head, block), kBlock, false}});
              };
              meet(values(s, block), u(s, head, block), shape_.E + 1, s.E);
              meet(keys(s, block), queries(s, head, block), shape_.K, s.S);
            }
          }
        });
    team.for_each(shape_.entry_slices + shape_.slices, [&](std::size_t worker, std::size_t item) {
      for (std::size_t at = round_up(n, kBlock); at > 0;) {
        at -= kBlock;
        const std::size_t count = std::min(kBlock, n - at);
        const Matrix<T> sum{workers[worker].block, std::max(shape_.ld, shape_.values)};
        if (item < shape_.entry_slices) {
          const Range f = entries(item);
          meet_later(
              s.E, at, count,
              [&](std::size_t head) { return queries(s, head, at).columns_from(f.begin); },
              f.vectors(), sum);
          read_keys(at, count, {sum.data, sum.ld}, f, s);
        } else {
          const Range e = channels(item - shape_.entry_slices);
          meet_later(
              s.S, at, count,
              [&](std::size_t head) { return u(s, head, at).columns_from(e.begin); }, e.vectors(),
              sum);
          write_dv(b, h, offset + first + at, at, count, {sum.data, sum.ld}, e, s);
        }
        for (std::size_t head = 0; head < shape_.heads; ++head)
          join_queries(head, at, count, item, s);
      }
    });
    team.for_each(divide_up(n, kPanel), [&](std::size_t worker, std::size_t i) {
      write_dk(b, h, offset + first + i * kPanel, i * kPanel, std::min(kPanel, n - i * kPanel), s,
               workers[worker]);
    });
  }

  /// C = sum over heads of A B inside a block of n tokens; A is zero where a query does not see a key.
  template <class RowsOf>
  void meet_later(T* A, std::size_t at, std::size_t n, const RowsOf& rows, std::size_t vectors,
                  const Matrix<T>& c) const {
    for (std::size_t head = 0; head < shape_.heads; ++head) {
      const Matrix<const T> b = rows(head);
      product<By::kRow>(round_up(n, kRows), vectors, n, in_block(A, head, at), kBlock, b.data, b.ld,
                        StoreOrAdd<T>{c.data, c.ld, head > 0});
    }
  }

  /// dkappa_q = C + u~ M~, entries f.
  void read_queries(std::size_t head, std::size_t at, std::size_t n, const Matrix<const T>& c,
                    Range f, const Shared& s) const {
    through(u(s, head, at), s.M, n, c, f, slot(head, at), s);
  }
  /// dkappa_k = C + v~ R~, entries f, without the keys' weights.
  void read_keys(std::size_t at, std::size_t n, const Matrix<const T>& c, Range f,
                 const Shared& s) const {
    through(values(s, at), s.Rt, n, c, f, at, s);
  }
  void through(const Matrix<const T>& a, const T* state, std::size_t n, const Matrix<const T>& c,
               Range f, std::size_t slot, const Shared& s) const {
    product<By::kRow>(
        round_up(n, kRows), f.vectors(), shape_.E + 1, a.data, a.ld, state + f.begin, shape_.ld,
        WriteRows<T>{
            c, nullptr, {s.dX + slot * shape_.ld + f.begin, shape_.ld}, n, f.end - f.begin});
  }
  /// dv = w (C + kappa_k R), channels e.
  void write_dv(std::size_t b, std::size_t h, std::size_t first, std::size_t at, std::size_t n,
                const Matrix<const T>& c, Range e, const Shared& s) const {
    const auto dv = call_.args.dv.head(b, h);
    const Matrix<const T> k = keys(s, at);
    product<By::kRow>(
        round_up(n, kRows), e.vectors(), shape_.K, k.data, k.ld, s.R + e.begin, shape_.value_stride,
        WriteRows<T>{c,
                     s.weight + at,
                     {dv[first].data() + e.begin, static_cast<std::size_t>(dv.stride)},
                     n,
                     shape_.E - e.begin});
  }

  /// M~ += V~^T K.
  void join_keys(std::size_t at, std::size_t n, std::size_t slice, const Shared& s) const {
    join(values(s, at), nullptr, keys(s, at), n, entries(slice), s.M);
  }
  /// R~ += U~^T Q, or R += Q^T U.
  void join_queries(std::size_t head, std::size_t at, std::size_t n, std::size_t item,
                    const Shared& s) const {
    const Matrix<const T> q = queries(s, head, at), u_rows = u(s, head, at);
    if (item < shape_.entry_slices)
      return join(u_rows, s.c + slot(head, at), q, n, entries(item), s.Rt);
    const Range e = channels(item - shape_.entry_slices);
    product<By::kColumn>(shape_.dims, e.vectors(), n, q.data, q.ld, u_rows.data + e.begin,
                         u_rows.ld, StoreOrAdd<T>{s.R + e.begin, shape_.value_stride, true});
  }
  /// A product's rows are padded to kRows; only if that leaves no room for the last row, it is summed alone.
  void join(const Matrix<const T>& a, const T* last, const Matrix<const T>& k, std::size_t n,
            Range f, T* state) const {
    product<By::kColumn>(shape_.channels, f.vectors(), n, a.data, a.ld, k.data + f.begin, k.ld,
                         StoreOrAdd<T>{state + f.begin, shape_.ld, true});
    if (shape_.channels == shape_.E)
      add_rows<T>(k.columns_from(f.begin), n, f.end - f.begin, last,
                  state + shape_.E * shape_.ld + f.begin);
  }

  void pack_keys_at(std::size_t b, std::size_t h, std::size_t first, std::size_t n, std::size_t at,
                    bool weighted, const Shared& s, const Worker& w) const {
    const T* weight = call_.args.key_weight.row(b);
    pack_weights(weight, first, n, s.weight + at);
    pack_key_rows(call_, shape_, b, h, first, n, T{1}, weighted && weight ? s.weight + at : nullptr,
                  w.X, s.keys + at * shape_.ld, shape_.ld, s.key_inverse + at);
    const auto v = call_.args.v.head(b, h);
    T* rows = s.v + at * shape_.values;
    pad_rows(v[first].data(), v.stride, n, shape_.E, rows, shape_.values);
    for (std::size_t j = 0; j < n; ++j) rows[j * shape_.values + shape_.E] = 1;
  }
  void pack_queries_at(std::size_t b, std::size_t h, std::size_t head, std::size_t first,
                       std::size_t n, std::size_t at, const Shared& s, const Worker& w) const {
    const std::size_t to = slot(head, at);
    pack_query_rows(call_, shape_, b, h * shape_.heads + head, first, n, constant(), w.X,
                    s.queries + to * shape_.ld, shape_.ld, s.inverse + to);
    pack_output_gradients_at(b, h * shape_.heads + head, first, n, s.u + to * shape_.values,
                             s.c + to);
  }
  /// u~ of n queries: rows [u, c] and zeros.
  void pack_output_gradients_at(std::size_t b, std::size_t head, std::size_t first, std::size_t n,
                                T* rows, T* c) const {
    constexpr std::size_t L = kLanes<T>;
    const Tag<T> d;
    const auto d_o = call_.args.d_o.head(b, head);
    const auto o = call_.args.o.head(b, head);
    alignas(64) T inverse[kPanel], through_g[kPanel];
    output_factors(call_, shape_, b, head, first, n, inverse, through_g);
    for (std::size_t lane = 0; lane < n; lane += L) {
      const auto token = [&](std::size_t j) {
        return static_cast<std::int64_t>(first + std::min(lane + j, n - 1));
      };
      const auto dot = sum_rows<T>(
          shape_.E, [&](std::size_t) HWY_ATTR { return hn::Zero(d); },
          [&](std::size_t j, std::size_t e, std::size_t count, Vec<T> sum) HWY_ATTR {
            const auto u_e =
                hn::Mul(load_n(d_o[token(j)].data() + e, count), hn::Set(d, inverse[lane + j]));
            hn::StoreU(u_e, d, rows + (lane + j) * shape_.values + e);
            return hn::MulAdd(u_e, load_n(o[token(j)].data() + e, count), sum);
          });
      hn::StoreU(hn::Neg(hn::Mul(dot, hn::Load(d, through_g + lane))), d, c + lane);
      for (std::size_t j = lane; j < std::min(lane + L, n); ++j) {
        T* row = rows + j * shape_.values;
        std::fill(row + shape_.E, row + shape_.values, T{0});
        row[shape_.E] = c[j];
      }
    }
  }

  void write_dq(std::size_t b, std::size_t h, std::size_t head, std::size_t first, std::size_t at,
                std::size_t n, const Shared& s, const Worker& w) const {
    const std::size_t from = slot(head, at);
    const auto dq = call_.args.dq.head(b, h * shape_.heads + head);
    RowUnpacker<T>(query_kappa<T>(call_, shape_, b, h * shape_.heads + head), shape_.D, shape_.ld,
                   w.X, w.dX)
        .unpack(s.dX + from * shape_.ld, s.queries + from * shape_.ld, s.inverse + from, nullptr, n,
                dq[first].data(), static_cast<std::size_t>(dq.stride));
  }
  void write_dk(std::size_t b, std::size_t h, std::size_t first, std::size_t at, std::size_t n,
                const Shared& s, const Worker& w) const {
    const auto dk = call_.args.dk.head(b, h);
    RowUnpacker<T>(key_kappa<T>(call_, shape_, b, h), shape_.D, shape_.ld, w.X, w.dX)
        .unpack(s.dX + at * shape_.ld, s.keys + at * shape_.ld, s.key_inverse + at, s.weight + at,
                n, dk[first].data(), static_cast<std::size_t>(dk.stride));
  }

  /// What a state brings along: weighted for M~, as it is for R.
  void load(std::size_t b, std::size_t h, const Shared& s) const {
    const std::size_t size = (shape_.channels + 1) * shape_.ld;
    std::fill_n(s.M, size, T{0});
    std::fill_n(s.Rt, size, T{0});
    std::fill_n(s.R, shape_.dims * shape_.value_stride, T{0});
    const T* past = call_.initial_state.head(b, h);
    const T* future = call_.args.d_final_state.head(b, h);
    for (std::size_t f = 0; f < shape_.K; ++f) {
      for (std::size_t e = 0; e <= shape_.E; ++e) {
        const std::size_t from = f * (shape_.E + 1) + e, to = e * shape_.ld + f;
        if (past) s.M[to] = past[from];
        if (future) s.Rt[to] = future[from];
        if (future && e < shape_.E) s.R[f * shape_.value_stride + e] = future[from];
      }
    }
  }
  void store(std::size_t b, std::size_t h, const Shared& s) const {
    const auto& out = call_.args.d_initial_state;
    if (!out.data) return;
    T* to = out.head(b, h);
    std::fill_n(to, static_cast<std::size_t>(out.F) * (shape_.E + 1), T{0});
    for (std::size_t f = 0; f < shape_.K; ++f, to += shape_.E + 1) {
      std::copy_n(s.R + f * shape_.value_stride, shape_.E, to);
      to[shape_.E] = s.Rt[shape_.E * shape_.ld + f];
    }
  }

  T constant() const { return static_cast<T>(call_.unit_coefficients()[0]); }
  std::size_t slot(std::size_t head, std::size_t at) const {
    return head * shape_.span * kPanel + at;
  }
  T* in_block(T* all, std::size_t head, std::size_t at) const {
    return all + slot(head, at) * kBlock;
  }
  Matrix<const T> keys(const Shared& s, std::size_t at) const {
    return {s.keys + at * shape_.ld, shape_.ld};
  }
  Matrix<const T> values(const Shared& s, std::size_t at) const {
    return {s.v + at * shape_.values, shape_.values};
  }
  Matrix<const T> queries(const Shared& s, std::size_t head, std::size_t at) const {
    return {s.queries + slot(head, at) * shape_.ld, shape_.ld};
  }
  Matrix<const T> u(const Shared& s, std::size_t head, std::size_t at) const {
    return {s.u + slot(head, at) * shape_.values, shape_.values};
  }

  const BackwardCall<T>& call_;
  const LinearBackwardShape shape_;
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
