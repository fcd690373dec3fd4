#include "app/made_set.h"

#include <cstdio>

#include "app/error.h"
#include "app/files.h"
#include "app/lock.h"

namespace fastmax::app {
namespace fs = std::filesystem;
namespace {

nlohmann::ordered_json made_before(const MadeSet& set, const fs::path& folder) {
  const bool known = fs::exists(folder / kDescription);
  auto there = known ? read_description(folder) : nlohmann::ordered_json::object();
  if (there.value("task", "") != set.task || there["options"] != set.options) {
    throw UsageError(
        "expected no other data set in " + folder.string() +
        ", it has one made with other options: remove it or choose another --data-dir");
  }
  std::fprintf(stderr, "%s is there already\n", folder.c_str());
  return there;
}

}  // namespace

nlohmann::ordered_json read_description(const fs::path& folder) {
  const fs::path file = folder / kDescription;
  auto json = nlohmann::ordered_json::parse(read_file(file, "a data set's description"), nullptr,
                                            /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("statistics")) {
    throw UsageError("expected a data set's description, " + file.string() + " is damaged");
  }
  return json;
}

nlohmann::ordered_json make_set(const MadeSet& set, const fs::path& folder) {
  if (fs::exists(folder)) return made_before(set, folder);
  const fs::path beside = folder.parent_path();
  const std::string name = folder.filename().string();
  make_folder(beside);
  const FileLock lock(beside / ("." + name + ".lock"), "the data of " + set.task);
  if (fs::exists(folder)) return made_before(set, folder);
  remove_leftovers(beside, name);
  NewFolder made(folder);
  const nlohmann::ordered_json description = {
      {"task", set.task}, {"options", set.options}, {"statistics", set.write(made.path())}};
  write_file(made.path() / kDescription, description.dump(2) + "\n");
  if (!made.commit()) {
    throw WorkError("cannot write " + folder.string() + ": it was put there meanwhile");
  }
  return description;
}

}  // namespace fastmax::app
