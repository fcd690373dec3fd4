// Images as sequences: a token is a pixel, row by row, its grey level the token's id; or, with data.patch above 1, a
// square of pixels.
#pragma once
#include <filesystem>
#include <memory>

#include "app/examples.h"
#include "app/sequence_task.h"
#include "app/task.h"

namespace fastmax::app {

/// Pixels along an edge of the task's images; 0: its tokens are no pixels.
std::int64_t image_side(const std::string& task);

/// Images of `side` x `side` as the recipe wants them: data.patch, data.mask_zero_pixels. `shortcuts` are baselines beside the
/// majority class.
std::unique_ptr<Task> image_task(const Recipe& recipe, Parts parts, std::int64_t side,
                                 const Accuracies& shortcuts = {});

/// The grey level by which the Long Range Arena makes CIFAR-10 a sequence of numbers:
/// floor(255.5 / 255 (.2989 R + .5870 G + .1140 B)) in float32, as TensorFlow computes it.
std::uint8_t grey_level(std::uint8_t red, std::uint8_t green, std::uint8_t blue);

/// CIFAR-10's binary files in FOLDER/cifar-10-batches-bin: 45,000 for training, the last tenth of the training files
/// for validation, 10,000 for testing. Throws UsageError that names file and offset of a damaged record.
Parts read_cifar10(const std::filesystem::path& folder);

/// MNIST's idx files; the last 5,000 training images are for validation. Errors as above.
Parts read_mnist(const std::filesystem::path& folder);

/// Tasks `image` and `mnist`.
std::unique_ptr<Task> load_image(const Recipe& recipe);

}  // namespace fastmax::app
