// One token of decoding: the state is read and written once.
//
//   S_f += w phi_f(k) [v, 1],   [num, den] = sum_f w_f phi_f(q) S_f,   o = num / den
//
// Memory-bound: F (E + 1) numbers come and go, with two multiply-adds each. Rows keep the caller's layout, E + 1 long.
// Of 48 rows at a time, the features are formed first, lanes are features; then sums over rows stay in registers, and
// further queries of a group find the rows in L1.
#include <algorithm>
#include <cstddef>
#include <type_traits>

#include "src/cpu/features.h"
#include "src/cpu/kernels.h"
#include "src/cpu/scratch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/cpu/step.cc"
#include "hwy/foreach_target.h"  // re-includes this file once per instruction set
#include "hwy/highway.h"
#include "src/cpu/tokens-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

template <class T>
class Step {
 public:
  using Scratch = StepScratch<T>;

  Step(const StepCall<T>& call, const Team&, std::byte* workspace)
      : call_(call), shape_(call), workspace_(workspace) {}

  void run(const Team& team) const {
    const auto& table = feature_table(call_.p, shape_.K);
    Arena arena(workspace_);
    T* weight = arena.take<T>(table.padded_count());
    feature_weights(table, call_.unit_coefficients(), weight);
    std::byte* const scratch = workspace_ + arena.used();
    const std::size_t bytes = bytes_of<Scratch>(shape_);
    team.for_each(shape_.groups, [&](std::size_t worker, std::size_t group) {
      Arena own(scratch + worker * bytes);
      advance(table, weight, group / shape_.Hkv, group % shape_.Hkv, Scratch(own, shape_));
    });
  }

 private:
  static constexpr std::size_t kMostVectors = 5;  // across: E = 64 and its denominator at once

  void advance(const FeatureTable& table, const T* weight, std::size_t b, std::size_t h,
               const Scratch& s) const {
    const std::size_t columns = shape_.E + 1, ld = padded<T>(columns);
    pack_keys(call_, shape_, b, h, 0, 1, s.panel, static_cast<T*>(nullptr));
    gather(s.panel, s.key);
    for (std::size_t i = 0; i < shape_.heads; ++i) {
      pack_queries(call_, shape_, b, h * shape_.heads + i, 0, 1, s.panel, static_cast<T*>(nullptr));
      gather(s.panel, s.queries + i * padded<T>(shape_.K));
    }
    const T* key_weight = call_.args.key_weight.row(static_cast<std::int64_t>(b));
    const auto v = call_.args.v.head(static_cast<std::int64_t>(b), static_cast<std::int64_t>(h))[0];
    for (std::size_t e = 0; e < shape_.E; ++e)
      s.value[e] = key_weight ? key_weight[0] * v[e] : v[e];
    s.value[shape_.E] = key_weight ? key_weight[0] : T{1};
    std::fill_n(s.sums, shape_.heads * ld, T{0});

    T* const state =
        call_.args.state.head(static_cast<std::int64_t>(b), static_cast<std::int64_t>(h));
    for (const FeatureBlock& block : table.blocks) {
      T* const rows = state + block.first * columns;
      form(block, s.key, s.phi);
      for (std::size_t q = 0; q < shape_.heads; ++q) {
        form(block, s.queries + q * padded<T>(shape_.K), s.reading);
        for (std::size_t f = 0; f < block.count; ++f) s.reading[f] *= weight[block.first + f];
        if (q == 0) {
          read<true>(rows, block.count, s.value, s.phi, s.reading, s.sums);
        } else {
          read<false>(rows, block.count, s.value, s.phi, s.reading, s.sums + q * ld);
        }
      }
    }
    for (std::size_t q = 0; q < shape_.heads; ++q) write(b, h, q, s.sums + q * ld);
  }

  /// The panel's only token as a row.
  void gather(const T* panel, T* x) const {
    for (std::size_t j = 0; j < shape_.K; ++j) x[j] = panel[j * kPanel];
  }

  /// phi_f(x) of a block; up to kLanes - 1 numbers behind them are written, and as many behind x are read.
  void form(const FeatureBlock& block, const T* x, T* phi) const {
    const Tag<T> d;
    for (const Segment* s = block.begin; s != block.end; ++s) {
      T common = 1;
      for (int i = 0; i + 1 < call_.p; ++i) common *= x[s->prefix[i]];
      const auto factor = hn::Set(d, common);
      for (std::size_t i = 0; i < static_cast<std::size_t>(s->count); i += kLanes<T>) {
        hn::StoreU(hn::Mul(factor, hn::LoadU(d, x + s->b + i)), d, phi + s->first + i);
      }
    }
  }

  /// Rows of a block: S_f += phi_f value, if kJoin, and sums += reading_f S_f.
  template <bool kJoin>
  void read(T* rows, std::size_t count, const T* value, const T* phi, const T* reading,
            T* sums) const {
    const std::size_t all = divide_up(shape_.E + 1, kLanes<T>);
    for (std::size_t first = 0; first < all;) {
      const std::size_t left = all - first;
      // The last vector is never alone: it meets its neighbour's numbers as they were.
      const std::size_t vectors = left <= kMostVectors ? left : std::min(kMostVectors, left - 2);
      const bool last = vectors == left;
      const auto of = [&](auto width) {
        read_vectors<width(), kJoin>(rows, count, first, last, value, phi, reading, sums);
      };
      switch (vectors) {
        case 1:
          of(std::integral_constant<std::size_t, 1>());
          break;
        case 2:
          of(std::integral_constant<std::size_t, 2>());
          break;
        case 3:
          of(std::integral_constant<std::size_t, 3>());
          break;
        case 4:
          of(std::integral_constant<std::size_t, 4>());
          break;
        default:
          of(std::integral_constant<std::size_t, kMostVectors>());
      }
      first += vectors;
    }
  }

  /// Z vectors across from vector `first`. The last of a row ends with it and repeats what its neighbour computes: a
  /// masked store would hold up the next row's load. sums is [vectors][kLanes].
  template <std::size_t Z, bool kJoin>
  HWY_INLINE void read_vectors(T* HWY_RESTRICT row, std::size_t count, std::size_t first, bool last,
                               const T* HWY_RESTRICT value, const T* HWY_RESTRICT phi,
                               const T* HWY_RESTRICT reading, T* HWY_RESTRICT sums) const {
    const Tag<T> d;
    const std::size_t columns = shape_.E + 1, n = std::min(columns, kLanes<T>);
    std::size_t at[Z];
    Vec<T> v[Z], sum[Z];
    for (std::size_t z = 0; z < Z; ++z) {
      at[z] = last && z + 1 == Z ? columns - n : (first + z) * kLanes<T>;
      v[z] = hn::LoadU(d, value + at[z]);
      sum[z] = hn::LoadU(d, sums + (first + z) * kLanes<T>);
    }
    for (std::size_t f = 0; f < count; ++f, row += columns) {
      const auto phi_f = hn::Set(d, phi[f]), reading_f = hn::Set(d, reading[f]);
      Vec<T> S[Z];
      HWY_UNROLL(kMostVectors)
      for (std::size_t z = 0; z < Z; ++z) S[z] = load_n(row + at[z], n);
      HWY_UNROLL(kMostVectors)
      for (std::size_t z = 0; z < Z; ++z) {
        if constexpr (kJoin) {
          S[z] = hn::MulAdd(phi_f, v[z], S[z]);
          store_n(S[z], row + at[z], n);
        }
        sum[z] = hn::MulAdd(reading_f, S[z], sum[z]);
      }
    }
    for (std::size_t z = 0; z < Z; ++z) hn::StoreU(sum[z], d, sums + (first + z) * kLanes<T>);
  }

  /// Where `sums` has column e.
  std::size_t place(std::size_t e) const {
    const std::size_t columns = shape_.E + 1, whole = shape_.E / kLanes<T> * kLanes<T>;
    return e < whole || columns < kLanes<T> ? e : e + whole + kLanes<T> - columns;
  }

  void write(std::size_t b, std::size_t h, std::size_t q, const T* sums) const {
    const T* state =
        call_.args.state.head(static_cast<std::int64_t>(b), static_cast<std::int64_t>(h));
    const T denominator = call_.floored(static_cast<T>(call_.score.leading) * sums[place(shape_.E)],
                                        state[shape_.E], b * shape_.H + h * shape_.heads + q);
    const T factor = denominator > 0 ? static_cast<T>(call_.score.leading) / denominator : T{0};
    const auto o = call_.args.o.head(static_cast<std::int64_t>(b),
                                     static_cast<std::int64_t>(h * shape_.heads + q))[0];
    for (std::size_t e = 0; e < shape_.E; ++e) o[e] = factor * sums[place(e)];
  }

  const StepCall<T>& call_;
  const Geometry shape_;
  std::byte* const workspace_;
};

FASTMAX_INSTANTIATE(step, StepCall, Step)

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fastmax::cpu {
FASTMAX_DISPATCH(step, StepCall)

template <class T>
std::size_t step_bytes(const StepCall<T>& call, std::size_t threads) {
  const Geometry shape(call);
  Arena weight;
  weight.take<T>(feature_table(call.p, shape.K).padded_count());
  return weight.used() + threads * bytes_of<StepScratch<T>>(shape);
}
FASTMAX_WORKSPACE(step, StepCall)
}  // namespace fastmax::cpu
#endif
