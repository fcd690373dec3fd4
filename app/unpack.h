// Archives from strangers.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace fastmax::app {

/// What comes out of archives.
struct Contents {
  std::int64_t bytes = 0;    ///< of all entries, wanted or not, with a header of 512 bytes each
  std::int64_t entries = 0;  ///< files that are wanted
};

/// Unpacks the archive (tar, compressed or not, or one compressed file) into `folder`: every file for which
/// `place(name)` gives a path, relative to the folder; empty: not wanted.
///
/// Throws UsageError that names the archive and the entry when a name is absolute or holds "..", an entry is a link or
/// a device, there is more than `most` in it and the archives before it, which `so_far` counts, or the archive is damaged or ends early.
/// Names that are not wanted are checked too. `progress(files)` is called now and then.
void unpack(const std::filesystem::path& archive, const std::filesystem::path& folder,
            const Contents& most, Contents& so_far,
            const std::function<std::string(const std::string&)>& place,
            const std::function<void(std::int64_t)>& progress);

}  // namespace fastmax::app
