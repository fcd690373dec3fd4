// States on disk: safetensors with one tensor named `state`.
//
//   8 bytes: length of the header, little endian; the header, JSON; the numbers, little endian
//   {"__metadata__": {"order": "2", ..}, "state": {"dtype": "F32", "shape": [B, Hkv, F, E + 1], "data_offsets": [0, n]}}
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace fastmax {

struct StateFile {
  std::string dtype;  ///< "F32" or "F64"
  std::array<std::int64_t, 4> shape{};
  std::map<std::string, std::string> metadata;
  std::vector<std::byte> data;
};

/// Writes under a temporary name beside `path` and renames. Throws std::runtime_error with the system's reason.
void write_state_file(const std::string& path, const std::string& dtype,
                      const std::array<std::int64_t, 4>& shape,
                      const std::map<std::string, std::string>& metadata,
                      std::span<const std::byte> data);

/// Throws Error where the file is no such state, std::runtime_error where it cannot be read.
StateFile read_state_file(const std::string& path);

}  // namespace fastmax
