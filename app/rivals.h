// The other systems of the paper's Table 1, written from their papers in torch operations.
//
//   linear     (phi(q) sum_j phi(k_j) v_j^T) / (phi(q) . sum_j phi(k_j)), phi = elu + 1
//   performer  the same with random features whose mean is exp(q . k / sqrt(D))
//   reformer   softmax over the keys that hash like the query; a token's key is its query
//   informer   softmax for the queries that stand out, the mean value for all others
//
// q, k and v are [B, H, N, D], key_weight is [B, N] (1 token, 0 padding) or undefined. None of them drops
// attention weights.
#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <string>

namespace fastmax::app {

/// Attention of (q, k, v, key_weight, seed): what is drawn for one call depends on the seed alone.
using Rival = std::function<at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                       const at::Tensor&, std::uint64_t)>;

/// One of rival_names(), with the constants of its paper or of its harness. Informer has no causal form: which queries stand
/// out is decided by all of them. `length` is that of the longest sequence: at those of the harness, 1024 and more, Informer
/// has the harness's 128 queries and keys.
Rival make_rival(const std::string& name, std::int64_t D, bool causal, std::int64_t length = 0);

/// out_i = sum_j w_j (a_i . b_j) v_j / sum_j w_j (a_i . b_j) in linear time; a, b [B, H, N, F] >= 0.
/// Causal: over j <= i, `chunk` tokens at a time.
at::Tensor kernel_attention(const at::Tensor& a, const at::Tensor& b, const at::Tensor& v,
                            const at::Tensor& key_weight, bool causal, std::int64_t chunk = 64);

/// Katharopoulos et al. 2020.
at::Tensor linear_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const at::Tensor& key_weight, bool causal);

/// Choromanski et al. 2021: the rows of the result [features, D] are normal vectors, orthogonal in blocks of D.
at::Tensor orthogonal_features(std::int64_t features, std::int64_t D, std::uint64_t seed);
at::Tensor performer_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const at::Tensor& key_weight, const at::Tensor& features,
                               bool causal);

/// Kitaev et al. 2020.
struct ReformerOptions {
  std::int64_t rounds =
      2;  ///< hash functions: num_hash of the harness of recipes/paper (Skyformer's src/config.py)
  std::int64_t chunk = 64;  ///< sorted tokens that look at each other and at the chunk before; ours
  /// Hash values, even or 1; 0: 2 N / chunk, as their section 2 has it. N is the padded length, so a batch that pads more hashes finer.
  std::int64_t buckets = 0;
  bool causal = false;
};
/// Softmax over the union of the rounds' keys; a token looks at itself only where there is no other.
at::Tensor reformer_attention(const at::Tensor& q, const at::Tensor& v,
                              const at::Tensor& key_weight, std::uint64_t seed,
                              const ReformerOptions& options);

/// Zhou et al. 2021: ceil(factor ln N) keys are sampled to find the ceil(factor ln N) queries that attend, but at least
/// `least` of each; the factor is their choice. N is the padded length, as in their program, and keys are sampled among as many
/// places, of which padding is then left out: what a sequence gets depends on how far its batch pads it.
at::Tensor informer_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                              const at::Tensor& key_weight, std::uint64_t seed, double factor = 5,
                              std::int64_t least = 1);

}  // namespace fastmax::app
