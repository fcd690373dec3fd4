// Grey pictures as PNG files, a byte a pixel.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

namespace fastmax::app {

/// Throws WorkError when the file cannot be written.
void write_png(const std::filesystem::path& file, std::span<const std::uint8_t> pixels, int width,
               int height);

/// width x height pixels, row by row. Throws UsageError that names the file, what is wrong with it and, of a damaged one, the byte
/// up to which it was read.
std::vector<std::uint8_t> read_png(const std::filesystem::path& file, int width, int height);

}  // namespace fastmax::app
