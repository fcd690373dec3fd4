// Files that are there whole or not at all: written under a temporary name, synced, then renamed. A device, a pipe or a link is
// written where it is.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace fastmax::app {

/// The whole file. Throws UsageError "expected WHAT, cannot read FILE: reason".
std::string read_file(const std::filesystem::path& file, std::string_view what);

/// A file in the making. Without commit() nothing remains of it.
class NewFile {
 public:
  explicit NewFile(std::filesystem::path file);
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile();

  /// Throws WorkError, for example when no space is left.
  void write(std::string_view bytes);
  /// Makes it last and gives it its name, replacing what had that name.
  void commit();

 private:
  void flush();

  std::filesystem::path file_, temporary_;
  std::string buffer_;
  int descriptor_ = -1;
};

void write_file(const std::filesystem::path& file, std::string_view bytes);

/// Before long work whose result goes to `file`, none if empty. Throws UsageError when the folder is not there.
void require_folder_of(std::string_view option, const std::filesystem::path& file);

/// A folder in the making, beside its place; without commit() it is removed.
class NewFolder {
 public:
  explicit NewFolder(std::filesystem::path folder);
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;
  ~NewFolder();

  const std::filesystem::path& path() const { return temporary_; }
  /// Gives it its name. False, and the folder is discarded, when somebody else was first.
  bool commit();

 private:
  std::filesystem::path folder_, temporary_;
};

/// Adds a line at the end of the file, which may not exist yet. Throws WorkError.
void append_line(const std::filesystem::path& file, std::string_view line);

/// Removes what a process that was killed left in the making in this folder; with a name, of that name only.
void remove_leftovers(const std::filesystem::path& folder, const std::string& name = "");

/// Creates the folder and its parents. Throws WorkError.
void make_folder(const std::filesystem::path& folder);

/// Throws WorkError when the file system of the folder has less room than `bytes` for `what`.
void require_space(const std::filesystem::path& folder, std::int64_t bytes,
                   const std::string& what);

/// Where data sets are kept: `asked`, else $FASTMAX_DATA, else ~/.cache/fastmax. Throws UsageError for a name that is not UTF-8.
std::filesystem::path data_folder(const std::string& asked);

}  // namespace fastmax::app
