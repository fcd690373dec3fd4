#include "app/download.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "app/error.h"
#include "app/signals.h"

namespace fastmax::app {
namespace fs = std::filesystem;
namespace {

constexpr long kSilence = 60;  // seconds without a byte are a broken connection
constexpr int kTries = 3;      // a broken connection is taken up again

struct Transfer {
  int descriptor;
  std::int64_t there;  // bytes of the part
  std::int64_t most;
  const std::function<void(std::int64_t, std::int64_t)>& progress;
  std::string problem = {};  // ours, beside what curl finds
};

std::size_t receive(char* bytes, std::size_t, std::size_t count, void* transfer) {
  Transfer& t = *static_cast<Transfer*>(transfer);
  if (t.there + static_cast<std::int64_t>(count) > t.most) {
    t.problem = text("expected at most ", t.most, " bytes, more are coming");
    return 0;
  }
  for (std::size_t done = 0; done < count;) {
    const ssize_t written = ::write(t.descriptor, bytes + done, count - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      t.problem = std::strerror(errno);
      return 0;
    }
    done += static_cast<std::size_t>(written);
  }
  t.there += static_cast<std::int64_t>(count);
  return count;
}

int tick(void* transfer, curl_off_t all, curl_off_t now, curl_off_t, curl_off_t) {
  const Transfer& t = *static_cast<Transfer*>(transfer);
  t.progress(t.there, all > 0 ? t.there + all - now : 0);
  return StopRequest::pending() ? 1 : 0;
}

[[noreturn]] void fail(const std::string& address, const fs::path& part, const Transfer& t,
                       const std::string& why) {
  throw WorkError(text("cannot fetch ", address, ": ", why,
                       t.there > 0 ? text("; the first ", t.there, " bytes stay in ", part.string(),
                                          ", the same command goes on with them")
                                   : ""));
}

}  // namespace

void download(const std::string& address, const fs::path& file, std::int64_t most,
              const std::function<void(std::int64_t, std::int64_t)>& progress) {
  fs::path part = file;
  part += ".part";
  const int descriptor = ::open(part.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor < 0)
    throw WorkError("cannot write " + part.string() + ": " + std::strerror(errno));
  const std::shared_ptr<void> closing(nullptr, [descriptor](void*) { ::close(descriptor); });
  const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl(curl_easy_init(),
                                                                 curl_easy_cleanup);
  if (!curl) throw WorkError("cannot start libcurl");

  Transfer t{descriptor, ::lseek(descriptor, 0, SEEK_END), most, progress};
  const auto set = [&](CURLoption option, auto value) {
    curl_easy_setopt(curl.get(), option, value);
  };
  set(CURLOPT_URL, address.c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https,file");
  set(CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
  set(CURLOPT_FOLLOWLOCATION, 1L);
  set(CURLOPT_FAILONERROR, 1L);  // an error page is not a file
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_CONNECTTIMEOUT, 30L);
  set(CURLOPT_LOW_SPEED_LIMIT, 1L);
  set(CURLOPT_LOW_SPEED_TIME, kSilence);
  set(CURLOPT_USERAGENT, "fastmax");
  set(CURLOPT_WRITEFUNCTION, &receive);
  set(CURLOPT_WRITEDATA, &t);
  set(CURLOPT_XFERINFOFUNCTION, &tick);
  set(CURLOPT_XFERINFODATA, &t);
  set(CURLOPT_NOPROGRESS, 0L);
  for (int tries = 1;; ++tries) {
    set(CURLOPT_RESUME_FROM_LARGE, static_cast<curl_off_t>(t.there));
    const CURLcode code = curl_easy_perform(curl.get());
    if (code == CURLE_OK) break;
    if (code == CURLE_ABORTED_BY_CALLBACK) {
      throw Interrupted(StopRequest::pending(),
                        text("stopped after ", t.there, " bytes of ", address,
                             "; the same command goes on with them"));
    }
    long status = 0;
    curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
    if (code == CURLE_RANGE_ERROR && t.there > 0) {  // the server sends all of it or nothing
      if (::ftruncate(descriptor, 0) != 0) fail(address, part, t, std::strerror(errno));
      t.there = 0;
      if (tries < kTries) continue;
    }
    if (!t.problem.empty()) fail(address, part, t, t.problem);
    if (code == CURLE_HTTP_RETURNED_ERROR) {
      fail(address, part, t, text("the server answers ", status));
    }
    const bool broken = code == CURLE_PARTIAL_FILE || code == CURLE_RECV_ERROR ||
                        code == CURLE_OPERATION_TIMEDOUT || code == CURLE_GOT_NOTHING;
    if (!broken || tries == kTries) fail(address, part, t, curl_easy_strerror(code));
  }
  if (::fsync(descriptor) != 0 || ::rename(part.c_str(), file.c_str()) != 0) {
    throw WorkError("cannot write " + file.string() + ": " + std::strerror(errno));
  }
}

}  // namespace fastmax::app
