#include "app/files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <system_error>

#include "app/error.h"
#include "app/utf8.h"

namespace fastmax::app {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kBuffer = 1 << 20;
constexpr const char* kInTheMaking = ".tmp-";

[[noreturn]] void fail_to_write(const fs::path& file) {
  throw WorkError("cannot write " + file.string() + ": " + std::strerror(errno));
}

void write_all(int descriptor, std::string_view bytes, const fs::path& file) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_to_write(file);
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

// Unique among processes; within one, a name is in the making only once at a time.
fs::path temporary_name(const fs::path& path) {
  fs::path name = path;
  name += kInTheMaking + std::to_string(::getpid());
  return name;
}

// What is there and is no regular file, a device, a pipe or a link, stays what it is: no other file may take its name.
fs::path name_while_written(const fs::path& file) {
  const fs::file_status there = fs::symlink_status(file);
  return fs::exists(there) && !fs::is_regular_file(there) ? file : temporary_name(file);
}

void sync_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY);
  if (descriptor < 0) return;
  ::fsync(descriptor);  // some file systems refuse: the rename is then as lasting as they make it
  ::close(descriptor);
}

}  // namespace

std::string read_file(const fs::path& file, std::string_view what) {
  const auto fail = [&](const std::string& reason) {
    throw UsageError(text("expected ", what, ", cannot read ", file.string(), ": ", reason));
  };
  if (fs::is_directory(file)) fail("it is a folder");
  std::ifstream in(file, std::ios::binary | std::ios::ate);
  if (!in) fail(std::strerror(errno));
  std::string bytes(static_cast<std::size_t>(in.tellg()), '\0');
  in.seekg(0);
  in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!in) fail("it ended early");
  return bytes;
}

NewFile::NewFile(fs::path file) : file_(std::move(file)), temporary_(name_while_written(file_)) {
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail_to_write(file_);
}

NewFile::~NewFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  if (temporary_ != file_) ::unlink(temporary_.c_str());
}

void NewFile::write(std::string_view bytes) {
  buffer_ += bytes;
  if (buffer_.size() >= kBuffer) flush();
}

void NewFile::flush() {
  write_all(descriptor_, buffer_, file_);
  buffer_.clear();
}

void NewFile::commit() {
  flush();
  const bool renamed = temporary_ != file_;
  if (renamed && ::fsync(descriptor_) != 0) fail_to_write(file_);
  if (renamed && ::rename(temporary_.c_str(), file_.c_str()) != 0) fail_to_write(file_);
  ::close(descriptor_);
  descriptor_ = -1;
  if (renamed) sync_folder(file_.parent_path());
}

void write_file(const fs::path& file, std::string_view bytes) {
  NewFile out(file);
  out.write(bytes);
  out.commit();
}

NewFolder::NewFolder(fs::path folder) : folder_(std::move(folder)) {
  temporary_ = temporary_name(folder_);
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
  make_folder(temporary_);
}

NewFolder::~NewFolder() {
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
}

bool NewFolder::commit() {
  sync_folder(temporary_);
  if (::rename(temporary_.c_str(), folder_.c_str()) != 0) {
    if (errno == EEXIST || errno == ENOTEMPTY) return false;
    fail_to_write(folder_);
  }
  sync_folder(folder_.parent_path());
  return true;
}

void append_line(const fs::path& file, std::string_view line) {
  const int descriptor = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor < 0) fail_to_write(file);
  try {
    write_all(descriptor, std::string(line) + "\n", file);
  } catch (...) {
    ::close(descriptor);
    throw;
  }
  ::close(descriptor);
}

void remove_leftovers(const fs::path& folder, const std::string& name) {
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::size_t at = entry.path().filename().string().find(name + kInTheMaking);
    if (name.empty() ? at == std::string::npos : at != 0) continue;
    std::error_code ignored;
    fs::remove_all(entry.path(), ignored);
  }
}

void require_folder_of(std::string_view option, const fs::path& file) {
  if (file.empty()) return;
  if (fs::is_directory(fs::absolute(file).parent_path()) && !fs::is_directory(file)) return;
  throw UsageError(
      text(option, ": expected a file in a folder that exists, got '", file.string(), "'"));
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw WorkError("cannot make the folder " + folder.string() + ": " + error.message());
}

void require_space(const fs::path& folder, std::int64_t bytes, const std::string& what) {
  std::error_code error;
  const fs::space_info space = fs::space(folder, error);
  if (error || space.available >= static_cast<std::uintmax_t>(bytes)) return;
  throw WorkError(text("expected room for ", bytes / 1000, " kB of ", what, " in ", folder.string(),
                       ", there are ", space.available / 1000, " kB"));
}

fs::path data_folder(const std::string& asked) {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value ? value : "");
  };
  const std::string chosen = asked.empty() ? variable("FASTMAX_DATA") : asked,
                    home = variable("HOME");
  if (chosen.empty() && home.empty())
    throw UsageError(
        "expected --data-dir, $FASTMAX_DATA or $HOME to say where data is kept, got none");
  const fs::path folder = chosen.empty() ? fs::path(home) / ".cache/fastmax" : fs::path(chosen);
  if (!is_utf8(folder.string()))  // recipes and JSON, which name it, are
    throw UsageError("expected a data folder whose name is UTF-8, got " + folder.string());
  return folder;
}

}  // namespace fastmax::app
