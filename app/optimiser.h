// AdamW with clipped gradients: the whole state is two moments a weight and a step count, all in sight.
//
//   m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,  w -= lr (m^ / (sqrt(v^) + eps) + weight_decay
//   w)
#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace fastmax::app {

struct AdamWConfig {
  double beta1 = 0.9, beta2 = 0.98, epsilon = 1e-8, weight_decay = 0.01;
  double clip = 1;        ///< largest norm of the whole gradient; 0: no limit
  double clip_value = 0;  ///< largest entry of the gradient; 0: no limit
};

class AdamW {
 public:
  using Named = std::vector<std::pair<std::string, at::Tensor>>;
  /// Weights in `rates` learn at that multiple of the learning rate, and do not decay.
  AdamW(const Named& parameters, const AdamWConfig& config,
        const std::map<std::string, double>& rates = {});

  /// One update from the gradients the weights hold, which are then cleared; by the config's beta1 or another. Returns the
  /// gradient's norm before clipping.
  double step(double learning_rate, std::optional<double> beta1 = std::nullopt);

  /// Moments by name ("first.NAME", "second.NAME") and the step count: save and restore in place.
  Named state() const;
  std::int64_t steps() const;
  void set_steps(std::int64_t steps);

 private:
  AdamWConfig config_;
  std::vector<std::string> names_;
  std::vector<at::Tensor> weights_, first_, second_, steps_;
  struct Group {  // of weights that learn alike: their places above
    double rate, weight_decay;
    std::vector<std::size_t> members;
  };
  std::vector<Group> groups_;
};

}  // namespace fastmax::app
