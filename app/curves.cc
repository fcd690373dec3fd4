#include "app/curves.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "app/error.h"
#include "app/statistics.h"

namespace fastmax::app {
namespace {

constexpr std::size_t kPoints = 40;

/// What a recipe is but for its seed, and for what does not change what is learnt.
std::string without_seed(Recipe recipe) {
  recipe.seed = 0;
  recipe.train.threads = 0;
  recipe.train.checkpoint_seconds = 0;
  recipe.data.path.clear();
  return write_recipe(recipe);
}

struct Point {
  double step, seconds, y;
};

using Lines = std::vector<nlohmann::ordered_json>;

/// The lines of a run's metrics that have a `y`, at least one.
Lines lines_with(const RunDir& run, const std::string& y) {
  Lines lines = run.read_metrics();
  std::erase_if(lines, [&](const auto& line) { return !line.contains(y); });
  if (lines.empty()) throw UsageError(text(run.metrics().string(), ": expected ", y, ", got none"));
  return lines;
}

/// A point for each `together` lines: their mean, at the last of them.
std::vector<Point> points(const Lines& lines, const std::string& y, std::size_t together) {
  std::vector<Point> all;
  double sum = 0;
  std::size_t count = 0;
  for (const auto& line : lines) {
    sum += line.at(y).get<double>();
    if (++count < together) continue;
    all.push_back({line.at("step"), line.at("seconds"), sum / static_cast<double>(count)});
    sum = 0;
    count = 0;
  }
  return all;  // what is left over at the end is no whole point
}

/// Names tell groups apart: by attention if that is enough, else by their folders too, else by a whole path.
void name_groups(std::vector<SeedGroup>& groups) {
  const auto parent = [](const SeedGroup& group) {
    return std::filesystem::absolute(group.runs[0].path()).parent_path().filename().string();
  };
  std::map<std::string, int> attention, folder;
  for (const SeedGroup& group : groups) {
    ++attention[group.recipe.model.attention];
    ++folder[group.recipe.model.attention + " " + parent(group)];
  }
  for (SeedGroup& group : groups) {
    const std::string& name = group.recipe.model.attention;
    group.name = attention[name] == 1                      ? name
                 : folder[name + " " + parent(group)] == 1 ? name + " " + parent(group)
                                                           : group.runs[0].path().string();
  }
}

}  // namespace

std::vector<SeedGroup> group_by_seed(const std::vector<RunDir>& runs) {
  std::vector<SeedGroup> groups;
  std::map<std::string, std::size_t> place;
  std::set<std::pair<std::size_t, std::int64_t>> seeds;
  for (const RunDir& run : runs) {
    run.require_started();
    const Recipe recipe = read_recipe(run.recipe().string());
    if (!groups.empty() && groups[0].recipe.task != recipe.task) {
      throw UsageError(text("expected runs of one task, got ", groups[0].recipe.task, " in ",
                            groups[0].runs[0].path().string(), " and ", recipe.task, " in ",
                            run.path().string()));
    }
    const auto [found, is_new] = place.emplace(without_seed(recipe), groups.size());
    if (is_new) groups.push_back({.name = "", .recipe = recipe, .runs = {}});
    if (!seeds.emplace(found->second, recipe.seed).second) {
      throw UsageError(text("expected each run once, ", run.path().string(),
                            " has the recipe and the seed of another"));
    }
    groups[found->second].runs.push_back(run);
  }
  name_groups(groups);
  return groups;
}

Series curve(const SeedGroup& group, const std::string& x, const std::string& y) {
  std::vector<Lines> lines;
  std::size_t fewest = static_cast<std::size_t>(-1);
  for (const RunDir& run : group.runs) {
    lines.push_back(lines_with(run, y));
    fewest = std::min(fewest, lines.back().size());
  }
  const std::size_t together = y == "train_loss" ? (fewest + kPoints - 1) / kPoints : 1;
  std::vector<std::vector<Point>> seeds;
  std::size_t shortest = static_cast<std::size_t>(-1);
  for (const Lines& each : lines) {
    seeds.push_back(points(each, y, together));
    shortest = std::min(shortest, seeds.back().size());
  }
  const bool band = seeds.size() > 1;
  Series series{
      .name = group.name, .x = {}, .y = {}, .note = band ? text(seeds.size(), " seeds") : ""};
  for (std::size_t i = 0; i < shortest; ++i) {
    std::vector<double> at, value;
    for (const auto& seed : seeds) {
      at.push_back(x == "seconds" ? seed[i].seconds : seed[i].step);
      value.push_back(seed[i].y);
    }
    series.x.push_back(mean(at));
    series.y.push_back(mean(value));
    if (!band) continue;
    series.low.push_back(*std::min_element(value.begin(), value.end()));
    series.high.push_back(*std::max_element(value.begin(), value.end()));
  }
  return series;
}

Plot curves(const std::vector<SeedGroup>& groups, const std::string& x, const std::string& y) {
  std::string what = groups[0].recipe.task;
  if (const std::string data = groups[0].runs[0].data_name(); !data.empty())
    what += " (" + data + ")";
  Plot plot{.title = what + (y == "train_loss" ? ": training" : ": validation"),
            .x_label = x == "seconds" ? "seconds of training" : "step",
            .y_label = y == "val_accuracy" ? "accuracy" : "loss (nats)"};
  bool bands = false;
  for (const SeedGroup& group : groups) {
    bands = bands || group.runs.size() > 1;
    plot.series.push_back(curve(group, x, y));
  }
  if (bands) plot.title += ", mean and range over seeds";
  return plot;
}

}  // namespace fastmax::app
