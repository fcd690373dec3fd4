#include "app/task.h"

#include "app/data_sets.h"
#include "app/error.h"
#include "app/fetch.h"
#include "app/files.h"
#include "app/image_task.h"
#include "app/listops.h"
#include "app/listops_task.h"
#include "app/names.h"
#include "app/pathfinder_task.h"
#include "app/recall_task.h"
#include "app/retrieval_task.h"
#include "app/text_task.h"
#include "app/textfile.h"
#include "app/variants.h"

namespace fastmax::app {
namespace fs = std::filesystem;

Split parse_split(const std::string& name) {
  if (name == "val") return Split::kVal;
  if (name == "test") return Split::kTest;
  throw UsageError("--split: expected val or test, got \"" + name + "\"");
}

std::vector<std::int64_t> evenly(std::int64_t count, std::int64_t all) {
  std::vector<std::int64_t> order(count);
  for (std::int64_t i = 0; i < count; ++i) order[i] = i * all / count;
  return order;
}

TaskShape task_shape(const Recipe& recipe) {
  const std::int64_t patch = recipe.data.patch;
  if (is_language(recipe.task)) return {.vocabulary = 256, .classes = 0};
  if (is_recall(recipe.task)) return {.vocabulary = recall::vocabulary(recall_options(recipe))};
  if (image_side(recipe.task) > 0) {
    return {.vocabulary = 256,
            .classes = recipe.task == "pathfinder" ? 2 : 10,
            .values = patch > 1 ? patch * patch : 0};
  }
  if (recipe.task == "text") return {.vocabulary = 257, .classes = 2};
  if (recipe.task == "retrieval") return {.vocabulary = 257, .classes = 2, .pairs = true};
  return {.vocabulary = listops::kVocabulary, .classes = listops::kClasses};
}

fs::path task_folder(const fs::path& data_folder, const Recipe& recipe) {
  return variant_folder(data_folder, recipe.task, recipe.data.variant);
}

fs::path recipe_folder(const Recipe& recipe) {
  return recipe.data.path.empty() ? task_folder(data_folder(""), recipe)
                                  : fs::path(recipe.data.path);
}

fs::path require_data(const Recipe& recipe) {
  const fs::path folder = recipe_folder(recipe);
  if (fs::is_directory(folder)) {
    require_whole(*find_data_set(recipe.task), folder);
    return folder;
  }
  throw UsageError(text("expected the data of ", recipe.task, " in ", folder.string(),
                        ", there is none: `fastmax data fetch ", recipe.task, "` brings it"));
}

std::unique_ptr<Task> load_task(const Recipe& recipe) {
  if (is_language(recipe.task)) return load_textfile(recipe);
  if (is_recall(recipe.task)) return load_recall(recipe);
  if (recipe.task == "pathfinder") return load_pathfinder(recipe);
  if (image_side(recipe.task) > 0) return load_image(recipe);
  if (recipe.task == "text") return load_text(recipe);
  if (recipe.task == "retrieval") return load_retrieval(recipe);
  return load_listops(recipe);
}

}  // namespace fastmax::app
