// The options of attention as the operators take them, in words and plain numbers. Knows neither libtorch nor the stable
// ABI, so that both sides share it.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace fastmax::torch_ops {

/// fastmax::Options in the words of the operators.
struct AttentionOptions {
  std::int64_t p = 2;  ///< order, 1 to 4
  std::optional<double> scale =
      {};                       ///< none: the largest that keeps weights positive, 1 for even p
  bool causal = false;          ///< row n attends to keys m <= n + M - N
  std::string method = "auto";  ///< "auto", "direct", "factorised"
  std::string normalize = "standardize";  ///< "standardize", "l2", "none", "max_norm"
  std::optional<std::vector<double>> coefficients = {};  ///< c_0 .. c_p of f; none: 1 / l!
  double dropout_p = 0;               ///< the caller leaves it 0 where nothing is trained
  std::string dropout = "quadratic";  ///< "quadratic", "standard", "token"
  std::int64_t seed = 0;              ///< of dropout: the same seed drops the same
  std::string floor = "auto";         ///< what small denominators do: "auto", "clamp", "error"
  std::int64_t chunk = 0;             ///< tokens that join the state at a time; 0: planned
};

}  // namespace fastmax::torch_ops
