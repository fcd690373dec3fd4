#include "app/lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "app/error.h"

namespace fastmax::app {

FileLock::FileLock(const std::filesystem::path& file, const std::string& what)
    : descriptor_(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0)
    throw WorkError("cannot write " + file.string() + ": " + std::strerror(errno));
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    ::close(descriptor_);
    throw UsageError("expected " + what + " that nobody else is making, another process holds " +
                     file.string());
  }
}

FileLock::~FileLock() { ::close(descriptor_); }

}  // namespace fastmax::app
