// What `fastmax accuracy` leaves: a JSON document, a table for a terminal or a page, and a plot.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "app/accuracy.h"
#include "app/plot.h"
#include "app/table.h"

namespace fastmax::app {

/// {"machine", "version", "commit", "torch", "target", "interrupted", "figures"}
nlohmann::ordered_json document(const AccuracyReport& report);

/// A row a subject, inputs, order and head size, a column a length: the worst over masks and forms, the goal beside it.
Table table_of(const std::vector<Accuracy>& figures);

/// A page: the table, what its figures mean, the machine, and the command that made it. `picture` is the path to the
/// plot as seen from the page; "": none.
std::string page(const AccuracyReport& report, const std::string& command,
                 const std::string& picture);

/// A panel a subject: error against N, the worst over all else but the inputs, and the goal.
std::vector<Plot> plots_of(const std::vector<Accuracy>& figures);

}  // namespace fastmax::app
