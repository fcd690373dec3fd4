#include "app/bench_truth.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "fastmax/fastmax.h"

namespace fastmax::app {
namespace {

constexpr std::int64_t kSamples = 12;     // rows of a head, the first and the last among them
constexpr std::int64_t kBlock = 1 << 14;  // rows of the other side handled at once
constexpr double kNormEps = 1e-6;

/// The kernel f, its slope and what is done to q and k before their dot product.
struct Score {
  int order;
  double scale;

  Score(int order, std::int64_t D)
      : order(order), scale(order ? default_scale(order, D) : 1 / std::sqrt(double(D))) {}

  at::Tensor polynomial(const at::Tensor& s, int p) const {
    at::Tensor f = at::ones_like(s);
    for (int l = p; l >= 1; --l) f = 1 + f * s / l;
    return f;
  }
  at::Tensor f(const at::Tensor& s) const { return order ? polynomial(s, order) : s.exp(); }
  at::Tensor slope(const at::Tensor& s) const { return order ? polynomial(s, order - 1) : s.exp(); }

  at::Tensor spread(const at::Tensor& x) const {
    return (x.var(-1, /*unbiased=*/false, /*keepdim=*/true) + kNormEps).sqrt();
  }
  at::Tensor hat(const at::Tensor& x) const {
    return order ? (x - x.mean(-1, true)) / spread(x) : x;
  }
  /// dx = (dx^ - mean(dx^) - x^ mean(dx^ * x^)) / sqrt(var + eps)
  at::Tensor hat_backward(const at::Tensor& x, const at::Tensor& d) const {
    if (!order) return d;
    const at::Tensor x_hat = hat(x);
    return (d - d.mean(-1, true) - x_hat * (d * x_hat).mean(-1, true)) / spread(x);
  }
};

/// One head in float64, read a block at a time.
struct Head {
  at::Tensor q, k, v, d_o;  // [N, D], as the contenders see them

  static at::Tensor wide(const at::Tensor& x) { return x.to(at::kDouble); }
  std::int64_t N() const { return q.size(0); }
};

Head head_of(const BenchInputs& in, std::int64_t b, std::int64_t h) {
  const auto at = [&](const at::Tensor& x) { return x.defined() ? x[b][h] : at::Tensor(); };
  return {at(in.q), at(in.k), at(in.v), at(in.d_o)};
}

/// f of an [n, m] block of scores is zero where key m comes after row n.
at::Tensor masked(const at::Tensor& block, const at::Tensor& n, const at::Tensor& m, bool causal) {
  return causal ? block * (m.unsqueeze(0) <= n.unsqueeze(1)) : block;
}

struct Rows {
  at::Tensor o, g;  // [S, E], [S, 1]
};

/// o and g at `n`, from all keys.
Rows output_rows(const Head& head, const at::Tensor& n, const Score& score, bool causal) {
  const at::Tensor q = score.hat(Head::wide(head.q.index_select(0, n)));
  Rows sum{at::zeros({n.size(0), head.v.size(1)}, at::kDouble),
           at::zeros({n.size(0), 1}, at::kDouble)};
  for (std::int64_t m0 = 0; m0 < head.N(); m0 += kBlock) {
    const std::int64_t m1 = std::min(m0 + kBlock, head.N());
    const at::Tensor k = score.hat(Head::wide(head.k.slice(0, m0, m1)));
    const at::Tensor f =
        masked(score.f(score.scale * q.matmul(k.t())), n, at::arange(m0, m1), causal);
    sum.o += f.matmul(Head::wide(head.v.slice(0, m0, m1)));
    sum.g += f.sum(1, true);
  }
  sum.o /= sum.g;
  return sum;
}

/// dq at rows n: with u = do / g and c = -(do . o) / g,  ds_nm = f'(s_nm) (u_n . v_m + c_n),  dq^_n
/// = scale sum_m ds_nm k^_m.
at::Tensor query_gradient(const Head& head, const at::Tensor& n, const Score& score, bool causal) {
  const Rows row = output_rows(head, n, score, causal);
  const at::Tensor q_n = Head::wide(head.q.index_select(0, n)), q = score.hat(q_n);
  const at::Tensor u = Head::wide(head.d_o.index_select(0, n)) / row.g,
                   c = -(u * row.o).sum(1, true);
  at::Tensor dq = at::zeros_like(q);
  for (std::int64_t m0 = 0; m0 < head.N(); m0 += kBlock) {
    const std::int64_t m1 = std::min(m0 + kBlock, head.N());
    const at::Tensor k = score.hat(Head::wide(head.k.slice(0, m0, m1)));
    const at::Tensor v = Head::wide(head.v.slice(0, m0, m1));
    const at::Tensor ds = score.slope(score.scale * q.matmul(k.t())) * (u.matmul(v.t()) + c);
    dq += score.scale * masked(ds, n, at::arange(m0, m1), causal).matmul(k);
  }
  return score.hat_backward(q_n, dq);
}

/// dk and dv at keys m: dk^_m = scale sum_n ds_nm q^_n,  dv_m = sum_n f(s_nm) u_n, given o and g of every row.
void key_gradients(const Head& head, const at::Tensor& m, const Score& score, bool causal,
                   const Rows& all, SampledHead& out) {
  const at::Tensor k_m = Head::wide(head.k.index_select(0, m)), k = score.hat(k_m);
  const at::Tensor v = Head::wide(head.v.index_select(0, m));
  at::Tensor dk = at::zeros_like(k), dv = at::zeros_like(v);
  for (std::int64_t n0 = 0; n0 < head.N(); n0 += kBlock) {
    const std::int64_t n1 = std::min(n0 + kBlock, head.N());
    const at::Tensor n = at::arange(n0, n1), q = score.hat(Head::wide(head.q.slice(0, n0, n1)));
    const at::Tensor u = Head::wide(head.d_o.slice(0, n0, n1)) / Head::wide(all.g.slice(0, n0, n1));
    const at::Tensor c = -(u * Head::wide(all.o.slice(0, n0, n1))).sum(1, true);
    const at::Tensor s = score.scale * q.matmul(k.t());  // [n, S]
    const at::Tensor ds = masked(score.slope(s) * (u.matmul(v.t()) + c), n, m, causal);
    dk += score.scale * ds.t().matmul(q);
    dv += masked(score.f(s), n, m, causal).t().matmul(u);
  }
  out.dk = score.hat_backward(k_m, dk);
  out.dv = dv;
}

/// The first head and the last.
SampledTruth sampled_heads(const BenchInputs& in, const at::Tensor& rows) {
  const std::int64_t B = in.q.size(0), H = in.q.size(1);
  SampledTruth heads{{.b = 0, .h = 0, .rows = rows.defined() ? rows : sampled_rows(in.q.size(2))}};
  if (B * H > 1) heads.push_back({.b = B - 1, .h = H - 1, .rows = heads[0].rows});
  return heads;
}

}  // namespace

at::Tensor sampled_rows(std::int64_t N) {
  std::set<std::int64_t> rows;
  for (std::int64_t i = 0; i < std::min(kSamples, N); ++i) {
    const double x = std::fmod(0.6180339887 * static_cast<double>(i), 1.0);
    rows.insert(i == 1 ? N - 1 : static_cast<std::int64_t>(x * static_cast<double>(N)));
  }
  return at::tensor(std::vector<std::int64_t>(rows.begin(), rows.end()));
}

SampledTruth forward_truth(const BenchInputs& in, int order, bool causal, const at::Tensor& rows) {
  const at::NoGradGuard no_grad;
  SampledTruth truth = sampled_heads(in, rows);
  for (SampledHead& sample : truth)
    sample.o = output_rows(head_of(in, sample.b, sample.h), sample.rows, Score(order, in.q.size(3)),
                           causal)
                   .o;
  return truth;
}

SampledTruth backward_truth(const BenchInputs& in, int order, bool causal,
                            const BenchOutputs& forward, const at::Tensor& rows) {
  const at::NoGradGuard no_grad;
  const Score score(order, in.q.size(3));
  SampledTruth truth = sampled_heads(in, rows);
  for (SampledHead& sample : truth) {
    const Head head = head_of(in, sample.b, sample.h);
    sample.dq = query_gradient(head, sample.rows, score, causal);
    if (head.N() <= kExactTokens)
      key_gradients(head, sample.rows, score, causal,
                    output_rows(head, at::arange(head.N()), score, causal), sample);
    else if (forward.g.defined())
      key_gradients(head, sample.rows, score, causal,
                    {forward.o[sample.b][sample.h], forward.g[sample.b][sample.h].unsqueeze(1)},
                    sample);
  }
  return truth;
}

SampledTruth weighted_truth(const BenchInputs& in, bool backward,
                            const std::function<at::Tensor(const at::Tensor&)>& weights) {
  const at::NoGradGuard no_grad;
  SampledTruth truth = sampled_heads(in, {});
  const at::Tensor rows = truth[0].rows, a = weights(rows);
  const std::int64_t N = in.q.size(2), entries = in.q.size(0) * in.q.size(1) * N * N;
  const bool affordable = entries <= 2 * kExactTokens * kExactTokens;
  const at::Tensor all = backward && affordable ? weights(at::arange(N)) : at::Tensor();
  for (SampledHead& sample : truth) {
    const Head head = head_of(in, sample.b, sample.h);
    sample.o = a[sample.b][sample.h].matmul(Head::wide(head.v));
    if (all.defined())
      sample.dv = all[sample.b][sample.h].index_select(1, rows).t().matmul(Head::wide(head.d_o));
  }
  return truth;
}

SampledError compare(const SampledTruth& truth, const BenchOutputs& got) {
  const at::NoGradGuard no_grad;
  SampledError worst;
  const auto raise = [](double& to, double error) {
    if (!std::isnan(to) && !(error <= to)) to = error;  // a NaN gets in and stays
  };
  // Sums of N terms of order one over N: a truth that is zero by cancellation is still judged by this size.
  const double floor =
      0.1 / std::sqrt(static_cast<double>(std::max<std::int64_t>(got.o.size(2), 1)));
  const auto join = [&](const SampledHead& sample, const at::Tensor& expected,
                        const at::Tensor& x) {
    if (!expected.defined()) return;
    const at::Tensor rows = Head::wide(x[sample.b][sample.h].index_select(0, sample.rows));
    const double error = (rows - expected).abs().max().item<double>();
    raise(worst.error, error);
    raise(worst.relative, error / std::max(expected.abs().max().item<double>(), floor));
  };
  for (const SampledHead& sample : truth) {
    join(sample, sample.o, got.o);
    join(sample, sample.dq, got.dq);
    join(sample, sample.dk, got.dk);
    join(sample, sample.dv, got.dv);
  }
  return worst;
}

}  // namespace fastmax::app
