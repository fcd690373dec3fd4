#include "app/download.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <string_view>

#include "app/error.h"
#include "app/signals.h"

namespace fastmax::app {
namespace fs = std::filesystem;
namespace {

constexpr long kSilence = 60;  // seconds without a byte are a broken connection
constexpr int kTries = 3;      // a broken connection is taken up again

// What tells one state of a file on the server from another: its strong ETag, else when it was modified.
struct Version {
  std::string tag, modified;

  const std::string& known() const { return tag.empty() ? modified : tag; }
};

struct Transfer {
  int descriptor;
  std::int64_t there;  // bytes of the part
  std::int64_t most;
  const fs::path& version_file;
  const std::function<void(std::int64_t, std::int64_t)>& progress;
  std::string problem = {};  // ours, beside what curl finds
  Version version = {};      // of what is coming

  void remember_version() const {
    std::error_code none;
    fs::remove(version_file, none);
    if (!version.known().empty()) std::ofstream(version_file) << version.known() << '\n';
  }
};

std::size_t receive(char* bytes, std::size_t, std::size_t count, void* transfer) {
  Transfer& t = *static_cast<Transfer*>(transfer);
  if (t.there + static_cast<std::int64_t>(count) > t.most) {
    t.problem = text("expected at most ", t.most, " bytes, more are coming");
    return 0;
  }
  if (t.there == 0) t.remember_version();
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

std::size_t read_header(char* bytes, std::size_t, std::size_t count, void* version) {
  Version& v = *static_cast<Version*>(version);
  std::string_view line(bytes, count);
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.remove_suffix(1);
  const auto value_of = [&](std::string_view name) {
    std::string_view value;
    if (line.size() > name.size() && curl_strnequal(line.data(), name.data(), name.size())) {
      value = line.substr(name.size());
      value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
    }
    return std::string(value);
  };
  if (line.rfind("HTTP/", 0) == 0) v = {};  // a redirection's are of another file
  if (const std::string tag = value_of("ETag:"); tag.rfind('"', 0) == 0) v.tag = tag;
  if (const std::string date = value_of("Last-Modified:"); !date.empty()) v.modified = date;
  return count;
}

[[noreturn]] void fail(const std::string& address, const fs::path& part, const Transfer& t,
                       const std::string& why) {
  throw WorkError(text("cannot fetch ", address, ": ", why,
                       t.there > 0 ? text("; the first ", t.there, " bytes stay in ", part.string(),
                                          ", the same command goes on with them")
                                   : ""));
}

std::string first_line(const fs::path& file) {
  std::string line;
  std::ifstream in(file);
  std::getline(in, line);
  return line;
}

}  // namespace

void download(const std::string& address, const fs::path& file, std::int64_t most,
              const std::function<void(std::int64_t, std::int64_t)>& progress) {
  fs::path part = file, version_file = file;
  part += ".part";
  version_file += ".version";
  const int descriptor = ::open(part.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor < 0)
    throw WorkError("cannot write " + part.string() + ": " + std::strerror(errno));
  const std::shared_ptr<void> closing(nullptr, [descriptor](void*) { ::close(descriptor); });
  const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl(curl_easy_init(),
                                                                 curl_easy_cleanup);
  if (!curl) throw WorkError("cannot start libcurl");

  Transfer t{descriptor, ::lseek(descriptor, 0, SEEK_END), most, version_file, progress};
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
  set(CURLOPT_HEADERFUNCTION, &read_header);
  set(CURLOPT_HEADERDATA, &t.version);
  for (int tries = 1;; ++tries) {
    set(CURLOPT_RESUME_FROM_LARGE, static_cast<curl_off_t>(t.there));
    // A server whose file is another by now sends all of it.
    const std::string known = t.there > 0 ? first_line(version_file) : "";
    const std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers(
        known.empty() ? nullptr : curl_slist_append(nullptr, ("If-Range: " + known).c_str()),
        curl_slist_free_all);
    set(CURLOPT_HTTPHEADER, headers.get());
    const CURLcode code = curl_easy_perform(curl.get());
    set(CURLOPT_HTTPHEADER, static_cast<curl_slist*>(nullptr));
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
  fs::remove(version_file);
  if (::fsync(descriptor) != 0 || ::rename(part.c_str(), file.c_str()) != 0) {
    throw WorkError("cannot write " + file.string() + ": " + std::strerror(errno));
  }
}

}  // namespace fastmax::app
