#include "app/listops_task.h"

#include <nlohmann/json.hpp>

#include "app/error.h"
#include "app/listops_data.h"
#include "app/made_set.h"
#include "app/sequence_task.h"
#include "app/variants.h"

namespace fastmax::app {
namespace fs = std::filesystem;
namespace {
constexpr const char* kParts[3] = {"train", "val", "test"};  // as its description calls them
}

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
  if (fs::exists(folder / kDescription)) {
    const auto options = read_options(folder, {{"train", 0}, {"val", 0}, {"test", 0}});
    for (int i = 0; i < 3; ++i) {
      const auto made = options.at(kParts[i]).get<std::int64_t>();
      if (all[i]->size() == made) continue;
      throw UsageError(text((folder / listops::kFiles[i]).string(), ": expected the ", made,
                            " examples of ", kDescription, ", got ", all[i]->size()));
    }
  }
  require_examples(parts, recipe, folder);
  const listops::Baselines known = listops::baselines(parts.train, parts.test);
  return std::make_unique<SequenceTask>(
      recipe, std::move(parts), TokenForm{},
      Accuracies{{"majority class", known.majority}, {"root operator only", known.root_operator}});
}

}  // namespace fastmax::app
