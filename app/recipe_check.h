// Which keys of a recipe do not go together. Each key alone is right already (recipe_keys.h).
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "app/recipe.h"

namespace fastmax::app {

/// data.length where a recipe does not say it; of images, the only one there is. Images of N x N pixels and
/// patches of P x P are (N / P)^2 tokens.
std::int64_t natural_length(const Recipe& recipe);

struct Contradiction {
  std::string path;  ///< the key to change
  std::string what;  ///< "expected .., got .."
};

std::optional<Contradiction> contradiction(const Recipe& recipe);

/// The recipe with another attention, as `compare` trains it. Throws UsageError where the rest of the recipe is
/// not possible with it.
Recipe with_attention(Recipe recipe, const std::string& attention);

}  // namespace fastmax::app
