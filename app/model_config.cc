#include "app/model_config.h"

#include <algorithm>
#include <cmath>

#include "app/names.h"

namespace fastmax::app {

int fastmax_order(const std::string& attention) {
  require_name("attention", trainable_attention_names(), attention);
  const auto& names = attention_names();
  const auto found = std::find(names.begin(), names.end(), attention);
  return found == names.end() ? 0 : static_cast<int>(found - names.begin());
}

Normalize parse_normalize(const std::string& name) {
  const auto& names = normalize_names();
  require_name("normalize", names, name);
  return static_cast<Normalize>(std::find(names.begin(), names.end(), name) - names.begin());
}

std::optional<double> resolve_scale(const std::string& scale, int p, std::int64_t D,
                                    Normalize normalize) {
  if (scale == "default") return std::nullopt;
  const double d = static_cast<double>(D);
  const bool root = scale == "1/sqrt(D)";
  if (!root && scale != "1/D") return std::stod(scale);
  const double asked = root ? 1 / std::sqrt(d) : 1 / d;
  const bool bounded = p % 2 && normalize != Normalize::kNone;
  return bounded ? std::min(asked, fastmax::default_scale(p, D, normalize)) : asked;
}

}  // namespace fastmax::app
