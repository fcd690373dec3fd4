#include "app/png.h"

#include <png.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "app/error.h"

namespace fastmax::app {

void write_png(const std::filesystem::path& file, std::span<const std::uint8_t> pixels, int width,
               int height) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(width);
  image.height = static_cast<png_uint_32>(height);
  image.format = PNG_FORMAT_GRAY;
  if (!png_image_write_to_file(&image, file.c_str(), 0, pixels.data(), 0, nullptr)) {
    throw WorkError("cannot write " + file.string() + ": " + image.message);
  }
}

std::vector<std::uint8_t> read_png(const std::filesystem::path& file, int width, int height) {
  struct Close {
    void operator()(std::FILE* open) const { std::fclose(open); }
  };
  const std::unique_ptr<std::FILE, Close> open(std::fopen(file.c_str(), "rb"));
  if (!open) {
    throw UsageError(
        text("expected a picture, cannot read ", file.string(), ": ", std::strerror(errno)));
  }
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  const std::unique_ptr<png_image, decltype(&png_image_free)> release(&image, png_image_free);
  const auto require = [&](bool well) {
    if (well && image.warning_or_error == 0) return;
    throw UsageError(text(file.string(), ": byte ", std::ftell(open.get()),
                          ": expected a whole PNG file, got one with: ", image.message));
  };
  require(png_image_begin_read_from_stdio(&image, open.get()));
  if (image.width != static_cast<png_uint_32>(width) ||
      image.height != static_cast<png_uint_32>(height) || image.format != PNG_FORMAT_GRAY) {
    throw UsageError(text(file.string(), ": expected ", width, " x ", height,
                          " grey pixels of a byte, got ", image.width, " x ", image.height,
                          image.format == PNG_FORMAT_GRAY ? "" : " of another kind"));
  }
  std::vector<std::uint8_t> pixels(PNG_IMAGE_SIZE(image));
  require(png_image_finish_read(&image, nullptr, pixels.data(), 0, nullptr));
  return pixels;
}

}  // namespace fastmax::app
