// `fastmax data fetch`: a data set from its publisher, or from a copy, into the data folder.
#pragma once
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "app/data_sets.h"

namespace fastmax::app {

struct FetchOptions {
  std::string
      from;  ///< an archive that is here, a folder with it, or an address; "": the publisher's
  bool any_hash = false;  ///< take archives whose checksum is not the known one
};

/// What a fetched folder says of itself.
inline constexpr const char* kSourceFile = "source.json";

/// Puts the set in DATA_FOLDER/TASK, whole or not at all, and returns what its source.json says. One that is there
/// stays as it is.
///
/// Throws UsageError for an archive that is not the known one, or is damaged or unsafe, when another
/// process fetches the same set; WorkError when it cannot be had or there is no room for it.
nlohmann::ordered_json fetch(const DataSet& set, const std::filesystem::path& data_folder,
                             const FetchOptions& options);

/// Throws UsageError when something in FOLDER is not as large as when it was fetched, by its source.json, or as its
/// publisher's, of the known copy. Nothing is known of a folder that was not fetched.
void require_whole(const DataSet& set, const std::filesystem::path& folder);

}  // namespace fastmax::app
