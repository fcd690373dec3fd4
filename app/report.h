// The published tables and figures: all of them follow from the committed results and from nothing else.
#pragma once
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "app/drawing.h"
#include "app/report_results.h"

namespace fastmax::app {

/// Files to be, by name. A picture's data is among the texts.
struct Publication {
  std::map<std::string, std::string> texts;  ///< .md and .csv
  std::map<std::string, Drawing> pictures;   ///< .svg and .png

  /// A picture with its data beside it, if it has any.
  void add(const std::string& name, Drawing drawing);
};

/// All tables and figures. What was not run is said to be so in its place.
Publication make_publication(const Results& results);

/// Writes what differs from what is there. Returns the names of all files.
std::vector<std::string> publish(const Publication& publication,
                                 const std::filesystem::path& folder);

/// The first published file that does not follow, with its first line that differs: "FILE:LINE: expected .., got ..". Pictures in
/// svg are compared where this machine's gnuplot is the version that drew them, those in png must be there.
std::optional<std::string> first_mismatch(const Publication& publication,
                                          const std::filesystem::path& folder);

// ---- its parts ----

void add_accuracy_tables(const Results& results, Publication& publication);  // table1.md
void add_speed_tables(const Results& results, Publication& publication);     // table2.md
void add_dropout_figure(const Results& results, Publication& publication);   // figure2
void add_length_figure(const Results& results, Publication& publication);    // figure3
void add_maps_figure(const Results& results, Publication& publication);      // figure4
void add_bubble_figure(const Results& results, Publication& publication);    // figure5
void add_loss_figure(const Results& results, Publication& publication);      // figure6
void add_recall(const Results& results, Publication& publication);           // recall
void add_long_context(const Results& results, Publication& publication);     // long_context.md

}  // namespace fastmax::app
