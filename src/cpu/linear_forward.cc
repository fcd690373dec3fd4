// The factorised form for p = 1, forward: features are kappa itself, so the state is a D x E matrix and everything is
// a product of rows.
//
//   M = sum_m w_m kappa_m v_m^T,  y = sum_m w_m kappa_m              o_n = kappa_n^T M / kappa_n . y
//
// The constant's coefficient c_0 / c_1 stands in slot 0 of the keys' kappa. Work is so little that normalising tokens is
// a third of it at D = 32; tokens and outputs stay rows, because transposing them would cost as much again.
//
// Causal, block by block of kBlock tokens: with M and y of the tokens before,
//
//   S = Q K^T inside the block, masked          O = S V + Q M,   g = S 1 + Q y          then M += K^T V,  y += K^T 1
//
// One head over several threads: panels are packed in parallel; then each thread owns some of the value channels.
#include "src/cpu/kernels.h"
#include "src/cpu/linear_scratch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/cpu/linear_forward.cc"
#include "hwy/foreach_target.h"  // re-includes this file once per instruction set
#include "hwy/highway.h"
#include "src/cpu/linear-inl.h"
#include "src/cpu/output-inl.h"
#include "src/cpu/state-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

template <class T>
class LinearForward {
 public:
  using Shared = LinearForwardShared<T>;
  using Worker = LinearForwardWorker<T>;

  LinearForward(const ForwardCall<T>& call, const Team& team, std::byte* workspace)
      : call_(call), shape_(call, team.size()), workspace_(workspace) {}

  void run(const Team& team) const {
    run_groups<Shared, Worker>(
        shape_, team, workspace_,
        [&](std::size_t group, const Shared& shared, const auto& workers, const Team& inner) {
          const std::size_t b = group / shape_.Hkv, h = group % shape_.Hkv;
          shared.weight.fill(call_, shape_.table, b, h);
          load_state(call_, shape_, call_.initial_state.head(b, h), true, shared.state);
          for (std::size_t i = 0; i < shape_.slices; ++i) {
            std::fill_n(shared.y + i * shape_.ld, shape_.ld, T{0});
            std::copy_n(shared.state.y, shape_.K, shared.y + i * shape_.ld);
          }
          const std::size_t before =
              call_.causal ? static_cast<std::size_t>(shape_.offset) : shape_.M;
          for (std::size_t first = 0; first < before; first += shape_.span * kPanel) {
            join(b, h, first, std::min(before, first + shape_.span * kPanel), shared, workers,
                 inner);
          }
          if (call_.causal) {
            for (std::size_t first = 0; first < shape_.N; first += shape_.span * kPanel) {
              scan(b, h, first, std::min(shape_.N, first + shape_.span * kPanel), shared, workers,
                   inner);
            }
          } else {
            read_all(b, h, shared, workers, inner);
          }
          if (const auto& out = call_.args.final_state; out.data) {
            std::copy_n(shared.y, shape_.K, shared.state.y);
            store_state(call_, shape_, shared.state, true, static_cast<std::size_t>(out.F),
                        out.head(b, h));
          }
        });
  }

 private:
  /// Keys [first, last), at most a span, join the state.
  template <class WorkersOf>
  void join(std::size_t b, std::size_t h, std::size_t first, std::size_t last, const Shared& shared,
            const WorkersOf& workers, const Team& team) const {
    team.for_each(divide_up(last - first, kPanel), [&](std::size_t worker, std::size_t i) {
      const std::size_t at = i * kPanel;
      pack_keys_at(b, h, first + at, std::min(kPanel, last - first - at), at, shared,
                   workers[worker]);
    });
    team.for_each(shape_.slices, [&](std::size_t, std::size_t slice) {
      for (std::size_t at = 0; at < last - first; at += kPanel) {
        join_rows(values(b, h, first + at, at, shared), std::min(kPanel, last - first - at), at,
                  slice, shared);
      }
    });
  }

  /// Unmasked: every query of every head reads the state.
  template <class WorkersOf>
  void read_all(std::size_t b, std::size_t h, const Shared& shared, const WorkersOf& workers,
                const Team& team) const {
    team.for_each(shape_.heads * shape_.query_panels, [&](std::size_t worker, std::size_t item) {
      const Worker w = workers[worker];
      const std::size_t head = h * shape_.heads + item / shape_.query_panels,
                        panel = item % shape_.query_panels, n = panel_tokens(shape_.N, panel);
      pack_query_rows(call_, shape_, b, head, panel * kPanel, n, T{1}, w.X, w.queries, shape_.ld,
                      static_cast<T*>(nullptr));
      read(b, head, panel * kPanel, n, w.queries, nullptr, {}, shared.y, {0, shape_.columns},
           shared);
    });
  }

  /// Causal: queries [first, last), at most a span, and the keys that stand with them.
  template <class WorkersOf>
  void scan(std::size_t b, std::size_t h, std::size_t first, std::size_t last, const Shared& shared,
            const WorkersOf& workers, const Team& team) const {
    const std::size_t tokens = last - first, offset = static_cast<std::size_t>(shape_.offset);
    team.for_each(divide_up(tokens, kPanel), [&](std::size_t worker, std::size_t i) {
      const Worker w = workers[worker];
      const std::size_t at = i * kPanel, n = std::min(kPanel, tokens - at);
      pack_keys_at(b, h, offset + first + at, n, at, shared, w);
      for (std::size_t head = 0; head < shape_.heads; ++head) {
        pack_query_rows(call_, shape_, b, h * shape_.heads + head, first + at, n, T{1}, w.X,
                        queries(shared, head, at), shape_.ld, static_cast<T*>(nullptr));
      }
      for (std::size_t block = at; block < at + n; block += kBlock) score(block, shared, w);
    });
    team.for_each(shape_.slices, [&](std::size_t worker, std::size_t slice) {
      T* const o = workers[worker].o;
      const Range<T> c = channels(slice);
      for (std::size_t at = 0; at < tokens; at += kBlock) {
        const std::size_t n = std::min(kBlock, tokens - at);
        const Matrix<const T> v = values(b, h, offset + first + at, at, shared);
        for (std::size_t head = 0; head < shape_.heads; ++head) {
          const T* S = scores(shared, head, at);
          meet_earlier<T>({S, kBlock}, n, v.columns_from(c.begin), c.vectors(),
                          {o + c.begin, shape_.value_stride});
          read(b, h * shape_.heads + head, first + at, n, queries(shared, head, at), S,
               {o + c.begin, shape_.value_stride}, y(shared, slice), c, shared);
        }
        join_rows(v, n, at, slice, shared);
      }
    });
  }

  Range<T> channels(std::size_t slice) const {
    return channel_range<T>(shape_, slice, shape_.slices);
  }

  /// S of the queries of every head against the keys of their block, at token `at` of the span.
  void score(std::size_t at, const Shared& shared, const Worker& w) const {
    transpose_block<T>(keys(shared, at), shape_.K, w.keys);
    for (std::size_t head = 0; head < shape_.heads; ++head) {
      product<By::kRow>(kBlock, kBlock / kLanes<T>, shape_.K, queries(shared, head, at), shape_.ld,
                        w.keys, kBlock,
                        StoreVisible<T, Lanes::kKeys>{{scores(shared, head, at), kBlock, false}});
    }
  }

  /// n queries of one head from `first` read the state, beside what they saw in their block: S, if there is one.
  void read(std::size_t b, std::size_t head, std::size_t first, std::size_t n, const T* q,
            const T* S, const Matrix<const T>& in_block, const T* y, Range<T> c,
            const Shared& shared) const {
    alignas(64) T g[kPanel], inverse[kPanel];
    for (std::size_t lane = 0; lane < n; lane += kLanes<T>)
      dot_with_ones(q + lane * shape_.ld, S ? S + lane * kBlock : nullptr, y, g + lane);
    invert_denominators(call_, shape_, b, head, first, n, g, inverse, c.begin == 0);
    const auto o = call_.args.o.head(b, head);
    product<By::kRow>(round_up(n, kRows), c.vectors(), shape_.K, q, shape_.ld,
                      shared.state.M + c.begin, shape_.value_stride,
                      WriteRows<T>{in_block,
                                   inverse,
                                   {o[first].data() + c.begin, static_cast<std::size_t>(o.stride)},
                                   n,
                                   shape_.E - c.begin});
  }

  /// g of one vector of queries: S 1 + Q y.
  void dot_with_ones(const T* q, const T* S, const T* y, T* g) const {
    const Tag<T> d;
    const std::size_t ld = shape_.ld;
    const auto sum = sum_rows<T>(
        shape_.K,
        [&](std::size_t j) HWY_ATTR {
          auto in_block = hn::Zero(d);
          for (std::size_t m = 0; S && m < kBlock; m += kLanes<T>)
            in_block = hn::Add(in_block, hn::LoadU(d, S + j * kBlock + m));
          return in_block;
        },
        [&](std::size_t j, std::size_t i, std::size_t n, Vec<T> sum)
            HWY_ATTR { return hn::MulAdd(load_n(q + j * ld + i, n), load_n(y + i, n), sum); });
    hn::Store(sum, d, g);
  }

  /// M += K^T V and, for this slice's own copy, y += K^T 1, over n keys at token `at` of the span.
  void join_rows(const Matrix<const T>& v, std::size_t n, std::size_t at, std::size_t slice,
                 const Shared& shared) const {
    const Range<T> c = channels(slice);
    const Matrix<const T> k = keys(shared, at);
    product<By::kColumn>(shape_.dims, c.vectors(), n, k.data, k.ld, v.data + c.begin, v.ld,
                         StoreOrAdd<T>{shared.state.M + c.begin, shape_.value_stride, true});
    add_rows<T>(k, n, shape_.K, nullptr, y(shared, slice));
  }

  /// n keys from `first` to the rows at token `at` of the span.
  void pack_keys_at(std::size_t b, std::size_t h, std::size_t first, std::size_t n, std::size_t at,
                    const Shared& shared, const Worker& w) const {
    alignas(64) T weight[kPanel];
    const T* given = call_.args.key_weight.row(b);
    if (given) pack_weights(given, first, n, weight);
    pack_key_rows(call_, shape_, b, h, first, n, static_cast<T>(call_.unit_coefficients()[0]),
                  given ? weight : nullptr, w.X, shared.keys + at * shape_.ld, shape_.ld,
                  static_cast<T*>(nullptr));
    if (!values_in_place<T>(shape_)) {
      const auto v = call_.args.v.head(b, h);
      pad_rows(v[first].data(), v.stride, n, shape_.E, shared.values + at * shape_.value_stride,
               shape_.value_stride);
    }
  }
  Matrix<const T> values(std::size_t b, std::size_t h, std::size_t first, std::size_t at,
                         const Shared& shared) const {
    const auto v = call_.args.v.head(b, h);
    if (values_in_place<T>(shape_)) return {v[first].data(), static_cast<std::size_t>(v.stride)};
    return {shared.values + at * shape_.value_stride, shape_.value_stride};
  }

  Matrix<const T> keys(const Shared& shared, std::size_t at) const {
    return {shared.keys + at * shape_.ld, shape_.ld};
  }
  T* y(const Shared& shared, std::size_t slice) const { return shared.y + slice * shape_.ld; }
  T* queries(const Shared& shared, std::size_t head, std::size_t at) const {
    return shared.queries + (head * shape_.span * kPanel + at) * shape_.ld;
  }
  T* scores(const Shared& shared, std::size_t head, std::size_t at) const {
    return shared.S + (head * shape_.span * kPanel + at) * kBlock;
  }

  const ForwardCall<T>& call_;
  const LinearShape shape_;
  std::byte* const workspace_;
};

FASTMAX_INSTANTIATE(linear_forward, ForwardCall, LinearForward)

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fastmax::cpu {
FASTMAX_DISPATCH(linear_forward, ForwardCall)

template <class T>
std::size_t linear_forward_bytes(const ForwardCall<T>& call, std::size_t threads) {
  return groups_workspace<LinearForwardShared<T>, LinearForwardWorker<T>>(
      LinearShape(call, threads), threads);
}
FASTMAX_WORKSPACE(linear_forward, ForwardCall)
}  // namespace fastmax::cpu
#endif
