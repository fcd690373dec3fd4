// Pathfinder: do two marked ends belong to the same dashed path? The Long Range Arena's task.
//
// Two paths of dashes wander through a picture of 32 x 32 pixels, among shorter ones. One path has a disc at its first dash;
// a second disc is at the last dash of the same path (label 1) or of the other (label 0). This is the generator of Linsley et al.
// 2018 (github.com/drewlinsley/pathfinder, snakes2 of 2019) with the Arena's settings, quirks included: what it accepts
// decides what the pictures look like.
#pragma once
#include <array>
#include <cstdint>
#include <string>

namespace fastmax::app::pathfinder {

inline constexpr int kSide = 32, kPixels = kSide * kSide;

struct Variant {
  std::string name;    ///< "easy", "inter", "hard"
  std::string folder;  ///< the Arena's name of its pictures
  int dashes;          ///< of a path
  int distractor_dashes() const { return dashes / 3; }
};
/// By name; "hard" is what the Arena's published results are about.
const std::array<Variant, 3>& variants();
/// Throws UsageError for another name.
const Variant& variant(const std::string& name);

struct Picture {
  std::array<std::uint8_t, kPixels> pixels{};  ///< grey levels, row by row
  int label = 0;                               ///< 1: the discs are on one path
  std::int64_t attempts = 0;                   ///< pairs of paths begun until one was whole
};

/// Picture i of a set: a pure function of its arguments.
Picture picture(const Variant& variant, std::uint64_t seed, std::int64_t i);

}  // namespace fastmax::app::pathfinder
