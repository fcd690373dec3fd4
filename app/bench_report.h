// What a sweep of `fastmax bench` leaves: a JSON document, a table and a plot.
#pragma once
#include <nlohmann/json.hpp>
#include <vector>

#include "app/bench.h"
#include "app/plot.h"

namespace fastmax::app {

/// {"machine", "version", "commit", ..., "rows", "skipped"}
nlohmann::ordered_json document(const BenchReport& report);

/// The document as a table on stdout, with what its columns mean.
void print(const nlohmann::ordered_json& document);

/// Time and memory side by side, one row of panels for each head size, mask, pass and number of threads.
std::vector<Plot> plots_of(const nlohmann::ordered_json& rows);

}  // namespace fastmax::app
