#include "app/report.h"

#include <algorithm>
#include <sstream>

#include "app/error.h"
#include "app/files.h"

namespace fastmax::app {
namespace fs = std::filesystem;
namespace {

/// "Produced by GNUPLOT 5.4 patchlevel 4": other versions draw the same otherwise.
std::string drawn_by(const std::string& svg) {
  const std::size_t begin = svg.find("Produced by GNUPLOT");
  return begin == std::string::npos ? "" : svg.substr(begin, svg.find('<', begin) - begin);
}

/// Line and both texts where they part first.
std::string first_difference(const fs::path& file, const std::string& wanted,
                             const std::string& there) {
  std::istringstream a(wanted), b(there);
  std::string x, y;
  for (std::int64_t line = 1;; ++line) {
    const bool more = static_cast<bool>(std::getline(a, x)),
               here = static_cast<bool>(std::getline(b, y));
    if (more && here && x == y) continue;
    return text(file.string(), ":", line, ": expected ", more ? "'" + x + "'" : "the end", ", got ",
                here ? "'" + y + "'" : "the end");
  }
}

std::string rendered(const std::string& name, const Drawing& drawing) {
  return render(drawing, fs::path(name).extension().string());
}

}  // namespace

void Publication::add(const std::string& name, Drawing drawing) {
  if (!drawing.csv.empty()) texts[fs::path(name).replace_extension(".csv").string()] = drawing.csv;
  pictures[name] = std::move(drawing);
}

Publication make_publication(const Results& results) {
  Publication publication;
  for (const auto add :
       {add_accuracy_tables, add_speed_tables, add_dropout_figure, add_length_figure,
        add_maps_figure, add_bubble_figure, add_loss_figure, add_recall, add_long_context}) {
    add(results, publication);
  }
  return publication;
}

std::vector<std::string> publish(const Publication& publication, const fs::path& folder) {
  std::vector<std::string> names;
  const auto put = [&](const std::string& name, const std::string& bytes) {
    names.push_back(name);
    const fs::path file = folder / name;
    if (!fs::exists(file) || read_file(file, "a result") != bytes) write_file(file, bytes);
  };
  for (const auto& [name, drawing] : publication.pictures) put(name, rendered(name, drawing));
  for (const auto& [name, bytes] : publication.texts) put(name, bytes);
  std::sort(names.begin(), names.end());
  return names;
}

std::optional<std::string> first_mismatch(const Publication& publication, const fs::path& folder) {
  for (const auto& [name, wanted] : publication.texts) {
    if (!fs::exists(folder / name))
      return text((folder / name).string(), ": expected, is not there");
    const std::string there = read_file(folder / name, "a result");
    if (there != wanted) return first_difference(folder / name, wanted, there);
  }
  for (const auto& [name, drawing] : publication.pictures) {
    if (!fs::exists(folder / name))
      return text((folder / name).string(), ": expected, is not there");
    if (fs::path(name).extension() != ".svg") continue;
    const std::string wanted = rendered(name, drawing),
                      there = read_file(folder / name, "a result");
    if (there != wanted && drawn_by(there) == drawn_by(wanted))
      return first_difference(folder / name, wanted, there);
  }
  return std::nullopt;
}

}  // namespace fastmax::app
