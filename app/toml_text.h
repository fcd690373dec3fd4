// TOML, with our words for what is wrong with it.
#pragma once
#include <toml++/toml.h>

#include <string>

namespace fastmax::app {

/// The table that `toml` is. Throws UsageError "NAME:LINE: expected TOML, got ..".
toml::table parse_toml(const std::string& toml, const std::string& name);

}  // namespace fastmax::app
