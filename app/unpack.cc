#include "app/unpack.h"

#include <archive.h>
#include <archive_entry.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <vector>

#include "app/error.h"
#include "app/files.h"
#include "app/signals.h"

namespace fastmax::app {
namespace fs = std::filesystem;
namespace {

constexpr std::int64_t kHeader = 512;  // bytes of tar's header of an entry

class Archive {
 public:
  explicit Archive(fs::path file)
      : file_(std::move(file)), reader_(archive_read_new(), archive_read_free) {
    archive_read_support_filter_all(get());
    archive_read_support_format_tar(get());
    archive_read_support_format_raw(get());
    if (archive_read_open_filename(get(), file_.c_str(), 1 << 20) != ARCHIVE_OK) refuse("");
  }
  archive* get() const { return reader_.get(); }

  // The next entry; none at the end.
  archive_entry* next() {
    archive_entry* entry = nullptr;
    const int code = archive_read_next_header(get(), &entry);
    if (code == ARCHIVE_EOF) return nullptr;
    if (code != ARCHIVE_OK) refuse("");
    // A raw entry must be compressed: an uncompressed file that is no tar is not an archive.
    if (archive_format(get()) == ARCHIVE_FORMAT_RAW && archive_filter_count(get()) < 2) {
      throw UsageError("expected a tar or a compressed file, " + file_.string() + " is neither");
    }
    return entry;
  }

  std::size_t read(std::vector<char>& buffer, const std::string& name) {
    const la_ssize_t count = archive_read_data(get(), buffer.data(), buffer.size());
    if (count < 0) refuse(" in " + name);
    return static_cast<std::size_t>(count);
  }

 private:
  [[noreturn]] void refuse(const std::string& where) const {
    const char* why = archive_error_string(get());
    throw UsageError(text("expected a whole archive, ", file_.string(), " is damaged", where, ": ",
                          why ? why : "unknown format"));
  }
  fs::path file_;
  std::unique_ptr<archive, decltype(&archive_read_free)> reader_;
};

void check_name(const fs::path& archive, const std::string& name) {
  const fs::path path(name);
  bool climbs = name.empty() || path.is_absolute();
  for (const fs::path& part : path) climbs |= part == "..";
  if (climbs) {
    throw UsageError(text("expected an archive whose names stay inside its folder, ",
                          archive.string(), " has \"", name, "\""));
  }
}

}  // namespace

void unpack(const fs::path& file, const fs::path& folder, const Contents& most, Contents& so_far,
            const std::function<std::string(const std::string&)>& place,
            const std::function<void(std::int64_t)>& progress) {
  Archive archive(file);
  std::vector<char> buffer(1 << 18);
  const auto count = [&](std::int64_t bytes, std::int64_t entries) {
    so_far.bytes += bytes;
    so_far.entries += entries;
    if (so_far.bytes <= most.bytes && so_far.entries <= most.entries) return;
    throw UsageError(text("expected at most ", most.entries, " files of ", most.bytes,
                          " bytes together, ", file.string(), " holds more"));
  };
  while (archive_entry* entry = archive.next()) {
    count(kHeader, 0);
    StopRequest::stop_if_pending("stopped while unpacking " + file.string());
    const char* raw_name = archive_entry_pathname(entry);
    const std::string name = raw_name ? raw_name : "";
    check_name(file, name);
    const auto type = archive_entry_filetype(entry);
    if (type == AE_IFDIR) continue;
    if (archive_entry_hardlink(entry) || archive_entry_symlink(entry) || type != AE_IFREG) {
      throw UsageError(text("expected an archive of files and folders, ", file.string(), " has \"",
                            name, "\", a link or a device"));
    }
    const std::string target = place(name);
    if (target.empty()) {  // read all the same: what has no end must not be skipped for ever
      while (const std::size_t bytes = archive.read(buffer, name))
        count(static_cast<std::int64_t>(bytes), 0);
      continue;
    }
    const fs::path path = folder / target;
    make_folder(path.parent_path());
    count(0, 1);
    errno = 0;
    std::ofstream out(path, std::ios::binary);
    while (const std::size_t bytes = archive.read(buffer, name)) {
      count(static_cast<std::int64_t>(bytes), 0);
      out.write(buffer.data(), static_cast<std::streamsize>(bytes));
    }
    if (!out.flush())
      throw WorkError("cannot write " + path.string() + ": " + std::strerror(errno));
    if (so_far.entries % 100 == 0) progress(so_far.entries);
  }
}

}  // namespace fastmax::app
