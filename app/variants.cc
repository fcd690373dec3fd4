#include "app/variants.h"

namespace fastmax::app {

std::vector<std::string> variants_of(const std::string& task) {
  if (task == "pathfinder") return {"hard", "inter", "easy"};
  if (task == "listops") return {"lra", "short"};
  return {"lra"};
}

std::filesystem::path variant_folder(const std::filesystem::path& data_folder,
                                     const std::string& task, const std::string& variant) {
  return data_folder / (variant == variants_of(task)[0] ? task : task + "_" + variant);
}

std::string making_command(const std::string& task, const std::string& variant) {
  return "fastmax data make " + task + (variant == variants_of(task)[0] ? "" : " --" + variant);
}

}  // namespace fastmax::app
