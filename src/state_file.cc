#include "src/state_file.h"

#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include "fastmax/error.h"

namespace fastmax {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors are little endian");

[[noreturn]] void fail(const std::string& what, const std::string& path) {
  throw std::runtime_error("fastmax: " + what + " " + path + ": " + std::strerror(errno));
}

/// Reads the JSON that safetensors headers consist of: objects, strings, whole numbers and lists of them.
class Header {
 public:
  Header(std::string text, const std::string& path) : text_(std::move(text)), path_(path) {}

  /// member(key) is called at each member's value and must read it.
  template <class Member>
  void object(const Member& member) {
    expect('{');
    if (accept('}')) return;
    do {
      const std::string key = string();
      expect(':');
      member(key);
    } while (accept(','));
    expect('}');
  }
  std::vector<std::int64_t> numbers() {
    std::vector<std::int64_t> list;
    expect('[');
    if (accept(']')) return list;
    do list.push_back(number());
    while (accept(','));
    expect(']');
    return list;
  }
  std::string string() {
    expect('"');
    const std::size_t end =
        text_.find_first_of("\"\\", at_);  // no name or value here needs an escape
    require(end != std::string::npos && text_[end] == '"', "plain strings in the header of ", path_,
            ", got an escape");
    std::string value = text_.substr(at_, end - at_);
    at_ = end + 1;
    return value;
  }
  void end() {
    skip();
    require(at_ == text_.size(), "the header of ", path_, " to end with its object, got more");
  }

 private:
  std::int64_t number() {
    skip();
    const std::size_t begin = at_;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
    require(at_ > begin && at_ - begin <= 18, "a whole number at byte ", begin,
            " of the header of ", path_, ", got '", text_.substr(begin, 1), "'");
    return std::stoll(text_.substr(begin, at_ - begin));
  }
  void skip() {
    while (at_ < text_.size() && std::strchr(" \t\r\n", text_[at_])) ++at_;
  }
  bool accept(char c) {
    skip();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    require(accept(c), "'", c, "' at byte ", at_, " of the header of ", path_, ", got '",
            text_.substr(at_, 1), "'");
  }

  std::string text_;
  const std::string& path_;
  std::size_t at_ = 0;
};

}  // namespace

void write_state_file(const std::string& path, const std::string& dtype,
                      const std::array<std::int64_t, 4>& shape,
                      const std::map<std::string, std::string>& metadata,
                      std::span<const std::byte> data) {
  std::ostringstream json;
  json << "{\"__metadata__\":{";
  for (const char* comma = ""; const auto& [key, value] : metadata) {
    json << comma << '"' << key << "\":\"" << value << '"';
    comma = ",";
  }
  json << "},\"state\":{\"dtype\":\"" << dtype << "\",\"shape\":[" << shape[0] << ',' << shape[1]
       << ',' << shape[2] << ',' << shape[3] << "],\"data_offsets\":[0," << data.size() << "]}}";
  std::string header = json.str();
  header.resize((header.size() + 7) / 8 * 8, ' ');  // so that the numbers are aligned
  const std::uint64_t length = header.size();

  const std::string temporary = path + ".tmp" + std::to_string(getpid());
  {
    std::ofstream file(temporary, std::ios::binary);
    if (!file) fail("cannot write", path);
    file.write(reinterpret_cast<const char*>(&length), sizeof length);
    file.write(header.data(), static_cast<std::streamsize>(header.size()));
    file.write(reinterpret_cast<const char*>(data.data()),
               static_cast<std::streamsize>(data.size()));
    file.close();
    if (!file) {
      const int reason = errno;
      std::error_code ignored;
      std::filesystem::remove(temporary, ignored);
      errno = reason;
      fail("cannot write", path);
    }
  }
  std::error_code error;
  std::filesystem::rename(temporary, path, error);
  if (!error) return;
  std::error_code ignored;
  std::filesystem::remove(temporary, ignored);
  throw std::runtime_error("fastmax: cannot write " + path + ": " + error.message());
}

StateFile read_state_file(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) fail("cannot read", path);
  std::uint64_t length = 0;
  file.read(reinterpret_cast<char*>(&length), sizeof length);
  require(file && length < (std::uint64_t{1} << 20), "a safetensors file, got ", path);
  std::string text(length, '\0');
  file.read(text.data(), static_cast<std::streamsize>(length));
  require(bool(file), "a whole header in ", path, ", got a truncated file");

  StateFile state;
  std::vector<std::int64_t> shape, offsets;
  Header header(std::move(text), path);
  header.object([&](const std::string& name) {
    if (name == "__metadata__") {
      header.object([&](const std::string& key) { state.metadata[key] = header.string(); });
      return;
    }
    require(name == "state", "one tensor named 'state' in ", path, ", got '", name, "'");
    header.object([&](const std::string& key) {
      if (key == "dtype") {
        state.dtype = header.string();
      } else {
        require(key == "shape" || key == "data_offsets", "dtype, shape and data_offsets in ", path,
                ", got '", key, "'");
        (key == "shape" ? shape : offsets) = header.numbers();
      }
    });
  });
  header.end();
  require(state.dtype == "F32" || state.dtype == "F64", "dtype F32 or F64 in ", path, ", got '",
          state.dtype, "'");
  require(shape.size() == 4, "shape [B, Hkv, F, E + 1] in ", path, ", got ", shape.size(),
          " dimensions");
  std::int64_t size = state.dtype == "F32" ? 4 : 8;
  for (std::size_t i = 0; i < 4; ++i) {
    require(shape[i] < (std::int64_t{1} << 40) && size < (std::int64_t{1} << 40),
            "a shape that fits memory in ", path, ", got ", shape[i]);
    state.shape[i] = shape[i];
    size *= shape[i];
  }
  require(offsets.size() == 2 && offsets[0] == 0 && offsets[1] == size, "data_offsets [0, ", size,
          "] in ", path, ", got others");
  state.data.resize(static_cast<std::size_t>(size));
  file.read(reinterpret_cast<char*>(state.data.data()), size);
  require(bool(file), size, " bytes of data in ", path, ", got ", file.gcount());
  require(file.peek() == std::ifstream::traits_type::eof(), path,
          " to end with its data, got more");
  return state;
}

}  // namespace fastmax
