// What every published table and figure says in the same words.
#pragma once
#include <string>
#include <vector>

#include "app/report_results.h"

namespace fastmax::app {

inline constexpr const char* kNotRun = "not run";

/// The five tasks of the paper's tables, in their order.
const std::vector<std::string>& paper_tasks();
/// "ListOps", "Retrieval": a task or folder as headings have it.
std::string heading_of(const std::string& task);

/// "retrieval (AAN-proxy)": a name and what must be said of the data of `folder`, which may be a timing; the name alone where that
/// is nothing.
std::string with_data(const Results& results, const std::string& name, const std::string& folder);

/// "37.2 ± 0.4" with several, "37.2" with one, kNotRun with none: 100 times the mean.
std::string percent_cell(const std::vector<double>& shares);
/// The same of numbers, with so many digits after the point.
std::string mean_cell(const std::vector<double>& values, int digits);

/// The values at a JSON pointer ("/test/accuracy") of the results.
std::vector<double> values_at(const std::vector<FinishedRun>& runs, const std::string& pointer);

/// "N = 2000, 2 layers, 2 heads of 32, batch 16, 1500 steps".
std::string sizes_of(const Recipe& recipe);

/// How the runs were made: processor, threads, version and commits, and a line a folder with recipe, sizes, seeds and how
/// it differs from the paper's harness. For none: that nothing was run.
std::string how_run(const Results& results, const std::vector<std::string>& folders);
/// The same of timings: the documents of speed/NAME.json.
std::string how_timed(const Results& results, const std::vector<std::string>& names);

/// "- first\n- second\n"
std::string bullets(const std::vector<std::string>& lines);

}  // namespace fastmax::app
