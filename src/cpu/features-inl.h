// Features formed in lanes = tokens, block by block, and gradients taken back through them.
#include <cstddef>

#include "hwy/highway.h"
#include "src/cpu/features.h"
#include "src/cpu/layout.h"

#if defined(FASTMAX_CPU_FEATURES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FASTMAX_CPU_FEATURES_INL_H_
#undef FASTMAX_CPU_FEATURES_INL_H_
#else
#define FASTMAX_CPU_FEATURES_INL_H_
#endif

#include "src/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

/// Vectors of one group of lanes that are walked together.
inline constexpr std::size_t kGroup = 4;

template <class T>
inline constexpr std::size_t kGroupLanes = kGroup* kLanes<T>;

/// The product of a run's common factors, times `lane_weight` if given.
template <class T>
HWY_INLINE void common_factor(const Segment& s, int p, const T* X, const T* lane_weight,
                              Vec<T> (&common)[kGroup]) {
  const Tag<T> d;
  HWY_UNROLL(4)
  for (std::size_t z = 0; z < kGroup; ++z) {
    common[z] = lane_weight ? hn::LoadU(d, lane_weight + z * kLanes<T>) : hn::Set(d, T{1});
  }
  for (int i = 0; i + 1 < p; ++i) {
    const T* factor = X + static_cast<std::size_t>(s.prefix[i]) * kPanel;
    HWY_UNROLL(4)
    for (std::size_t z = 0; z < kGroup; ++z) {
      common[z] = hn::Mul(common[z], hn::LoadU(d, factor + z * kLanes<T>));
    }
  }
}

/// S[f][n] = phi_f(token n) for a block of features and `n` tokens of the panel X; visit(f, values,
/// lane) sees each feature while it is in registers. Rows behind the block's last are zeroed up to rows().
template <class T, class Visitor>
HWY_INLINE void form(const FeatureBlock& block, int p, std::size_t n, const T* X,
                     const T* lane_weight, T* S, Visitor& visitor) {
  const Tag<T> d;
  for (std::size_t lane = 0; lane < n; lane += kGroupLanes<T>) {
    visitor.begin(lane);
    for (const Segment* s = block.begin; s != block.end; ++s) {
      Vec<T> common[kGroup];
      common_factor<T>(*s, p, X + lane, lane_weight ? lane_weight + lane : nullptr, common);
      const T* x = X + static_cast<std::size_t>(s->b) * kPanel + lane;
      T* to = S + static_cast<std::size_t>(s->first) * kPanel + lane;
      for (int i = 0; i < s->count; ++i, x += kPanel, to += kPanel) {
        Vec<T> value[kGroup];
        HWY_UNROLL(4)
        for (std::size_t z = 0; z < kGroup; ++z) {
          value[z] = hn::Mul(common[z], hn::LoadU(d, x + z * kLanes<T>));
          hn::StoreU(value[z], d, to + z * kLanes<T>);
        }
        visitor.feature(static_cast<std::size_t>(s->first + i), value);
      }
    }
    visitor.end(lane);
    for (std::size_t f = block.count; f < block.rows(); ++f) {
      HWY_UNROLL(4)
      for (std::size_t z = 0; z < kGroup; ++z) {
        hn::StoreU(hn::Zero(d), d, S + f * kPanel + lane + z * kLanes<T>);
      }
    }
  }
}

/// y[f] += weight[f] * sum_n S[f][n] c[n]: the state's column for the ones of v~ = [v, 1].
template <class T>
class SumOverTokens {
 public:
  /// c == nullptr: all ones.
  SumOverTokens(const T* c, std::size_t count) : c_(c), count_(count) {}

  HWY_INLINE void begin(std::size_t lane) {
    first_ = lane == 0;
    HWY_UNROLL(4)
    for (std::size_t z = 0; z < kGroup; ++z) {
      factor_[z] = c_ ? hn::LoadU(Tag<T>(), c_ + lane + z * kLanes<T>) : hn::Set(Tag<T>(), T{1});
    }
  }
  HWY_INLINE void feature(std::size_t f, Vec<T> (&value)[kGroup]) {
    const Tag<T> d;
    const auto sum = hn::Add(hn::MulAdd(value[1], factor_[1], hn::Mul(value[0], factor_[0])),
                             hn::MulAdd(value[3], factor_[3], hn::Mul(value[2], factor_[2])));
    T* to = partial_ + f * kLanes<T>;
    hn::Store(first_ ? sum : hn::Add(sum, hn::Load(d, to)), d, to);
  }
  HWY_INLINE void end(std::size_t) {}

  /// y and weight are padded to kRows behind `count`.
  HWY_INLINE void add_to(const T* weight, T* y) {
    constexpr std::size_t L = kLanes<T>;
    const Tag<T> d;
    for (std::size_t f = 0; f < count_; f += L) {
      Vec<T> r[L];
      HWY_UNROLL(16)
      for (std::size_t i = 0; i < L; ++i) r[i] = hn::Load(d, partial_ + (f + i) * L);
      const auto sum = row_sums<T>(r);
      const std::size_t rest = count_ - f;
      store_n(hn::MulAdd(load_n(weight + f, rest), sum, load_n(y + f, rest)), y + f, rest);
    }
  }

 private:
  const T* c_;
  std::size_t count_;
  bool first_ = true;
  Vec<T> factor_[kGroup];
  alignas(
      64) T partial_[round_up(kFeatureBlock, 16) * kLanes<T>];  // rows behind count_ are not used
};

/// g[n] += sum_f y[f] S[f][n]: the denominator.
template <class T>
class DotWithState {
 public:
  DotWithState(const T* y, T* g) : y_(y), g_(g) {}

  HWY_INLINE void begin(std::size_t) {
    HWY_UNROLL(4)
    for (std::size_t z = 0; z < kGroup; ++z) sum_[z] = hn::Zero(Tag<T>());
  }
  HWY_INLINE void feature(std::size_t f, Vec<T> (&value)[kGroup]) {
    const auto y = hn::Set(Tag<T>(), y_[f]);
    HWY_UNROLL(4)
    for (std::size_t z = 0; z < kGroup; ++z) sum_[z] = hn::MulAdd(y, value[z], sum_[z]);
  }
  HWY_INLINE void end(std::size_t lane) {
    const Tag<T> d;
    HWY_UNROLL(4)
    for (std::size_t z = 0; z < kGroup; ++z) {
      T* to = g_ + lane + z * kLanes<T>;
      hn::StoreU(hn::Add(hn::LoadU(d, to), sum_[z]), d, to);
    }
  }

 private:
  const T* y_;
  T* g_;
  Vec<T> sum_[kGroup];
};

template <class T>
struct NoVisitor {
  HWY_INLINE void begin(std::size_t) {}
  HWY_INLINE void feature(std::size_t, Vec<T> (&)[kGroup]) {}
  HWY_INLINE void end(std::size_t) {}
};

/// dX[j][n] += sum_f t[f][n] d phi_f / d kappa_j, for a block: the product rule, one factor after the other.
template <class T>
HWY_INLINE void contract(const FeatureBlock& block, int p, std::size_t n, const T* X, const T* t,
                         T* dX) {
  const Tag<T> d;
  const auto add = [&](int j, std::size_t lane, const Vec<T>(&v)[kGroup]) HWY_ATTR {
    T* to = dX + static_cast<std::size_t>(j) * kPanel + lane;
    HWY_UNROLL(4)
    for (std::size_t z = 0; z < kGroup; ++z) {
      hn::StoreU(hn::Add(hn::LoadU(d, to + z * kLanes<T>), v[z]), d, to + z * kLanes<T>);
    }
  };
  for (std::size_t lane = 0; lane < n; lane += kGroupLanes<T>) {
    for (const Segment* s = block.begin; s != block.end; ++s) {
      Vec<T> common[kGroup], d_common[kGroup];
      common_factor<T>(*s, p, X + lane, nullptr, common);
      HWY_UNROLL(4)
      for (std::size_t z = 0; z < kGroup; ++z) d_common[z] = hn::Zero(d);
      const T* x = X + static_cast<std::size_t>(s->b) * kPanel + lane;
      T* dx = dX + static_cast<std::size_t>(s->b) * kPanel + lane;
      const T* t_f = t + static_cast<std::size_t>(s->first) * kPanel + lane;
      for (int i = 0; i < s->count; ++i, x += kPanel, dx += kPanel, t_f += kPanel) {
        HWY_UNROLL(4)
        for (std::size_t z = 0; z < kGroup; ++z) {
          const std::size_t at = z * kLanes<T>;
          const auto v = hn::LoadU(d, t_f + at);
          hn::StoreU(hn::MulAdd(common[z], v, hn::LoadU(d, dx + at)), d, dx + at);
          d_common[z] = hn::MulAdd(hn::LoadU(d, x + at), v, d_common[z]);
        }
      }
      // Each common factor in turn: the product of the others times d_common.
      for (int i = 0; i + 1 < p; ++i) {
        Vec<T> others[kGroup];
        HWY_UNROLL(4)
        for (std::size_t z = 0; z < kGroup; ++z) others[z] = d_common[z];
        for (int j = 0; j + 1 < p; ++j) {
          if (j == i) continue;
          const T* factor = X + static_cast<std::size_t>(s->prefix[j]) * kPanel + lane;
          HWY_UNROLL(4)
          for (std::size_t z = 0; z < kGroup; ++z) {
            others[z] = hn::Mul(others[z], hn::LoadU(d, factor + z * kLanes<T>));
          }
        }
        add(s->prefix[i], lane, others);
      }
    }
  }
}

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // FASTMAX_CPU_FEATURES_INL_H_
