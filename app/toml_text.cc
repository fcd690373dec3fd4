#include "app/toml_text.h"

#include "app/error.h"

namespace fastmax::app {

toml::table parse_toml(const std::string& toml, const std::string& name) {
  try {
    return toml::parse(toml, name);
  } catch (const toml::parse_error& e) {
    throw UsageError(
        text(name, ":", e.source().begin.line, ": expected TOML, got ", e.description()));
  }
}

}  // namespace fastmax::app
