// JSON from a file is checked where it is read, so that whoever uses it can rely on it.
//
// A form is an example of what must be there: an object's keys, each with a value of the same kind; in a list, items like the
// form's one. In a form
//
//   0       is a whole number, 0.5 any number, nullptr a number or null
//   "key?"  may be missing
//   "*"     stands for every key
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace fastmax::app {

/// The JSON document of this form. Throws UsageError "NAME: key.key: expected a number, got ..".
nlohmann::ordered_json parse_json(std::string_view bytes, const std::string& name,
                                  const nlohmann::ordered_json& form);

/// The same of a file, which is `what`.
nlohmann::ordered_json read_json(const std::filesystem::path& file, std::string_view what,
                                 const nlohmann::ordered_json& form);

}  // namespace fastmax::app
