// The folder of a data set, made or fetched: whole or not at all, by one process at a time, with a file that says what it is.
#pragma once
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

namespace fastmax::app {

struct SetFolder {
  std::filesystem::path folder;
  std::string task;
  std::string about;            ///< the file in it that says what it is
  nlohmann::ordered_json form;  ///< of that (json_file.h)
};

/// What `about` says of the set, which write(a new folder) brings now, and describes, or which was brought before. Is then
/// `accept` content with its description, it stays as it is. What a process that was killed left is removed. While it works,
/// StopRequest::pending() asks it to stop.
///
/// Throws UsageError when the folder holds anything else, or another process brings the set.
nlohmann::ordered_json bring_set(
    const SetFolder& set, const std::function<void(const nlohmann::ordered_json&)>& accept,
    const std::function<nlohmann::ordered_json(const std::filesystem::path&)>& write);

/// FOLDER/ABOUT. Throws UsageError when it is not there or damaged.
nlohmann::ordered_json read_about(const SetFolder& set);

}  // namespace fastmax::app
