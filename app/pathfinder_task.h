// Pathfinder as a task: a picture in, pixel by pixel or in patches, and whether its two discs are on one path.
#pragma once
#include <cstdint>
#include <memory>
#include <span>

#include "app/examples.h"
#include "app/task.h"

namespace fastmax::app {

/// Pixels between the two discs of a picture, rounded. They are its brightest squares of 3 x 3 pixels that do not overlap.
int disc_distance(std::span<const std::uint8_t> picture);

/// The accuracy on the test part of who knows only how far the discs are apart: of each distance the commonest training label.
double distance_accuracy(const Parts& parts);

/// From the recipe's data.path, or from where `data make` puts its variant. The first 80 % of the pictures are for training,
/// the next 10 % for validation, the last for testing.
std::unique_ptr<Task> load_pathfinder(const Recipe& recipe);

}  // namespace fastmax::app
