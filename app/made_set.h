// A data set that a generator makes: whole or not at all, by one process at a time, with what made it beside it.
#pragma once
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

namespace fastmax::app {

struct MadeSet {
  std::string task;
  nlohmann::ordered_json options;     ///< all that its bytes depend on
  nlohmann::ordered_json statistics;  ///< the form (json_file.h) of what `write` returns
  /// Writes the files into a folder and returns their statistics.
  std::function<nlohmann::ordered_json(const std::filesystem::path&)> write;
};

inline constexpr const char* kDescription = "dataset.json";

/// {"task", "options", "statistics"} of FOLDER, which is made now, or was with the same options. Throws UsageError when it
/// holds another set or another process makes it.
nlohmann::ordered_json make_set(const MadeSet& set, const std::filesystem::path& folder);

/// The options in FOLDER/dataset.json, which have this form. Throws UsageError when it is not there or damaged.
nlohmann::ordered_json read_options(const std::filesystem::path& folder,
                                    const nlohmann::ordered_json& form);

}  // namespace fastmax::app
