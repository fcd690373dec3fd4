// One token of decoding: the state is read and written once, row by row.
//
//   S_f += w phi_f(k) [v, 1],   [num, den] = sum_f w_f phi_f(q) S_f,   o = num / den
//
// Memory-bound: F (E + 1) numbers come and go, with two multiply-adds each. Rows keep the caller's layout, E + 1 long.
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
    const std::size_t bytes = bytes_of<Scratch>(shape_);
    team.for_each(shape_.groups, [&](std::size_t worker, std::size_t group) {
      Arena arena(workspace_ + worker * bytes);
      advance(table, group / shape_.Hkv, group % shape_.Hkv, Scratch(arena, shape_));
    });
  }

 private:
  void advance(const FeatureTable& table, std::size_t b, std::size_t h, const Scratch& s) const {
    const std::size_t columns = shape_.E + 1;
    pack_keys(call_, shape_, b, h, 0, 1, s.panel, static_cast<T*>(nullptr));
    for (std::size_t j = 0; j < shape_.K; ++j) s.key[j] = s.panel[j * kPanel];
    for (std::size_t i = 0; i < shape_.heads; ++i) {
      pack_queries(call_, shape_, b, h * shape_.heads + i, 0, 1, s.panel, static_cast<T*>(nullptr));
      for (std::size_t j = 0; j < shape_.K; ++j) s.queries[i * shape_.K + j] = s.panel[j * kPanel];
    }
    const T* weight = call_.args.key_weight.row(static_cast<std::int64_t>(b));
    const auto v = call_.args.v.head(static_cast<std::int64_t>(b), static_cast<std::int64_t>(h))[0];
    for (std::size_t e = 0; e < shape_.E; ++e) s.value[e] = weight ? weight[0] * v[e] : v[e];
    s.value[shape_.E] = weight ? weight[0] : T{1};
    std::fill_n(s.sums, shape_.heads * padded<T>(columns), T{0});

    const auto unit = call_.unit_coefficients();
    T* row = call_.args.state.head(static_cast<std::int64_t>(b), static_cast<std::int64_t>(h));
    std::size_t f = 0;
    for (const Segment& segment : table.segments) {
      T key_common = 1;
      for (int i = 0; i + 1 < call_.p; ++i) key_common *= s.key[segment.prefix[i]];
      for (std::size_t q = 0; q < shape_.heads; ++q) {
        s.common[q] = 1;
        for (int i = 0; i + 1 < call_.p; ++i)
          s.common[q] *= s.queries[q * shape_.K + segment.prefix[i]];
      }
      for (int i = 0; i < segment.count; ++i, ++f, row += columns) {
        const T w =
            static_cast<T>(unit[table.degree[f]] * static_cast<double>(table.multiplicity[f]));
        add_row(key_common * s.key[segment.b + i], s.value, columns, row);
        for (std::size_t q = 0; q < shape_.heads; ++q) {
          add_row(w * s.common[q] * s.queries[q * shape_.K + segment.b + i], row, columns,
                  s.sums + q * padded<T>(columns));
        }
      }
    }
    for (std::size_t q = 0; q < shape_.heads; ++q) write(b, h, q, s.sums + q * padded<T>(columns));
  }

  /// to += a x
  static HWY_INLINE void add_row(T a, const T* HWY_RESTRICT x, std::size_t n, T* HWY_RESTRICT to) {
    const Tag<T> d;
    const auto factor = hn::Set(d, a);
    std::size_t i = 0;
    for (; i + kLanes<T> <= n; i += kLanes<T>) {
      hn::StoreU(hn::MulAdd(factor, hn::LoadU(d, x + i), hn::LoadU(d, to + i)), d, to + i);
    }
    for (; i < n; ++i) to[i] += a * x[i];
  }

  void write(std::size_t b, std::size_t h, std::size_t q, const T* sums) const {
    const T* state =
        call_.args.state.head(static_cast<std::int64_t>(b), static_cast<std::int64_t>(h));
    const T floor = call_.floors ? kDenominatorFloor<T> * state[shape_.E] : T{0};
    const T denominator = std::max(static_cast<T>(call_.score.leading) * sums[shape_.E], floor);
    const T factor = denominator > 0 ? static_cast<T>(call_.score.leading) / denominator : T{0};
    const auto o = call_.args.o.head(static_cast<std::int64_t>(b),
                                     static_cast<std::int64_t>(h * shape_.heads + q))[0];
    for (std::size_t e = 0; e < shape_.E; ++e) o[e] = factor * sums[e];
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
  return threads * bytes_of<StepScratch<T>>(Geometry(call));
}
FASTMAX_WORKSPACE(step, StepCall)
}  // namespace fastmax::cpu
#endif
