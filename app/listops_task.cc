#include "app/listops_task.h"

#include "app/error.h"
#include "app/listops_data.h"
#include "app/sequence_task.h"
#include "app/variants.h"

namespace fastmax::app {
namespace fs = std::filesystem;

std::unique_ptr<Task> load_listops(const Recipe& recipe) {
  const fs::path folder = recipe_folder(recipe);
  if (!fs::exists(folder)) {
    throw UsageError(text("expected ListOps data in ", folder.string(),
                          ", there is none: make it with `",
                          making_command(recipe.task, recipe.data.variant), "`"));
  }
  Parts parts;
  Examples* all[] = {&parts.train, &parts.val, &parts.test};
  for (int i = 0; i < 3; ++i)
    *all[i] = listops::read_tsv(folder / listops::kFiles[i], recipe.data.length);
  require_examples(parts, recipe, folder);
  const listops::Baselines known = listops::baselines(parts.train, parts.test);
  return std::make_unique<SequenceTask>(
      recipe, std::move(parts), TokenForm{},
      Accuracies{{"majority class", known.majority}, {"root operator only", known.root_operator}});
}

}  // namespace fastmax::app
