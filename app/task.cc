#include "app/task.h"

#include "app/error.h"
#include "app/listops_task.h"
#include "app/textfile.h"

namespace fastmax::app {

Split parse_split(const std::string& name) {
  if (name == "val") return Split::kVal;
  if (name == "test") return Split::kTest;
  throw UsageError("--split: expected val or test, got \"" + name + "\"");
}

std::unique_ptr<Task> load_task(const Recipe& recipe, const std::filesystem::path& data_folder) {
  return recipe.task == "textfile" ? load_textfile(recipe) : load_listops(recipe, data_folder);
}

}  // namespace fastmax::app
