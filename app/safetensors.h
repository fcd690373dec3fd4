// Named arrays in one file, as the `safetensors` package of Python reads and writes them:
//
//   8 bytes   length of the header, little endian
//   header    JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...,
//                    "__metadata__": {"key": "text", ...}}, padded with spaces to a multiple of 8
//   data      the arrays, row-major, one after the other, no gaps
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace fastmax::app {

/// One array; the bytes belong to somebody else.
struct Array {
  std::string name;
  std::string dtype;  ///< "F32", "F64", "I64", "U8", ...
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
};

using Metadata = std::map<std::string, std::string>;

/// Appears whole or not at all. Throws WorkError.
void write_safetensors(const std::filesystem::path& file, const std::vector<Array>& arrays,
                       const Metadata& metadata = {});

/// A file in memory.
class Safetensors {
 public:
  /// Throws UsageError when the file is missing, truncated, or not what the format says.
  explicit Safetensors(const std::filesystem::path& file);

  const std::vector<Array>& arrays() const { return arrays_; }
  const Metadata& metadata() const { return metadata_; }
  /// Throws UsageError naming the file when there is none of that name, type and shape.
  const Array& get(const std::string& name, const std::string& dtype,
                   const std::vector<std::int64_t>& shape) const;
  /// Throws UsageError naming the file when there is none.
  const std::string& note(const std::string& key) const;

 private:
  std::filesystem::path file_;
  std::string bytes_;
  std::vector<Array> arrays_;
  Metadata metadata_;
};

}  // namespace fastmax::app
