// ListOps on disk: the Long Range Arena's TSV files, and what is in them.
#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "app/examples.h"
#include "app/listops.h"

namespace fastmax::app::listops {

/// Reads the Arena's TSV: header "Source\tTarget", then "TEXT\tDIGIT" lines. Strict: an unknown
/// token, an unbalanced list, an answer that is not the expression's value or a line that breaks
/// off throws UsageError naming file, line and byte.
Examples read_tsv(const std::filesystem::path& file, std::int64_t longest);

/// What is in a set, to compare with published figures.
struct Statistics {
  std::int64_t examples = 0;
  std::int64_t shortest = 0, median = 0, p90 = 0, longest = 0;
  double mean = 0;
  std::array<double, kClasses> labels{};     ///< share of each answer
  std::array<double, kVocabulary> tokens{};  ///< share of each token
  double majority = 0;                       ///< accuracy of always saying the commonest answer
  double root_operator = 0;                  ///< accuracy of knowing only the first operator
  double draws_per_tree = 0;                 ///< trees grown for one that was kept; 0: not known
};
nlohmann::ordered_json to_json(const Statistics& statistics);
Statistics statistics(const std::vector<const Examples*>& parts);

/// The two accuracies of `statistics`, learnt from one set and measured on another.
struct Baselines {
  double majority = 0, root_operator = 0;
};
Baselines baselines(const Examples& learn, const Examples& measure);

/// The files of a data folder: training, validation, test.
inline constexpr const char* kFiles[3] = {"basic_train.tsv", "basic_val.tsv", "basic_test.tsv"};

/// Makes FOLDER with these files, unless they are there, and returns its description (made_set.h).
/// `progress(done)` is called now and then.
nlohmann::ordered_json make(const Options& options, const std::filesystem::path& folder,
                            const std::function<void(std::int64_t)>& progress);

}  // namespace fastmax::app::listops
