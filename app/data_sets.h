// The data sets that their publishers offer: where, known by which checksum, and what of them is kept.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "app/unpack.h"

namespace fastmax::app {

struct SourceFile {
  std::string name, address;
  std::string sha256;      ///< empty: its publisher gives none
  std::int64_t bytes = 0;  ///< of the known copy; another may have up to twice as many
};

/// A file or folder that is kept.
struct Required {
  std::string name;
  std::int64_t size = 0;  ///< of the known copy: a file's bytes, a folder's files; 0: not known
};

/// What is kept lies in DATA_FOLDER/TASK under the names that the publisher gave.
struct DataSet {
  std::string task, title;
  std::vector<SourceFile> files;
  Contents limits;  ///< of all archives together
  std::function<std::string(const std::string&)>
      place;                       ///< see unpack(); of compressed single files: their own name
  std::vector<Required> required;  ///< without these it is another archive
  /// What must be said of the set in a folder (Task::data_name); none: nothing.
  std::function<std::string(const std::filesystem::path&)> data_name = {};
};

/// A file's bytes, or how many files a folder has.
std::int64_t size_of(const std::filesystem::path& path);

/// Every one of them, by task.
const std::vector<DataSet>& data_sets();
/// None for a task whose data is not downloaded.
const DataSet* find_data_set(const std::string& task);

}  // namespace fastmax::app
