// A file that one process at a time holds.
#pragma once
#include <filesystem>
#include <string>

namespace fastmax::app {

/// Held until destroyed, or until the process ends in whatever way. The file itself stays: removing it would let two
/// processes hold two files of one name.
class FileLock {
 public:
  /// Throws UsageError "expected WHAT that nobody is making, another process ..." when another process holds it.
  FileLock(const std::filesystem::path& file, const std::string& what);
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  ~FileLock();

 private:
  int descriptor_;
};

}  // namespace fastmax::app
