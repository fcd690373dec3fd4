// Tasks of which there are several sets: by which names, in which folders, made by which commands.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace fastmax::app {

/// What data.variant can be; the first is the Arena's. Of most tasks there is one set only, called as listops' is.
std::vector<std::string> variants_of(const std::string& task);

/// Where a variant is kept below the data folder: TASK, or TASK_VARIANT where it is not the first.
std::filesystem::path variant_folder(const std::filesystem::path& data_folder,
                                     const std::string& task, const std::string& variant);

/// "fastmax data make TASK", with --VARIANT where it is not the first.
std::string making_command(const std::string& task, const std::string& variant);

}  // namespace fastmax::app
