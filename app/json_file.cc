#include "app/json_file.h"

#include "app/error.h"
#include "app/files.h"

namespace fastmax::app {
namespace {

using Json = nlohmann::ordered_json;

std::string kind_of(const Json& form) {
  switch (form.type()) {
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "a list";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::boolean:
      return "true or false";
    case Json::value_t::null:
      return "a number or null";
    case Json::value_t::number_float:
      return "a number";
    default:
      return "a whole number";
  }
}

bool is_of_kind(const Json& json, const Json& form) {
  if (form.is_null()) return json.is_null() || json.is_number();
  if (form.is_number_float()) return json.is_number();
  if (form.is_number()) return json.is_number_integer();
  return json.type() == form.type();
}

class Check {
 public:
  explicit Check(const std::string& name) : name_(name) {}

  void operator()(const Json& json, const Json& form, const std::string& path) const {
    if (!is_of_kind(json, form))
      fail(path, form, json.is_structured() ? kind_of(json) : json.dump());
    if (form.is_array()) {
      for (std::size_t i = 0; i < json.size(); ++i)
        (*this)(json[i], form[0], join(path, std::to_string(i)));
    }
    if (form.is_object()) {
      for (const auto& [key, value] : form.items()) check_key(json, key, value, path);
    }
  }

 private:
  void check_key(const Json& json, std::string key, const Json& form,
                 const std::string& path) const {
    if (key == "*") {
      for (const auto& [each, value] : json.items()) (*this)(value, form, join(path, each));
      return;
    }
    const bool optional = key.back() == '?';
    if (optional) key.pop_back();
    const auto found = json.find(key);
    if (found != json.end()) {
      (*this)(*found, form, join(path, key));
    } else if (!optional) {
      fail(join(path, key), form, "nothing");
    }
  }

  static std::string join(const std::string& path, const std::string& key) {
    return path.empty() ? key : path + "." + key;
  }

  [[noreturn]] void fail(const std::string& path, const Json& form, const std::string& got) const {
    throw UsageError(text(name_, ": ", path, path.empty() ? "" : ": ", "expected ", kind_of(form),
                          ", got ", got));
  }

  const std::string& name_;
};

}  // namespace

Json parse_json(std::string_view bytes, const std::string& name, const Json& form) {
  Json json;
  try {
    json = Json::parse(bytes);
  } catch (const Json::exception& e) {
    const std::string_view words =
        e.what();  // "[json.exception.parse_error.101] parse error at .."
    throw UsageError(text(name, ": expected JSON, got ", words.substr(words.find("] ") + 2)));
  }
  Check{name}(json, form, "");
  return json;
}

Json read_json(const std::filesystem::path& file, std::string_view what, const Json& form) {
  return parse_json(read_file(file, what), file.string(), form);
}

}  // namespace fastmax::app
