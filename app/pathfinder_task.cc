#include "app/pathfinder_task.h"

#include "app/error.h"
#include "app/image_task.h"
#include "app/pathfinder_data.h"
#include "app/sequence_task.h"
#include "app/variants.h"

namespace fastmax::app {
namespace fs = std::filesystem;

std::unique_ptr<Task> load_pathfinder(const Recipe& recipe) {
  const fs::path folder = recipe_folder(recipe);
  const std::string& variant = recipe.data.variant;
  if (!fs::exists(folder)) {
    throw UsageError(text("expected Pathfinder's pictures in ", folder.string(),
                          ", there is none: make them with `", making_command(recipe.task, variant),
                          "`"));
  }
  const Examples all = pathfinder::read(pathfinder::variant(variant), folder);
  Parts parts;
  const std::int64_t tenth = all.size() / 10;
  for (std::int64_t i = 0; i < all.size(); ++i) {
    Examples& part = i < all.size() - 2 * tenth ? parts.train
                     : i < all.size() - tenth   ? parts.val
                                                : parts.test;
    part.add(all[i], all.labels[i]);
  }
  require_examples(parts, recipe, folder);
  return image_task(recipe, std::move(parts), pathfinder::kSide);
}

}  // namespace fastmax::app
