#include "app/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "app/error.h"
#include "app/files.h"

namespace fastmax::app {
namespace {

const std::map<std::string, std::size_t>& element_sizes() {
  static const std::map<std::string, std::size_t> sizes = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"I16", 2}, {"U16", 2}, {"F16", 2}, {"BF16", 2},
      {"I32", 4},  {"U32", 4}, {"F32", 4}, {"I64", 8}, {"U64", 8}, {"F64", 8}};
  return sizes;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  return nlohmann::json(shape).dump();
}

}  // namespace

void write_safetensors(const std::filesystem::path& file, const std::vector<Array>& arrays,
                       const Metadata& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::size_t offset = 0;
  for (const Array& array : arrays) {
    header[array.name] = {{"dtype", array.dtype},
                          {"shape", array.shape},
                          {"data_offsets", {offset, offset + array.bytes.size()}}};
    offset += array.bytes.size();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');

  NewFile out(file);
  std::string length(8, '\0');
  for (int i = 0; i < 8; ++i) length[i] = static_cast<char>(text.size() >> (8 * i));
  out.write(length);
  out.write(text);
  for (const Array& array : arrays) {
    out.write({reinterpret_cast<const char*>(array.bytes.data()), array.bytes.size()});
  }
  out.commit();
}

Safetensors::Safetensors(const std::filesystem::path& file)
    : file_(file), bytes_(read_file(file, "a safetensors file")) {
  const auto require = [&](bool ok, const std::string& what) {
    if (!ok) throw UsageError(text("expected a safetensors file, ", file.string(), ": ", what));
  };
  require(bytes_.size() >= 8, text("only ", bytes_.size(), " bytes"));
  std::uint64_t length = 0;
  for (int i = 0; i < 8; ++i) {
    length |= std::uint64_t{static_cast<unsigned char>(bytes_[i])} << (8 * i);
  }
  require(length <= bytes_.size() - 8, "its header is truncated");
  const auto header = nlohmann::ordered_json::parse(bytes_.begin() + 8, bytes_.begin() + 8 + length,
                                                    nullptr, /*allow_exceptions=*/false);
  require(header.is_object(), "its header is not a JSON object");
  const std::span<const std::byte> data(
      reinterpret_cast<const std::byte*>(bytes_.data()) + 8 + length, bytes_.size() - 8 - length);

  std::size_t end = 0;
  try {
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__") {
        metadata_ = entry.get<Metadata>();
        continue;
      }
      Array array{name, entry.at("dtype"), entry.at("shape"), {}};
      const auto offsets = entry.at("data_offsets").get<std::vector<std::size_t>>();
      const auto size = element_sizes().find(array.dtype);
      require(size != element_sizes().end(), name + " has the unknown type " + array.dtype);
      std::size_t count = size->second;
      for (const std::int64_t n : array.shape) {
        require(n >= 0 && (n == 0 || count <= bytes_.size() / static_cast<std::size_t>(n)),
                name + " has the shape " + shape_text(array.shape) + ", more than the file");
        count *= static_cast<std::size_t>(n);
      }
      require(offsets.size() == 2 && offsets[0] <= offsets[1] && offsets[1] - offsets[0] == count,
              name + " has offsets that do not fit its shape");
      require(offsets[1] <= data.size(), "it is truncated");
      array.bytes = data.subspan(offsets[0], count);
      end = std::max(end, offsets[1]);
      arrays_.push_back(std::move(array));
    }
  } catch (const nlohmann::json::exception& e) {
    require(false, std::string("its header is malformed: ") + e.what());
  }
  require(end == data.size(), text("expected ", end, " bytes of data, got ", data.size()));
}

const Array& Safetensors::get(const std::string& name, const std::string& dtype,
                              const std::vector<std::int64_t>& shape) const {
  for (const Array& array : arrays_) {
    if (array.name != name) continue;
    if (array.dtype == dtype && array.shape == shape) return array;
    throw UsageError(text(file_.string(), ": expected ", name, " to be ", dtype, " ",
                          shape_text(shape), ", got ", array.dtype, " ", shape_text(array.shape)));
  }
  throw UsageError(text(file_.string(), ": expected an array ", name, ", got none"));
}

const std::string& Safetensors::note(const std::string& key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) {
    throw UsageError(text(file_.string(), ": expected the note ", key, ", got none"));
  }
  return found->second;
}

}  // namespace fastmax::app
