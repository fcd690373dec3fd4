#include "app/rivals.h"

#include <algorithm>
#include <vector>

#include "app/names.h"

namespace fastmax::app {
namespace {

// Of the harness of recipes/paper (Skyformer's src/config.py): rp_dim of Performer, in_nb_features of Informer.
constexpr std::int64_t kFeatures = 128, kInformer = 128;
constexpr std::int64_t kShortestOfHarness = 1024;

// Floats that one operation leaves in a core's cache for the next.
constexpr std::int64_t kCached = 1 << 18;

// `rival` for a few sequences at a time, so that what an operation of torch hands to the next is still in the cache. The largest
// such tensor has `per_token` floats for each token of a head.
Rival in_slices(Rival rival, std::int64_t per_token) {
  using at::Tensor;
  return [=](const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& weight,
             std::uint64_t seed) {
    const std::int64_t H = q.size(1), N = q.size(2);
    const std::int64_t sequences = std::max<std::int64_t>(1, kCached / (H * N * per_token));
    const auto qs = q.split(sequences), ks = k.split(sequences), vs = v.split(sequences);
    const auto weights =
        weight.defined() ? weight.split(sequences) : std::vector<Tensor>(qs.size());
    std::vector<Tensor> outputs;
    for (std::size_t i = 0; i < qs.size(); ++i) {
      outputs.push_back(rival(qs[i], ks[i], vs[i], weights[i], seed));
    }
    return at::cat(outputs);
  };
}

}  // namespace

Rival make_rival(const std::string& name, std::int64_t D, bool causal, std::int64_t length) {
  using at::Tensor;
  require_name("attention", rival_names(), name);
  if (name == "linear") {
    return [=](const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& weight,
               std::uint64_t) { return linear_attention(q, k, v, weight, causal); };
  }
  if (name == "performer") {  // one draw for the whole run
    const Tensor features = orthogonal_features(kFeatures, D, /*seed=*/0);
    return in_slices(
        [=](const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& weight,
            std::uint64_t) { return performer_attention(q, k, v, weight, features, causal); },
        kFeatures);
  }
  if (name == "reformer") {
    const ReformerOptions options{.causal = causal};
    return in_slices(
        [=](const Tensor& q, const Tensor&, const Tensor& v, const Tensor& weight,
            std::uint64_t seed) { return reformer_attention(q, v, weight, seed, options); },
        options.rounds * 2 * options.chunk);
  }
  const std::int64_t least = length >= kShortestOfHarness ? kInformer : 1;
  return [=](const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& weight,
             std::uint64_t seed) {
    return informer_attention(q, k, v, weight, seed, /*factor=*/5, least);
  };
}

}  // namespace fastmax::app
