// The checksum by which an archive is known.
#pragma once
#include <filesystem>
#include <string>

namespace fastmax::app {

/// SHA-256 (FIPS 180-4) of a file, 64 lower-case hexadecimal digits. Throws UsageError when it cannot be read.
std::string sha256(const std::filesystem::path& file);

}  // namespace fastmax::app
