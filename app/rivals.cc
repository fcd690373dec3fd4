#include "app/rivals.h"

#include "app/names.h"

namespace fastmax::app {
namespace {
// Of the harness of recipes/paper (Skyformer's src/config.py): rp_dim of Performer, in_nb_features of Informer.
constexpr std::int64_t kFeatures = 128, kInformer = 128;
constexpr std::int64_t kShortestOfHarness = 1024;
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
    return [=](const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& weight,
               std::uint64_t) { return performer_attention(q, k, v, weight, features, causal); };
  }
  if (name == "reformer") {
    return [=](const Tensor& q, const Tensor&, const Tensor& v, const Tensor& weight,
               std::uint64_t seed) {
      return reformer_attention(q, v, weight, seed, {.causal = causal});
    };
  }
  const std::int64_t least = length >= kShortestOfHarness ? kInformer : 1;
  return [=](const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& weight,
             std::uint64_t seed) {
    return informer_attention(q, k, v, weight, seed, /*factor=*/5, least);
  };
}

}  // namespace fastmax::app
