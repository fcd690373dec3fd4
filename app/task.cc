#include "app/task.h"

#include "app/error.h"
#include "app/listops.h"
#include "app/listops_task.h"
#include "app/textfile.h"

namespace fastmax::app {

Split parse_split(const std::string& name) {
  if (name == "val") return Split::kVal;
  if (name == "test") return Split::kTest;
  throw UsageError("--split: expected val or test, got \"" + name + "\"");
}

TaskShape task_shape(const Recipe& recipe) {
  if (recipe.task == "textfile") return {.vocabulary = 256, .classes = 0};
  return {.vocabulary = listops::kVocabulary, .classes = listops::kClasses};
}

std::unique_ptr<Task> load_task(const Recipe& recipe) {
  return recipe.task == "textfile" ? load_textfile(recipe) : load_listops(recipe);
}

}  // namespace fastmax::app
