#include "src/check.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>

#include "src/dropout.h"
#include "src/overlap.h"

namespace fastmax {
namespace {

template <class T>
bool empty(const BhndView<T>& x) {
  return x.B == 0 || x.H == 0 || x.N == 0 || x.D == 0;
}

/// No output shares memory with an input, with another output or with itself.
void check_apart(std::initializer_list<Memory> outputs, std::initializer_list<Memory> inputs) {
  for (const auto* out = outputs.begin(); out != outputs.end(); ++out) {
    require(out->nested(), out->name, " with strides that keep its rows apart, got steps of ",
            out->dims[0].stride, ", ", out->dims[1].stride, " and ", out->dims[2].stride, " bytes");
    for (const Memory& in : inputs) {
      require(!overlap(*out, in), out->name, " apart from ", in.name, ", got overlapping memory");
    }
    for (const auto* other = outputs.begin(); other != out; ++other) {
      require(!overlap(*out, *other), out->name, " apart from ", other->name,
              ", got overlapping memory");
    }
  }
}

/// A state that goes out may be all of the one that came in, but not a part of it.
void check_in_place(const Memory& out, const Memory& in) {
  require(out.begin == in.begin || !overlap(out, in), out.name, " apart from ", in.name,
          " or the same, got overlapping memory");
}

/// Sizes are not negative, their product and the farthest offset fit, strides and data make sense.
template <class T>
void check_view(const char* name, const BhndView<const T>& x) {
  require(x.B >= 0 && x.H >= 0 && x.N >= 0, name, " sizes >= 0, got B ", x.B, ", H ", x.H, ", N ",
          x.N);
  require(x.D >= 1, name, ".D >= 1, got ", x.D);
  require(x.stride_b >= 0 && x.stride_h >= 0 && x.stride_n >= 0, name, " strides >= 0, got ",
          x.stride_b, ", ", x.stride_h, ", ", x.stride_n);
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max() / 64;
  // N = 0 is legal, and states and sums have B H entries then, too.
  double elements = static_cast<double>(x.B) * static_cast<double>(x.H) *
                    static_cast<double>(std::max<std::int64_t>(x.N, 1)) * static_cast<double>(x.D);
  double reach = static_cast<double>(x.B) * static_cast<double>(x.stride_b) +
                 static_cast<double>(x.H) * static_cast<double>(x.stride_h) +
                 static_cast<double>(x.N) * static_cast<double>(x.stride_n) +
                 static_cast<double>(x.D);
  require(std::max(elements, reach) < static_cast<double>(kMost), name,
          " sizes whose product fits in 57 bits, got [", x.B, ", ", x.H, ", ", x.N, ", ", x.D, "]");
  require(x.data != nullptr || empty(x), name, ".data != nullptr, got nullptr for [", x.B, ", ",
          x.H, ", ", x.N, ", ", x.D, "]");
}

/// Rows of an output must not share elements.
template <class T>
void check_output(const char* name, const BhndView<T>& x) {
  check_view<T>(name, x);
  require(x.N <= 1 || x.stride_n >= x.D, name, ".stride_n >= ", name, ".D, got ", x.stride_n,
          " and ", x.D);
  require(x.H <= 1 || x.stride_h >= x.D, name, ".stride_h >= ", name, ".D, got ", x.stride_h,
          " and ", x.D);
  require(x.B <= 1 || x.stride_b >= x.D, name, ".stride_b >= ", name, ".D, got ", x.stride_b,
          " and ", x.D);
}

template <class T>
void check_same(const char* name, const BhndView<const T>& x, const char* like_name, std::int64_t B,
                std::int64_t H, std::int64_t N, std::int64_t D) {
  require(x.B == B, name, ".B == ", like_name, ".B, got ", x.B, " and ", B);
  require(x.H == H, name, ".H == ", like_name, ".H, got ", x.H, " and ", H);
  require(x.N == N, name, ".N == ", like_name, ".N, got ", x.N, " and ", N);
  require(x.D == D, name, ".D == ", like_name, ".D, got ", x.D, " and ", D);
}

template <class T, class Args>
void check_common(const Args& a, const Options& options, const BnView<const Compute<T>>& weight,
                  int threads, bool packed = false) {
  check_options<Compute<T>>(options);
  require(threads >= 0, "threads >= 0 (0: all cores), got ", threads);
  check_view<T>("q", a.q);
  check_view<T>("k", a.k);
  check_view<T>("v", a.v);
  require(a.k.B == a.q.B, "k.B == q.B, got ", a.k.B, " and ", a.q.B);
  require(a.k.D == a.q.D, "k.D == q.D, got ", a.k.D, " and ", a.q.D);
  require(a.v.B == a.q.B, "v.B == q.B, got ", a.v.B, " and ", a.q.B);
  require(a.v.H == a.k.H, "v.H == k.H, got ", a.v.H, " and ", a.k.H);
  require(a.v.N == a.k.N, "v.N == k.N, got ", a.v.N, " and ", a.k.N);
  require(a.k.H == a.q.H || (a.k.H > 0 && a.q.H % a.k.H == 0), "q.H a multiple of k.H, got ", a.q.H,
          " and ", a.k.H);
  require(packed || !options.causal || a.q.N <= a.k.N,
          "q.N <= k.N when causal (the last query sees every key), got ", a.q.N, " and ", a.k.N);
  // The state is the largest array of the library's own.
  double features = 1;
  for (int i = 1; i <= options.p; ++i) features = features * static_cast<double>(a.q.D + i) / i;
  require(features * static_cast<double>(a.v.D) < 0x1p40,
          "features of order p in D dimensions times E below 2^40, got p ", options.p, ", D ",
          a.q.D, ", E ", a.v.D);

  if (!weight.data) return;
  require(weight.B == a.k.B, "key_weight.B == k.B, got ", weight.B, " and ", a.k.B);
  require(weight.N == a.k.N, "key_weight.N == k.N, got ", weight.N, " and ", a.k.N);
  require(weight.stride_b >= 0, "key_weight.stride_b >= 0, got ", weight.stride_b);
  for (std::int64_t b = 0; b < weight.B; ++b) {
    const Compute<T>* row = weight.row(b);
    for (std::int64_t m = 0; m < weight.N; ++m) {
      require(row[m] == 0 || (row[m] >= Compute<T>(0x1p-60) && row[m] <= Compute<T>(0x1p40)),
              "key_weight 0 or in 2^-60 .. 2^40, got ", row[m], " at [", b, ", ", m, "]");
    }
  }
}

template <class T>
void check_state_view(const char* name, const StateView<const T>& x, std::int64_t B,
                      std::int64_t Hkv, std::int64_t D, std::int64_t E, const Options& options) {
  if (!x.data) return;
  require(x.B == B, name, ".B == k.B (packed: the number of sequences), got ", x.B, " and ", B);
  require(x.H == Hkv, name, ".H == k.H, got ", x.H, " and ", Hkv);
  require(x.F == state_features(options.p, D), name,
          ".F == C(D + p, p) = ", state_features(options.p, D), ", got ", x.F);
  require(x.E == E, name, ".E == v.D, got ", x.E, " and ", E);
  check_state(options, B, Hkv, D, E);
}

template <class T>
void check_denominators(const BhnView<const T>& g, std::int64_t B, std::int64_t H, std::int64_t N) {
  require(g.B == B, "g.B == q.B, got ", g.B, " and ", B);
  require(g.H == H, "g.H == q.H, got ", g.H, " and ", H);
  require(g.N == N, "g.N == q.N, got ", g.N, " and ", N);
  require(g.H <= 1 || g.stride_h >= N, "g.stride_h >= g.N, got ", g.stride_h, " and ", N);
  require(g.B <= 1 || g.stride_b >= N, "g.stride_b >= g.N, got ", g.stride_b, " and ", N);
}

template <class T>
void check_forward(const ForwardArgs<T>& a, const Options& options, int threads,
                   std::int64_t states, bool packed) {
  check_common<T>(a, options, a.key_weight, threads, packed);
  check_output("o", a.o);
  check_same<T>("o", a.o, "q", a.q.B, a.q.H, a.q.N, a.o.D);
  require(a.o.D == a.v.D, "o.D == v.D, got ", a.o.D, " and ", a.v.D);
  if (a.g.data) check_denominators<Compute<T>>(a.g, a.q.B, a.q.H, a.q.N);
  check_state_view<Compute<T>>("initial_state", a.initial_state, states, a.k.H, a.k.D, a.v.D,
                               options);
  check_state_view<Compute<T>>("final_state", a.final_state, states, a.k.H, a.k.D, a.v.D, options);
  const Memory initial = memory("initial_state", a.initial_state),
               final = memory("final_state", a.final_state);
  check_apart({memory("o", a.o), memory("g", a.g)}, {initial});
  check_apart(
      {memory("o", a.o), memory("g", a.g), final},
      {memory("q", a.q), memory("k", a.k), memory("v", a.v), memory("key_weight", a.key_weight)});
  check_in_place(final, initial);
}

template <class T>
void check_backward(const BackwardArgs<T>& a, const Options& options, int threads,
                    std::int64_t states, bool packed) {
  check_common<T>(a, options, a.key_weight, threads, packed);
  check_view<T>("o", a.o);
  check_same<T>("o", a.o, "q", a.q.B, a.q.H, a.q.N, a.o.D);
  require(a.o.D == a.v.D, "o.D == v.D, got ", a.o.D, " and ", a.v.D);
  check_view<T>("d_o", a.d_o);
  check_same<T>("d_o", a.d_o, "o", a.o.B, a.o.H, a.o.N, a.o.D);
  require(a.g.data != nullptr || empty(a.q), "g as forward wrote it, got none");
  if (a.g.data) check_denominators<Compute<T>>(a.g, a.q.B, a.q.H, a.q.N);
  check_state_view<Compute<T>>("initial_state", a.initial_state, states, a.k.H, a.k.D, a.v.D,
                               options);
  check_state_view<Compute<T>>("d_final_state", a.d_final_state, states, a.k.H, a.k.D, a.v.D,
                               options);
  check_state_view<Compute<T>>("d_initial_state", a.d_initial_state, states, a.k.H, a.k.D, a.v.D,
                               options);
  check_output("dq", a.dq);
  check_same<T>("dq", a.dq, "q", a.q.B, a.q.H, a.q.N, a.q.D);
  check_output("dk", a.dk);
  check_same<T>("dk", a.dk, "k", a.k.B, a.k.H, a.k.N, a.k.D);
  check_output("dv", a.dv);
  check_same<T>("dv", a.dv, "v", a.v.B, a.v.H, a.v.N, a.v.D);
  const Memory dq = memory("dq", a.dq), dk = memory("dk", a.dk), dv = memory("dv", a.dv),
               initial = memory("d_initial_state", a.d_initial_state),
               final = memory("d_final_state", a.d_final_state);
  check_apart({dq, dk, dv}, {final});
  check_in_place(initial, final);
  check_apart({dq, dk, dv, initial},
              {memory("q", a.q), memory("k", a.k), memory("v", a.v), memory("o", a.o),
               memory("d_o", a.d_o), memory("g", a.g), memory("key_weight", a.key_weight),
               memory("initial_state", a.initial_state)});
}

void check_offsets(const char* name, std::span<const std::int32_t> cu, std::int64_t N,
                   const char* end) {
  require(cu.size() >= 2, name, " of at least 2 entries, got ", cu.size());
  require(cu.front() == 0, name, " to begin with 0, got ", cu.front());
  for (std::size_t i = 1; i < cu.size(); ++i) {
    require(cu[i - 1] <= cu[i], name, " not to decrease, got ", cu[i - 1], " then ", cu[i], " at ",
            i);
  }
  require(cu.back() == N, name, " to end at ", end, ", got ", cu.back(), " and ", N);
}

template <class Args>
void check_sequences(const Args& a, const Sequences& s, const Options& options) {
  require(a.q.B == 1, "B == 1 for packed sequences, got ", a.q.B);
  check_offsets("cu_q", s.cu_q, a.q.N, "q.N");
  check_offsets("cu_k", s.cu_k, a.k.N, "k.N");
  require(s.cu_q.size() == s.cu_k.size(), "cu_q and cu_k of one length, got ", s.cu_q.size(),
          " and ", s.cu_k.size());
  for (std::size_t i = 0; options.causal && i + 1 < s.cu_q.size(); ++i) {
    require(s.cu_q[i + 1] - s.cu_q[i] <= s.cu_k[i + 1] - s.cu_k[i],
            "no more queries than keys in a sequence when causal, got ", s.cu_q[i + 1] - s.cu_q[i],
            " and ", s.cu_k[i + 1] - s.cu_k[i], " in sequence ", i);
  }
}

}  // namespace

template <class T>
void check_options(const Options& options) {
  const char* const range = sizeof(T) == sizeof(float) ? "float's range" : "double's range";
  const auto fits = [](double x) {
    return std::abs(x) <= std::numeric_limits<T>::max() && (x == 0 || static_cast<T>(x) != 0);
  };
  require(options.p >= 1 && options.p <= 4, "p in 1..4, got ", options.p);
  require(!options.scale || (std::isfinite(*options.scale) && *options.scale > 0),
          "scale > 0 and finite, got ", options.scale.value_or(0));
  require(!options.scale || fits(*options.scale), "scale within ", range, ", got ",
          options.scale.value_or(0));
  require(options.chunk >= 0 && options.chunk % 64 == 0,
          "chunk a multiple of 64 (0: planned), got ", options.chunk);
  require(options.normalize != Normalize::kMaxNorm || !options.causal,
          "normalize other than kMaxNorm when causal (the largest norm looks at future tokens), "
          "got kMaxNorm");
  require(options.normalize != Normalize::kNone || options.p % 2 == 0 || options.scale,
          "an explicit scale for odd p with kNone, where s has no bound, got none");
  if (options.coefficients) {
    const auto& c = *options.coefficients;
    for (const double c_l : c) require(std::isfinite(c_l), "coefficients finite, got ", c_l);
    require(c[options.p] != 0, "coefficients[p] != 0, got 0 for p ", options.p);
    require(c[0] > 0, "coefficients[0] > 0, got ", c[0]);
    for (int l = 0; l <= options.p; ++l) {
      require(fits(c[l]) && fits(c[l] / c[options.p]), "coefficients c_l and c_l / c_p within ",
              range, ", got c_", l, " = ", c[l], " and c_p = ", c[options.p]);
    }
  }
  const Dropout& dropout = options.dropout;
  require(dropout.rate >= 0 && dropout.rate < 1, "0 <= dropout.rate < 1, got ", dropout.rate);
  require(!drops_features(dropout) || options.form != Form::kDirect,
          "form other than kDirect with dropout of features, which exist in the factorised form "
          "only, got kDirect");
}
template void check_options<float>(const Options&);
template void check_options<double>(const Options&);

void check_state(const Options& options, std::int64_t B, std::int64_t Hkv, std::int64_t D,
                 std::int64_t E) {
  const auto F = static_cast<double>(state_features(options.p, D));
  require(
      static_cast<double>(B) * static_cast<double>(Hkv) * F * static_cast<double>(E + 1) < 0x1p44,
      "a state that fits memory, got B ", B, ", Hkv ", Hkv, ", F ", F, ", E ", E);
  require(options.form != Form::kDirect,
          "form other than kDirect with a state, which is made of features, got kDirect");
  require(options.normalize != Normalize::kMaxNorm,
          "normalize other than kMaxNorm with a state (the largest norm is of one sequence), got "
          "kMaxNorm");
  require(!drops_features(options.dropout), "no dropout of features with a state, got rate ",
          options.dropout.rate);
  for (int l = 0; options.coefficients && l <= options.p; ++l) {
    require((*options.coefficients)[l] != 0, "coefficients other than 0 with a state, got c_", l,
            " = 0");
  }
}

template <class T>
void check(const ForwardArgs<T>& a, const Options& options, int threads) {
  check_forward(a, options, threads, a.k.B, false);
}
template <class T>
void check(const BackwardArgs<T>& a, const Options& options, int threads) {
  check_backward(a, options, threads, a.k.B, false);
}
template <class T>
void check(const ForwardArgs<T>& a, const Sequences& sequences, const Options& options,
           int threads) {
  check_sequences(a, sequences, options);
  check_forward(a, options, threads, static_cast<std::int64_t>(sequences.cu_q.size()) - 1, true);
}
template <class T>
void check(const BackwardArgs<T>& a, const Sequences& sequences, const Options& options,
           int threads) {
  check_sequences(a, sequences, options);
  check_backward(a, options, threads, static_cast<std::int64_t>(sequences.cu_q.size()) - 1, true);
}

template <class T>
void check(const WeightsArgs<T>& args, const Options& options, int threads) {
  struct {
    BhndView<const T> q, k, v;
  } const a{args.q, args.k, args.k};
  check_common<T>(a, options, args.key_weight, threads);
  const auto rows = static_cast<std::int64_t>(args.rows.size());
  for (const std::int64_t n : args.rows) {
    require(0 <= n && n < a.q.N, "rows in 0 .. q.N - 1, got ", n, " of ", a.q.N);
  }
  if (args.a.D > 0) check_output("a", args.a);
  check_same<T>("a", args.a, "q", a.q.B, a.q.H, rows > 0 ? rows : a.q.N, args.a.D);
  require(args.a.D == a.k.N, "a.D == k.N, got ", args.a.D, " and ", a.k.N);
  check_apart({memory("a", args.a)},
              {memory("q", a.q), memory("k", a.k), memory("key_weight", args.key_weight)});
}

#define FASTMAX_INSTANTIATE_CHECKS(T)                                                \
  template void check(const ForwardArgs<T>&, const Options&, int);                   \
  template void check(const BackwardArgs<T>&, const Options&, int);                  \
  template void check(const ForwardArgs<T>&, const Sequences&, const Options&, int); \
  template void check(const BackwardArgs<T>&, const Sequences&, const Options&, int);
FASTMAX_INSTANTIATE_CHECKS(float)
FASTMAX_INSTANTIATE_CHECKS(double)
FASTMAX_INSTANTIATE_CHECKS(BFloat16)
FASTMAX_INSTANTIATE_CHECKS(Float16)
template void check(const WeightsArgs<float>&, const Options&, int);
template void check(const WeightsArgs<double>&, const Options&, int);

}  // namespace fastmax
