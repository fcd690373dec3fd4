// Figure 4: attention maps of trained models, from the maps.csv of their runs.
#include <charconv>

#include "app/error.h"
#include "app/files.h"
#include "app/heat_map.h"
#include "app/report.h"
#include "app/report_words.h"

namespace fastmax::app {
namespace {

/// The maps of a maps.csv by "layer L, head H", in its order.
std::vector<HeatMap> read_maps(const std::filesystem::path& file) {
  const std::string csv = read_file(file, "attention maps");
  std::vector<HeatMap> maps;
  std::size_t line = 1, at = csv.find('\n');
  while (at != std::string::npos && at + 1 < csv.size()) {
    ++line;
    const char *next = csv.data() + at + 1, *const end = csv.data() + csv.size();
    std::vector<float> numbers;
    for (; next < end && *next != '\n'; next += *next == ',') {
      float x = 0;
      const auto [after, error] = std::from_chars(next, end, x);
      if (error != std::errc() || (*after != ',' && *after != '\n'))
        throw UsageError(text(file.string(), ":", line, ": expected numbers"));
      numbers.push_back(x);
      next = after;
    }
    if (numbers.size() < 4) throw UsageError(text(file.string(), ":", line, ": expected a map"));
    const std::string title = text("layer ", numbers[0], ", head ", numbers[1]);
    if (maps.empty() || maps.back().title != title)
      maps.push_back({.title = title, .x_label = "key", .y_label = "query", .rows = {}});
    maps.back().rows.emplace_back(numbers.begin() + 3, numbers.end());
    at = csv.find('\n', at + 1);
  }
  if (maps.empty()) throw UsageError(text(file.string(), ": expected maps, got none"));
  return maps;
}

}  // namespace

void add_maps_figure(const Results& results, Publication& publication) {
  std::string text_of_page = "# Figure 4: attention maps\n\n";
  const std::vector<std::string> folders = {"mnist", "shakespeare"};
  for (const std::string& folder : folders) {
    text_of_page += "## " + heading_of(folder) + "\n\n";
    std::vector<HeatMap> panels;
    int columns = 0;
    for (const char* attention : {"softmax", "fastmax2", "fastmax1"}) {
      for (const FinishedRun& run : results.runs(folder, attention)) {
        if (!run.plan.maps || !std::filesystem::exists(maps_file(run.plan))) continue;
        std::vector<HeatMap> maps = read_maps(maps_file(run.plan));
        columns = static_cast<int>(maps.size());
        for (HeatMap& map : maps) {
          map.title = run.plan.attention + ", " + map.title;
          panels.push_back(std::move(map));
        }
        break;  // one seed
      }
    }
    if (panels.empty()) {
      text_of_page += "Not run.\n\n";
      continue;
    }
    const std::string name = "figure4-" + folder + ".png";
    publication.add(name, heat_drawing(panels, columns, ""));
    text_of_page += "![Attention maps, " + folder + "](" + name + ")\n\n";
  }
  publication.texts["figure4.md"] =
      text_of_page +
      "Every head of the first seed's best model, on the first sequence of the test part: the "
      "weights that were applied, computed from the queries "
      "and keys that the layer saw (`fastmax maps`; the numbers are `maps.csv` of each run). Each "
      "map has its own range of colours, up to the 99th percentile of its weights. The "
      "paper shows heads chosen at random, of models of other sizes.\n\n## How\n\n" +
      how_run(results, folders);
}

}  // namespace fastmax::app
