#include "app/rivals.h"

#include "app/names.h"

namespace fastmax::app {
namespace {
constexpr std::int64_t kFeatures =
    128;  // of Performer: rp_dim of the harness of recipes/paper (Skyformer's src/config.py)
}

Rival make_rival(const std::string& name, std::int64_t D, bool causal) {
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
  return [](const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& weight,
            std::uint64_t seed) { return informer_attention(q, k, v, weight, seed); };
}

}  // namespace fastmax::app
