#include "app/made_set.h"

#include <cstdio>

#include "app/error.h"
#include "app/set_folder.h"

namespace fastmax::app {
namespace fs = std::filesystem;

nlohmann::ordered_json read_description(const fs::path& folder) {
  auto json = read_about({folder, "", kDescription});
  if (!json.contains("statistics")) {
    throw UsageError("expected a data set's description, " + (folder / kDescription).string() +
                     " is damaged");
  }
  return json;
}

nlohmann::ordered_json make_set(const MadeSet& set, const fs::path& folder) {
  const auto accept = [&](const nlohmann::ordered_json& there) {
    if (there.value("task", "") != set.task || !there.contains("statistics") ||
        !there.contains("options") || there["options"] != set.options) {
      throw UsageError(
          "expected no other data set in " + folder.string() +
          ", it has one made with other options: remove it or choose another --data-dir");
    }
    std::fprintf(stderr, "%s is there already\n", folder.c_str());
  };
  return bring_set({folder, set.task, kDescription}, accept, [&](const fs::path& made) {
    return nlohmann::ordered_json{
        {"task", set.task}, {"options", set.options}, {"statistics", set.write(made)}};
  });
}

}  // namespace fastmax::app
