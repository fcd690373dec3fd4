// Archives from strangers.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace fastmax::app {

/// What may come out of an archive.
struct UnpackLimits {
  std::int64_t bytes = 0;    ///< of all files together
  std::int64_t entries = 0;  ///< files
};

/// Unpacks the archive (tar, compressed or not, or one compressed file) into `folder`: every file for which
/// `place(name)` gives a path, relative to the folder; empty: not wanted.
///
/// Throws UsageError that names the archive and the entry when a name is absolute or holds "..", an entry is a link or
/// a device, the limits are exceeded, or the archive is damaged or ends early. Names that are not wanted are checked too.
/// `progress(files)` is called now and then. Returns the number of files that were written.
std::int64_t unpack(const std::filesystem::path& archive, const std::filesystem::path& folder,
                    const UnpackLimits& limits,
                    const std::function<std::string(const std::string&)>& place,
                    const std::function<void(std::int64_t)>& progress);

}  // namespace fastmax::app
