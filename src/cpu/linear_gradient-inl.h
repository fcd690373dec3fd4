// The gradient for p = 1 of one head group, row by row: what linear_backward.cc says in what order.
#include <algorithm>
#include <cstddef>

#include "hwy/highway.h"
#include "src/cpu/linear_scratch.h"

#if defined(FASTMAX_CPU_LINEAR_GRADIENT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FASTMAX_CPU_LINEAR_GRADIENT_INL_H_
#undef FASTMAX_CPU_LINEAR_GRADIENT_INL_H_
#else
#define FASTMAX_CPU_LINEAR_GRADIENT_INL_H_
#endif

#include "src/cpu/linear-inl.h"
#include "src/cpu/output-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

/// Tokens are addressed by where they stand in the span that is packed, `at`.
template <class T>
struct LinearGradient {
  using Worker = LinearBackwardWorker<T>;

  const BackwardCall<T>& call;
  const LinearBackwardShape& shape;
  const LinearBackwardShared<T>& s;
  std::size_t b, h;

  Range<T> entries(std::size_t slice) const {
    return {shape.part(shape.entries, slice, shape.entry_slices),
            shape.part(shape.entries, slice + 1, shape.entry_slices)};
  }
  Range<T> channels(std::size_t slice) const {
    return channel_range<T>(shape, slice, shape.slices);
  }
  Range<T> all_entries() const { return {0, shape.entries}; }
  Range<T> all_channels() const { return {0, shape.columns}; }

  /// dkappa_q = C + u~ M~, entries f.
  void read_queries(std::size_t head, std::size_t at, std::size_t n, const Matrix<const T>& c,
                    Range<T> f) const {
    through(u(head, at), s.M, n, c, f, slot(head, at));
  }
  /// dkappa_k = C + v~ R~, entries f, without the keys' weights.
  void read_keys(std::size_t at, std::size_t n, const Matrix<const T>& c, Range<T> f) const {
    through(values(at), s.Rt, n, c, f, at);
  }
  void through(const Matrix<const T>& a, const T* state, std::size_t n, const Matrix<const T>& c,
               Range<T> f, std::size_t slot) const {
    product<By::kRow>(
        round_up(n, kRows), f.vectors(), shape.E + 1, a.data, a.ld, state + f.begin, shape.ld,
        WriteRows<T>{c, nullptr, {s.dX + slot * shape.ld + f.begin, shape.ld}, n, f.end - f.begin});
  }
  /// dv = w (C + kappa_k R), channels e.
  void write_dv(std::size_t first, std::size_t at, std::size_t n, const Matrix<const T>& c,
                Range<T> e) const {
    const auto dv = call.args.dv.head(b, h);
    const Matrix<const T> k = keys(at);
    product<By::kRow>(
        round_up(n, kRows), e.vectors(), shape.K, k.data, k.ld, s.R + e.begin, shape.value_stride,
        WriteRows<T>{c,
                     s.weight + at,
                     {dv[first].data() + e.begin, static_cast<std::size_t>(dv.stride)},
                     n,
                     shape.E - e.begin});
  }

  /// M~ += V~^T K.
  void join_keys(std::size_t at, std::size_t n, std::size_t slice) const {
    join(values(at), nullptr, keys(at), n, entries(slice), s.M);
  }
  /// R~ += U~^T Q, or R += Q^T U.
  void join_queries(std::size_t head, std::size_t at, std::size_t n, std::size_t item) const {
    const Matrix<const T> q = queries(head, at), u_rows = u(head, at);
    if (item < shape.entry_slices)
      return join(u_rows, s.c + slot(head, at), q, n, entries(item), s.Rt);
    const Range<T> e = channels(item - shape.entry_slices);
    product<By::kColumn>(shape.dims, e.vectors(), n, q.data, q.ld, u_rows.data + e.begin, u_rows.ld,
                         StoreOrAdd<T>{s.R + e.begin, shape.value_stride, true});
  }
  /// A product's rows are padded to kRows; only if that leaves no room for the last row, it is summed alone.
  void join(const Matrix<const T>& a, const T* last, const Matrix<const T>& k, std::size_t n,
            Range<T> f, T* state) const {
    product<By::kColumn>(shape.channels, f.vectors(), n, a.data, a.ld, k.data + f.begin, k.ld,
                         StoreOrAdd<T>{state + f.begin, shape.ld, true});
    if (shape.channels == shape.E)
      add_rows<T>(k.columns_from(f.begin), n, f.end - f.begin, last,
                  state + shape.E * shape.ld + f.begin);
  }

  /// n keys from `first` to token `at` of the span: kappa, times its weight if asked, and v~.
  void pack_keys(std::size_t first, std::size_t n, std::size_t at, bool weighted,
                 const Worker& w) const {
    const T* weight = call.args.key_weight.row(b);
    pack_weights(weight, first, n, s.weight + at);
    pack_key_rows(call, shape, b, h, first, n, T{1}, weighted && weight ? s.weight + at : nullptr,
                  w.X, s.keys + at * shape.ld, shape.ld, s.key_inverse + at);
    const auto v = call.args.v.head(b, h);
    T* rows = s.v + at * shape.values;
    pad_rows(v[first].data(), v.stride, n, shape.E, rows, shape.values);
    for (std::size_t j = 0; j < n; ++j) rows[j * shape.values + shape.E] = 1;
  }
  /// n queries from `first` of one head, likewise: kappa and u~.
  void pack_queries(std::size_t head, std::size_t first, std::size_t n, std::size_t at,
                    const Worker& w) const {
    const std::size_t to = slot(head, at);
    pack_query_rows(call, shape, b, h * shape.heads + head, first, n, constant(), w.X,
                    s.queries + to * shape.ld, shape.ld, s.inverse + to);
    pack_output_gradients(h * shape.heads + head, first, n, s.u + to * shape.values, s.c + to);
  }
  /// u~ of n queries: rows [u, c] and zeros.
  void pack_output_gradients(std::size_t head, std::size_t first, std::size_t n, T* rows,
                             T* c) const {
    constexpr std::size_t L = kLanes<T>;
    const Tag<T> d;
    const auto d_o = call.args.d_o.head(b, head);
    const auto o = call.args.o.head(b, head);
    alignas(64) T inverse[kPanel], through_g[kPanel];
    output_factors(call, shape, b, head, first, n, inverse, through_g);
    for (std::size_t lane = 0; lane < n; lane += L) {
      const auto token = [&](std::size_t j) {
        return static_cast<std::int64_t>(first + std::min(lane + j, n - 1));
      };
      const auto dot = sum_rows<T>(
          shape.E, [&](std::size_t) HWY_ATTR { return hn::Zero(d); },
          [&](std::size_t j, std::size_t e, std::size_t count, Vec<T> sum) HWY_ATTR {
            const auto u_e =
                hn::Mul(load_n(d_o[token(j)].data() + e, count), hn::Set(d, inverse[lane + j]));
            hn::StoreU(u_e, d, rows + (lane + j) * shape.values + e);
            return hn::MulAdd(u_e, load_n(o[token(j)].data() + e, count), sum);
          });
      hn::StoreU(hn::Neg(hn::Mul(dot, hn::Load(d, through_g + lane))), d, c + lane);
      for (std::size_t j = lane; j < std::min(lane + L, n); ++j) {
        T* row = rows + j * shape.values;
        std::fill(row + shape.E, row + shape.values, T{0});
        row[shape.E] = c[j];
      }
    }
  }

  void write_dq(std::size_t head, std::size_t first, std::size_t at, std::size_t n,
                const Worker& w) const {
    const std::size_t from = slot(head, at);
    const auto dq = call.args.dq.head(b, h * shape.heads + head);
    RowUnpacker<T>(query_kappa<T>(call, shape, b, h * shape.heads + head), shape.D, shape.ld, w.X,
                   w.dX)
        .unpack(s.dX + from * shape.ld, s.queries + from * shape.ld, s.inverse + from, nullptr, n,
                dq[first].data(), static_cast<std::size_t>(dq.stride));
  }
  void write_dk(std::size_t first, std::size_t at, std::size_t n, const Worker& w) const {
    const auto dk = call.args.dk.head(b, h);
    RowUnpacker<T>(key_kappa<T>(call, shape, b, h), shape.D, shape.ld, w.X, w.dX)
        .unpack(s.dX + at * shape.ld, s.keys + at * shape.ld, s.key_inverse + at, s.weight + at, n,
                dk[first].data(), static_cast<std::size_t>(dk.stride));
  }

  /// What states bring along. The constant's row of M~, where its coefficient would stand, is never read.
  void load() const {
    const std::size_t size = (shape.channels + 1) * shape.ld;
    std::fill_n(s.M, size, T{0});
    std::fill_n(s.Rt, size, T{0});
    std::fill_n(s.R, shape.dims * shape.value_stride, T{0});
    const T* past = call.initial_state.head(b, h);
    const T* future = call.args.d_final_state.head(b, h);
    for (std::size_t f = 0; f < shape.K; ++f) {
      for (std::size_t e = 0; e <= shape.E; ++e) {
        const std::size_t from = f * (shape.E + 1) + e, to = e * shape.ld + f;
        if (past) s.M[to] = past[from];
        if (future) s.Rt[to] = future[from];
        if (future && e < shape.E) s.R[f * shape.value_stride + e] = future[from];
      }
    }
  }
  void store() const {
    const auto& out = call.args.d_initial_state;
    if (!out.data) return;
    T* to = out.head(b, h);
    std::fill_n(to, static_cast<std::size_t>(out.F) * (shape.E + 1), T{0});
    for (std::size_t f = 0; f < shape.K; ++f, to += shape.E + 1) {
      std::copy_n(s.R + f * shape.value_stride, shape.E, to);
      to[shape.E] = s.Rt[shape.E * shape.ld + f];
    }
  }

  T constant() const { return static_cast<T>(call.unit_coefficients()[0]); }
  std::size_t slot(std::size_t head, std::size_t at) const {
    return head * shape.span * kPanel + at;
  }
  T* in_block(T* all, std::size_t head, std::size_t at) const {
    return all + slot(head, at) * kBlock;
  }
  Matrix<const T> keys(std::size_t at) const { return {s.keys + at * shape.ld, shape.ld}; }
  Matrix<const T> values(std::size_t at) const { return {s.v + at * shape.values, shape.values}; }
  Matrix<const T> queries(std::size_t head, std::size_t at) const {
    return {s.queries + slot(head, at) * shape.ld, shape.ld};
  }
  Matrix<const T> u(std::size_t head, std::size_t at) const {
    return {s.u + slot(head, at) * shape.values, shape.values};
  }
};

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // FASTMAX_CPU_LINEAR_GRADIENT_INL_H_
