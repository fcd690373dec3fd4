// Pathfinder on disk, as the Long Range Arena keeps it, here of the hard variant:
//
//   curv_contour_length_14/imgs/3/sample_8.png    a picture
//   curv_contour_length_14/metadata/3.npy         a line of text for each of them, by its number:
//   imgs/3 sample_8.png 8 1 1.0 14 4 2 0.5 1 1    folder, file, number, label, then settings of the generator
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>

#include "app/examples.h"
#include "app/pathfinder.h"

namespace fastmax::app::pathfinder {

inline constexpr std::int64_t kArenasPictures = 200'000;

/// Makes FOLDER with so many pictures, unless they are there, and returns its description (made_set.h). `progress(done)` is
/// called now and then.
nlohmann::ordered_json make(const Variant& variant, std::uint64_t seed, std::int64_t pictures,
                            const std::filesystem::path& folder,
                            const std::function<void(std::int64_t)>& progress);

/// All pictures of a variant below FOLDER, by their numbers, a token a pixel. The Arena's set has one empty file, which is
/// skipped with a notice. Strict: another damaged picture throws UsageError naming file and byte, a damaged line of text file, line and byte;
/// a file, a line or a picture of those that dataset.json counts that is missing, too.
Examples read(const Variant& variant, const std::filesystem::path& folder);

}  // namespace fastmax::app::pathfinder
