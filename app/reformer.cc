#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "app/product.h"
#include "app/rivals.h"

namespace fastmax::app {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();
constexpr double kSelf = -1e5;  // added to a token's score of itself

// Angular hash of each round: argmax [x R; -x R] with a random R [D, buckets / 2]. [B, H, rounds, N]
at::Tensor hash(const at::Tensor& x, std::int64_t rounds, std::int64_t buckets,
                std::uint64_t seed) {
  const std::int64_t B = x.size(0), H = x.size(1), N = x.size(2), D = x.size(3);
  if (buckets == 1) return at::zeros({B, H, rounds, N}, at::kLong);
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const at::Tensor turn = at::randn({rounds, D, buckets / 2}, generator, x.options());
  const at::Tensor y = at::matmul(x.detach().unsqueeze(2), turn);
  return at::cat({y, -y}, -1).argmax(-1);
}

// Every sorted chunk [.., n, m, ..] with the one before it in front: [.., n, 2 m, ..].
at::Tensor with_previous(const at::Tensor& x) { return at::cat({x.roll(1, 3), x}, 4); }

}  // namespace

at::Tensor reformer_attention(const at::Tensor& q_given, const at::Tensor& v_given,
                              const at::Tensor& key_weight, std::uint64_t seed,
                              const ReformerOptions& options) {
  const std::int64_t B = q_given.size(0), H = q_given.size(1), N = q_given.size(2),
                     D = q_given.size(3), E = v_given.size(3), R = options.rounds;
  const std::int64_t m = std::min(options.chunk, N), n = (N + m - 1) / m, all = n * m;
  const std::int64_t buckets = options.buckets > 0 ? options.buckets : 2 * n;
  const at::Tensor q = at::constant_pad_nd(q_given, {0, 0, 0, all - N});
  const at::Tensor v = at::constant_pad_nd(v_given, {0, 0, 0, all - N});
  const at::Tensor k = q * (q.square().sum(-1, /*keepdim=*/true) + 1e-24).rsqrt();
  at::Tensor real = key_weight.defined() ? key_weight > 0 : at::ones({B, N}, at::kBool);
  real = at::constant_pad_nd(real, {0, all - N});

  // Padding has a bucket of its own, behind all others; inside a bucket the order stays.
  const at::Tensor bucket =
      hash(q, R, buckets, seed).masked_fill(~real.view({B, 1, 1, all}), buckets);
  const at::Tensor order = (bucket * all + at::arange(all, at::kLong)).argsort(std::int64_t{-1});
  const at::Tensor place = order.argsort(std::int64_t{-1});

  const auto sorted = [&](const at::Tensor& x, std::int64_t width) {
    const auto rows = order.unsqueeze(-1).expand({B, H, R, all, width});
    return x.unsqueeze(2)
        .expand({B, H, R, all, width})
        .gather(3, rows)
        .view({B, H, R, n, m, width});
  };
  const at::Tensor i = order.view({B, H, R, n, m, 1});
  const at::Tensor j = with_previous(i).transpose(4, 5);  // [B, H, R, n, 1, 2 m]

  // In round r, j is among the keys of i when it has the same bucket and the same chunk or the one before: when this is the same
  // for both, or one more for i.
  const at::Tensor spot = bucket * (n + 2) + place.floor_divide(m);
  const auto meet = [&](std::int64_t r) {
    const auto of = [&](const at::Tensor& tokens) {
      return spot.select(2, r)
          .unsqueeze(2)
          .expand({B, H, R, all})
          .gather(3, tokens.flatten(3))
          .view(tokens.sizes())
          .to(at::kInt);
    };
    return (of(i) - of(j)).bitwise_and_(~1) == 0;
  };
  at::Tensor count = at::zeros({B, H, R, n, m, 2 * m}, at::kByte);
  at::Tensor allowed = at::empty(count.sizes(), at::kBool);
  for (std::int64_t r = 0; r < R; ++r) {
    const at::Tensor together = meet(r);
    count += together;
    allowed.select(2, r).copy_(together.select(2, r));
  }
  allowed.select(3, 0).narrow(4, 0, m).fill_(false);  // nothing is before the first chunk
  if (options.causal) allowed.logical_and_(j <= i);
  // A key that `count` rounds find counts once in all.
  at::Tensor bias = count.clamp_min_(1).to(q.scalar_type()).log_().neg_();
  bias.diagonal(m, 4, 5).fill_(kSelf);  // a chunk's own tokens come after those of the chunk before
  bias.masked_fill_(allowed.logical_not_(), kNever);

  const at::Tensor s = product(sorted(q / std::sqrt(static_cast<double>(D)), D),
                               with_previous(sorted(k, D)).transpose(4, 5)) +
                       bias;
  const at::Tensor largest = s.detach().amax({-1}, /*keepdim=*/true);
  const at::Tensor weight = (s - largest).exp_(), total = weight.sum({-1}, /*keepdim=*/true);
  const at::Tensor o = product(weight, with_previous(sorted(v, E))) / total;

  const auto unsorted = [&](const at::Tensor& x, std::int64_t width) {
    const auto rows = place.unsqueeze(-1).expand({B, H, R, all, width});
    return x.reshape({B, H, R, all, width}).gather(3, rows);
  };
  const at::Tensor share = unsorted(total.log() + largest, 1).softmax(2);
  return (unsorted(o, E) * share).sum({2}).narrow(2, 0, N);
}

}  // namespace fastmax::app
