#include "app/image_task.h"

#include <cmath>
#include <string_view>

#include "app/error.h"
#include "app/files.h"
#include "app/pathfinder.h"

namespace fastmax::app {
namespace fs = std::filesystem;
namespace {

constexpr std::int64_t kCifarSide = 32, kMnistSide = 28, kClasses = 10;
constexpr std::int64_t kCifarPixels = kCifarSide * kCifarSide;
constexpr std::int64_t kCifarRecord = 1 + 3 * kCifarPixels;  // label, then red, green, blue planes
constexpr std::int64_t kMnistValidation = 5000;

std::uint8_t byte(std::string_view bytes, std::int64_t at) {
  return static_cast<std::uint8_t>(bytes[static_cast<std::size_t>(at)]);
}

[[noreturn]] void refuse(const fs::path& file, std::int64_t offset, const std::string& what) {
  throw UsageError(text(file.string(), ": byte ", offset, ": ", what));
}

void require_label(const fs::path& file, std::int64_t offset, int label) {
  if (label >= kClasses) refuse(file, offset, text("expected a label from 0 to 9, got ", label));
}

void read_cifar_file(const fs::path& file, Examples& into) {
  const std::string bytes = read_file(file, "a file of CIFAR-10");
  const std::int64_t size = static_cast<std::int64_t>(bytes.size());
  if (size == 0 || size % kCifarRecord != 0) {
    refuse(file, size / kCifarRecord * kCifarRecord,
           text("expected a record of ", kCifarRecord, " bytes, got ", size % kCifarRecord));
  }
  std::uint8_t grey[kCifarPixels];
  for (std::int64_t at = 0; at < size; at += kCifarRecord) {
    require_label(file, at, byte(bytes, at));
    for (std::int64_t i = 0; i < kCifarPixels; ++i) {
      const std::int64_t red = at + 1 + i;
      grey[i] = grey_level(byte(bytes, red), byte(bytes, red + kCifarPixels),
                           byte(bytes, red + 2 * kCifarPixels));
    }
    into.add(grey, byte(bytes, at));
  }
}

// idx: 0, 0, the element's type (8: a byte), the number of dimensions, each as four bytes, the largest first;
// then the elements.
std::int64_t idx_header(const fs::path& file, std::string_view bytes,
                        std::initializer_list<std::int64_t> dimensions) {
  const auto number = [&](std::int64_t at) {
    std::int64_t value = 0;
    for (std::int64_t i = 0; i < 4; ++i) value = value << 8 | byte(bytes, at + i);
    return value;
  };
  const std::int64_t size = static_cast<std::int64_t>(bytes.size());
  const std::int64_t header = 8 + 4 * static_cast<std::int64_t>(dimensions.size());
  if (size < header)
    refuse(file, size, text("expected a header of ", header, " bytes, the file ends"));
  const std::int64_t magic = 0x800 + static_cast<std::int64_t>(dimensions.size()) + 1;
  if (number(0) != magic) refuse(file, 0, text("expected the number ", magic, ", got ", number(0)));
  std::int64_t at = 8, element = 1;
  for (const std::int64_t wanted : dimensions) {
    if (number(at) != wanted) {
      refuse(file, at, text("expected a dimension of ", wanted, ", got ", number(at)));
    }
    element *= wanted;
    at += 4;
  }
  const std::int64_t wanted = header + number(4) * element;
  if (size != wanted) {
    refuse(file, std::min(size, wanted),
           text("expected ", wanted, " bytes for ", number(4), " entries, got ", size));
  }
  return number(4);
}

void read_mnist_files(const fs::path& images_file, const fs::path& labels_file, Examples& into) {
  constexpr std::int64_t kPixels = kMnistSide * kMnistSide;
  const std::string images = read_file(images_file, "images of MNIST"),
                    labels = read_file(labels_file, "labels of MNIST");
  const std::int64_t count = idx_header(images_file, images, {kMnistSide, kMnistSide});
  if (const std::int64_t found = idx_header(labels_file, labels, {}); found != count) {
    refuse(labels_file, 4, text("expected ", count, " labels, one an image, got ", found));
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const int label = byte(labels, 8 + i);
    require_label(labels_file, 8 + i, label);
    const auto* first = reinterpret_cast<const std::uint8_t*>(images.data()) + 16 + i * kPixels;
    into.add({first, static_cast<std::size_t>(kPixels)}, label);
  }
}

// The last `count` training examples become the validation part.
void hold_out(Parts& parts, std::int64_t count) {
  Examples all = std::move(parts.train);
  parts.train = {};
  for (std::int64_t i = 0; i < all.size(); ++i) {
    (i < all.size() - count ? parts.train : parts.val).add(all[i], all.labels[i]);
  }
}

}  // namespace

std::int64_t image_side(const std::string& task) {
  if (task == "image") return kCifarSide;
  if (task == "mnist") return kMnistSide;
  return task == "pathfinder" ? pathfinder::kSide : 0;
}

std::uint8_t grey_level(std::uint8_t red, std::uint8_t green, std::uint8_t blue) {
  // tf.image.rgb_to_grayscale: bytes to floats, the weighted sum, and back with saturation.
  const float weighted = 0.2989f * (static_cast<float>(red) / 255) +
                         0.5870f * (static_cast<float>(green) / 255) +
                         0.1140f * (static_cast<float>(blue) / 255);
  return static_cast<std::uint8_t>(std::min(255.0f, weighted * 255.5f));
}

std::unique_ptr<Task> image_task(const Recipe& recipe, Parts parts, std::int64_t side,
                                 const Accuracies& shortcuts) {
  Accuracies baselines = {{"majority class", majority(parts)}};
  baselines.insert(baselines.end(), shortcuts.begin(), shortcuts.end());
  return std::make_unique<SequenceTask>(
      recipe, std::move(parts),
      TokenForm{
          .mask_zero = recipe.data.mask_zero_pixels, .side = side, .patch = recipe.data.patch},
      std::move(baselines));
}

Parts read_cifar10(const fs::path& folder) {
  Parts parts;
  const fs::path inside = folder / "cifar-10-batches-bin";
  for (int i = 1; i <= 5; ++i) {
    read_cifar_file(inside / text("data_batch_", i, ".bin"), parts.train);
  }
  read_cifar_file(inside / "test_batch.bin", parts.test);
  hold_out(parts, parts.train.size() / 10);
  return parts;
}

Parts read_mnist(const fs::path& folder) {
  Parts parts;
  read_mnist_files(folder / "train-images-idx3-ubyte", folder / "train-labels-idx1-ubyte",
                   parts.train);
  read_mnist_files(folder / "t10k-images-idx3-ubyte", folder / "t10k-labels-idx1-ubyte",
                   parts.test);
  hold_out(parts, std::min(kMnistValidation, parts.train.size() / 10));
  return parts;
}

std::unique_ptr<Task> load_image(const Recipe& recipe) {
  const fs::path folder = require_data(recipe);
  Parts parts = recipe.task == "image" ? read_cifar10(folder) : read_mnist(folder);
  require_examples(parts, recipe, folder);
  return image_task(recipe, std::move(parts), image_side(recipe.task));
}

}  // namespace fastmax::app
