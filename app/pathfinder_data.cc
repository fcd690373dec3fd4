#include "app/pathfinder_data.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "app/error.h"
#include "app/files.h"
#include "app/made_set.h"
#include "app/png.h"

namespace fastmax::app::pathfinder {
namespace fs = std::filesystem;
namespace {

constexpr std::int64_t kFolder = 1000;  // pictures of a folder
constexpr std::size_t kFields = 11;     // of a line of text
// The Arena's variant "easy" has an empty file here.
constexpr const char* kEmpty = "curv_baseline/imgs/0/sample_172.png";

std::string picture_folder(std::int64_t k) { return text("imgs/", k); }
std::string picture_file(std::int64_t n) { return text("sample_", n, ".png"); }
std::string text_file(std::int64_t k) { return text("metadata/", k, ".npy"); }

struct Totals {
  std::int64_t pictures = 0, attempts = 0, labels = 0, zero = 0, bright = 0;
  double sum = 0, squares = 0;

  void add(const Picture& picture) {
    ++pictures;
    attempts += picture.attempts;
    labels += picture.label;
    for (const std::uint8_t level : picture.pixels) {
      zero += level == 0;
      bright += level >= 200;
      sum += level;
      squares += level * level;
    }
  }
  nlohmann::ordered_json figures() const {
    const double all = static_cast<double>(pictures), pixels = all * kPixels;
    const double mean = sum / pixels;
    return {{"pictures", pictures},
            {"mean", mean},
            {"deviation", std::sqrt(squares / pixels - mean * mean)},
            {"black", static_cast<double>(zero) / pixels},
            {"bright", static_cast<double>(bright) / pixels},
            {"connected", static_cast<double>(labels) / all},
            {"accepted", all / static_cast<double>(attempts)}};
  }
};

// The least of 0 .. n - 1 that is not among n numbers; -1: all are.
std::int64_t first_missing(std::vector<std::int64_t> numbers) {
  std::ranges::sort(numbers);
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    if (numbers[i] != static_cast<std::int64_t>(i)) return static_cast<std::int64_t>(i);
  }
  return -1;
}

// How many files FOLDER/metadata/0.npy, 1.npy, .. there are.
std::int64_t text_files(const fs::path& folder) {
  std::vector<std::int64_t> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder / "metadata")) {
    const std::string name = entry.path().filename().string();
    std::int64_t k = 0;
    std::from_chars(name.data(), name.data() + name.size(), k);
    if (folder / text_file(k) != entry.path()) {
      throw UsageError("expected files 0.npy, 1.npy, .. only, got " + entry.path().string());
    }
    found.push_back(k);
  }
  if (const std::int64_t missing = first_missing(found); missing >= 0) {
    throw UsageError("expected Pathfinder's labels, there is no " +
                     (folder / text_file(missing)).string());
  }
  return static_cast<std::int64_t>(found.size());
}

std::vector<std::string_view> split(std::string_view line) {
  std::vector<std::string_view> fields;
  for (std::size_t from = 0;;) {
    const std::size_t end = line.find(' ', from);
    fields.push_back(line.substr(from, end - from));
    if (end == std::string_view::npos) return fields;
    from = end + 1;
  }
}

// Returns the number of pictures, which an empty one is too.
std::int64_t read_folder(const fs::path& folder, std::int64_t k, Examples& into) {
  const fs::path file = folder / text_file(k);
  const std::string bytes = read_file(file, "Pathfinder's labels");
  std::string_view left = bytes;
  std::vector<std::int64_t> samples;
  for (std::int64_t line = 1; !left.empty(); ++line) {
    const auto refuse = [&, at = bytes.size() - left.size()](const std::string& what) {
      throw UsageError(text(file.string(), ":", line, ": byte ", at, ": ", what));
    };
    const std::size_t end = left.find('\n');
    if (end == std::string_view::npos) refuse("expected a whole line, the file ends inside it");
    const std::vector<std::string_view> fields = split(left.substr(0, end));
    left.remove_prefix(end + 1);
    if (fields.size() != kFields) {
      refuse(text("expected ", kFields, " fields between single spaces, got ", fields.size()));
    }
    if (fields[0] != picture_folder(k)) {
      refuse(text("expected the folder ", picture_folder(k), ", got \"", fields[0], "\""));
    }
    std::int64_t n = -1;
    std::from_chars(fields[2].data(), fields[2].data() + fields[2].size(), n);
    if (n < 0 || fields[2] != std::to_string(n) || fields[1] != picture_file(n)) {
      refuse(text("expected sample_N.png and N, got \"", fields[1], "\" and \"", fields[2], "\""));
    }
    if (fields[3] != "0" && fields[3] != "1") {
      refuse(text("expected the label 0 or 1, got \"", fields[3], "\""));
    }
    samples.push_back(n);
    const fs::path picture = folder / picture_folder(k) / picture_file(n);
    if (picture == folder.parent_path() / kEmpty && fs::exists(picture) && fs::is_empty(picture)) {
      std::fprintf(stderr, "skipping %s, which is empty in the published set\n", picture.c_str());
      continue;
    }
    into.add(read_png(picture, kSide, kSide), fields[3] == "1");
  }
  if (const std::int64_t missing = first_missing(samples); missing >= 0) {
    throw UsageError(text(file.string(), ": expected a line for each of ", picture_file(0), ", ",
                          picture_file(1), ", .., there is none of ", picture_file(missing)));
  }
  return static_cast<std::int64_t>(samples.size());
}

}  // namespace

nlohmann::ordered_json make(const Variant& variant, std::uint64_t seed, std::int64_t pictures,
                            const fs::path& folder,
                            const std::function<void(std::int64_t)>& progress) {
  const auto write = [&](const fs::path& made) {
    const fs::path inside = made / variant.folder;
    const std::string settings =
        text(" 1.0 ", variant.dashes, " ", variant.distractor_dashes(), " 2 0.5 1 1\n");
    Totals totals;
    make_folder(inside / "metadata");
    for (std::int64_t k = 0; k * kFolder < pictures; ++k) {
      make_folder(inside / picture_folder(k));
      std::string lines;
      for (std::int64_t n = 0; n < std::min(kFolder, pictures - k * kFolder); ++n) {
        const Picture made_one = picture(variant, seed, k * kFolder + n);
        write_png(inside / picture_folder(k) / picture_file(n), made_one.pixels, kSide, kSide);
        lines +=
            text(picture_folder(k), " ", picture_file(n), " ", n, " ", made_one.label, settings);
        totals.add(made_one);
        progress(totals.pictures);
      }
      write_file(inside / text_file(k), lines);
    }
    return totals.figures();
  };
  const nlohmann::ordered_json options = {
      {"variant", variant.name}, {"pictures", pictures}, {"seed", seed}};
  return make_set({"pathfinder", options, Totals().figures(), write}, folder);
}

Examples read(const Variant& variant, const fs::path& folder) {
  const fs::path inside = folder / variant.folder;
  if (!fs::is_directory(inside / "metadata")) {
    throw UsageError("expected Pathfinder's labels in " + (inside / "metadata").string() +
                     ", there is no such folder");
  }
  Examples all;
  std::int64_t pictures = 0;
  for (std::int64_t k = 0, files = text_files(inside); k < files; ++k) {
    const std::int64_t found = read_folder(inside, k, all);
    if (found != kFolder && k + 1 < files) {
      throw UsageError(text((inside / text_file(k)).string(), ": expected ", kFolder,
                            " lines, for only the last file may have fewer, got ", found));
    }
    pictures += found;
  }
  if (fs::exists(folder / kDescription)) {
    const auto made = read_options(folder, {{"pictures", 0}}).at("pictures").get<std::int64_t>();
    if (pictures != made) {
      throw UsageError(text((inside / "metadata").string(), ": expected the ", made,
                            " pictures of ", kDescription, ", got ", pictures));
    }
  }
  return all;
}

}  // namespace fastmax::app::pathfinder
