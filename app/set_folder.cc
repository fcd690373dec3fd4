#include "app/set_folder.h"

#include <optional>

#include "app/error.h"
#include "app/files.h"
#include "app/json_file.h"
#include "app/lock.h"
#include "app/signals.h"

namespace fastmax::app {
namespace fs = std::filesystem;

nlohmann::ordered_json read_about(const SetFolder& set) {
  return read_json(set.folder / set.about, "a data set's description", set.form);
}

nlohmann::ordered_json bring_set(
    const SetFolder& set, const std::function<void(const nlohmann::ordered_json&)>& accept,
    const std::function<nlohmann::ordered_json(const fs::path&)>& write) {
  const auto holds_others = [&] {
    return UsageError("expected a new folder, " + set.folder.string() + " holds other files");
  };
  const auto brought_before = [&]() -> std::optional<nlohmann::ordered_json> {
    if (!fs::exists(set.folder)) return std::nullopt;
    if (!fs::exists(set.folder / set.about)) throw holds_others();
    auto known = read_about(set);
    accept(known);
    return known;
  };
  if (const auto known = brought_before()) return *known;
  const fs::path beside = set.folder.parent_path();
  const std::string name = set.folder.filename().string();
  make_folder(beside);
  const FileLock lock(beside / ("." + name + ".lock"), "the data of " + set.task);
  if (const auto known = brought_before()) return *known;
  const StopRequest listening;
  remove_leftovers(beside, name);
  NewFolder made(set.folder);
  const nlohmann::ordered_json about = write(made.path());
  write_file(made.path() / set.about, about.dump(2) + "\n");
  if (!made.commit()) throw holds_others();
  return about;
}

}  // namespace fastmax::app
