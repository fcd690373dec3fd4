#include "app/made_set.h"

#include <cstdio>

#include "app/error.h"
#include "app/set_folder.h"

namespace fastmax::app {
namespace fs = std::filesystem;

nlohmann::ordered_json read_options(const fs::path& folder, const nlohmann::ordered_json& form) {
  return read_about({folder, "", kDescription, {{"options", form}}}).at("options");
}

nlohmann::ordered_json make_set(const MadeSet& set, const fs::path& folder) {
  const auto accept = [&](const nlohmann::ordered_json& there) {
    if (there["task"] != set.task || there["options"] != set.options) {
      throw UsageError(
          "expected no other data set in " + folder.string() +
          ", it has one made with other options: remove it or choose another --data-dir");
    }
    std::fprintf(stderr, "%s is there already\n", folder.c_str());
  };
  const nlohmann::ordered_json form = {
      {"task", ""}, {"options", nlohmann::ordered_json::object()}, {"statistics", set.statistics}};
  return bring_set({folder, set.task, kDescription, form}, accept, [&](const fs::path& made) {
    return nlohmann::ordered_json{
        {"task", set.task}, {"options", set.options}, {"statistics", set.write(made)}};
  });
}

}  // namespace fastmax::app
