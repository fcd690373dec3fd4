#include "app/fetch.h"

#include <functional>
#include <nlohmann/json.hpp>

#include "app/download.h"
#include "app/error.h"
#include "app/files.h"
#include "app/progress.h"
#include "app/set_folder.h"
#include "app/sha256.h"

namespace fastmax::app {
namespace fs = std::filesystem;
namespace {

constexpr std::int64_t kMargin =
    2;  // another copy may be this many times as large as the known one

bool is_address(const std::string& from) { return from.find("://") != std::string::npos; }

// Where a file comes from: `from` is it, or a folder or address under which it has its name.
std::string origin(const DataSet& set, const SourceFile& file, const std::string& from) {
  if (from.empty()) return file.address;
  const bool folder =
      set.files.size() > 1 || from.back() == '/' || (!is_address(from) && fs::is_directory(from));
  if (!folder) return from;
  return from + (from.back() == '/' ? "" : "/") + file.name;
}

fs::path bring(const DataSet& set, const SourceFile& file, const std::string& from,
               const fs::path& folder) {
  if (!is_address(from)) {
    if (!fs::is_regular_file(from)) {
      throw UsageError(text("--from: expected ", file.name, ", there is no file ", from));
    }
    return from;
  }
  make_folder(folder);
  // Parts from two addresses must not become one file.
  const fs::path target = folder / text(std::hex, std::hash<std::string>()(from), "-", file.name);
  if (fs::exists(target)) return target;  // fetched by a call that was stopped later
  require_space(folder, file.bytes, file.name);
  Progress progress(set.task, "kB", file.bytes / 1000);
  download(from, target, kMargin * file.bytes, [&](std::int64_t done, std::int64_t all) {
    progress.update(done / 1000, all > 0 ? text("of ", all / 1000) : "");
  });
  return target;
}

// The sum of an archive that may be used.
std::string checked_sum(const SourceFile& file, const fs::path& archive, bool any_hash,
                        bool downloaded) {
  const std::string sum = sha256(archive);
  if (sum == file.sha256 || any_hash) return sum;
  if (downloaded) fs::remove(archive);
  throw UsageError(text("expected ", file.name, " with SHA-256 ", file.sha256, ", ",
                        archive.string(), " has ", sum, downloaded ? " and was removed" : "",
                        ": --accept-any-hash takes it"));
}

void unpack_all(const DataSet& set, const std::vector<fs::path>& archives, const fs::path& into) {
  Contents so_far;
  for (std::size_t i = 0; i < archives.size(); ++i) {
    const SourceFile& file = set.files[i];
    if (!set.place) {
      std::error_code error;
      fs::copy_file(archives[i], into / file.name, error);
      if (error) throw WorkError("cannot write " + into.string() + ": " + error.message());
      continue;
    }
    const bool single = set.files.size() > 1;  // compressed files without a name inside
    Progress progress(set.task, "files", set.limits.entries);
    unpack(
        archives[i], into, set.limits, so_far,
        [&](const std::string& name) { return set.place(single ? file.name : name); },
        [&](std::int64_t files) { progress.update(files, "unpacked"); });
  }
  for (const Required& required : set.required) {
    if (!fs::exists(into / required.name)) {
      throw UsageError(text("expected ", set.files[0].name, " with ", required.name, ", ",
                            archives[0].string(), " has none"));
    }
  }
}

void require_sums(const DataSet& set, const FetchOptions& options) {
  for (const SourceFile& file : set.files) {
    if (file.sha256.empty() && !options.any_hash) {
      throw UsageError(text("expected --accept-any-hash for ", set.task, ": the publisher of ",
                            file.name, " gives no checksum to check it by"));
    }
  }
}

}  // namespace

nlohmann::ordered_json fetch(const DataSet& set, const fs::path& data_folder,
                             const FetchOptions& options) {
  const fs::path downloads = data_folder / "downloads";
  const SetFolder place{
      data_folder / set.task, set.task, kSourceFile, {{"data", ""}, {"known_copy", false}}};
  if (!fs::exists(place.folder / kSourceFile)) require_sums(set, options);
  std::vector<fs::path> archives;
  const auto remove_downloads = [&] {
    for (const fs::path& archive : archives) {
      if (archive.parent_path() == downloads) fs::remove(archive);
    }
  };
  const auto write = [&](const fs::path& made) {
    nlohmann::ordered_json files = nlohmann::ordered_json::array();
    bool genuine = true;
    std::int64_t packed = 0;
    for (const SourceFile& file : set.files) {
      const std::string from = origin(set, file, options.from);
      archives.push_back(bring(set, file, from, downloads));
      const std::string sum =
          checked_sum(file, archives.back(), options.any_hash, is_address(from));
      genuine &= sum == file.sha256;
      packed += static_cast<std::int64_t>(fs::file_size(archives.back()));
      files.push_back({{"name", file.name}, {"from", from}, {"sha256", sum}});
    }
    require_space(data_folder, packed, "unpacked files, at the least,");
    try {
      unpack_all(set, archives, made);
    } catch (const UsageError&) {  // the next call must not take them for good
      remove_downloads();
      throw;
    }
    nlohmann::ordered_json sizes;
    for (const Required& required : set.required)
      sizes[required.name] = size_of(made / required.name);
    return nlohmann::ordered_json{
        {"task", set.task},
        {"data", set.data_name ? set.data_name(made) + ": " + set.title : set.title},
        {"known_copy", genuine},
        {"files", files},
        {"sizes", sizes}};
  };
  const auto source = bring_set(
      place, [](const nlohmann::ordered_json&) {}, write);
  remove_downloads();
  if (std::error_code not_empty; !archives.empty()) fs::remove(downloads, not_empty);
  return source;
}

void require_whole(const DataSet& set, const fs::path& folder) {
  if (!fs::exists(folder / kSourceFile)) return;
  const auto source =
      read_about({folder, set.task, kSourceFile, {{"known_copy?", false}, {"sizes?", {{"*", 0}}}}});
  const bool known = source.value("known_copy", false);
  for (const Required& required : set.required) {
    const std::int64_t published = known ? required.size : 0,
                       wanted = source.contains("sizes")
                                    ? source["sizes"].value(required.name, published)
                                    : published;
    const fs::path path = folder / required.name;
    if (wanted == 0 || !fs::exists(path)) continue;  // its reader says that it is missing
    if (const std::int64_t size = size_of(path); size != wanted) {
      const char* unit = fs::is_directory(path) ? " files" : " bytes";
      throw UsageError(text(path.string(), ": expected the ", wanted, unit,
                            " that were fetched, there are ", size));
    }
  }
}

}  // namespace fastmax::app
