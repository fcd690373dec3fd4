#include "app/recipe.h"

#include <toml++/toml.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <sstream>

#include "app/error.h"
#include "app/files.h"
#include "app/recall_task.h"
#include "app/recipe_check.h"
#include "app/recipe_difference.h"
#include "app/recipe_keys.h"
#include "app/recipe_text.h"
#include "app/toml_text.h"
#include "app/utf8.h"
#include "app/variants.h"

namespace fastmax::app {
namespace {

std::string describe(const toml::node& node) {
  std::ostringstream out;
  if (node.is_table()) return "a table";
  if (node.is_array()) return "an array";
  node.visit([&](const auto& x) {
    if constexpr (toml::is_string<decltype(x)>) {
      out << '"' << *x << '"';
    } else if constexpr (toml::is_value<decltype(x)>) {
      out << *x;
    }
  });
  return out.str();
}

std::string expectation(const Range& range, bool whole) {
  const std::string kind = whole ? "an integer" : "a number";
  return kind + " from " + number(range.least) + " to " + number(range.most);
}

class Reader {
 public:
  Reader(const std::string& toml, std::string name, const std::vector<std::string>& settings)
      : name_(std::move(name)) {
    Recipe known;
    for_each_key(known, [&](const char* path, auto&, const auto&) { keys_.push_back(path); });
    root_ = parse_toml(toml, name_);
    refuse_unknown(root_, "");
    for (const std::string& setting : settings) apply(setting);
  }

  Recipe read() {
    Recipe recipe;
    for_each_key(recipe, [&](const char* path, auto& value, const auto& rule) {
      if (const toml::node* node = root_.at_path(path).node()) {
        if (!accept(path, *node, value, rule)) {
          fail(path, text("expected ", expected(value, rule), ", got ", describe(*node)));
        }
      }
    });
    finish(recipe);
    return recipe;
  }

 private:
  std::string where(const std::string& path) const {
    if (const auto set = set_by_.find(path); set != set_by_.end()) return "--set " + set->second;
    const toml::node* node = root_.at_path(path).node();
    return node ? text(name_, ":", node->source().begin.line) : name_;
  }

  [[noreturn]] void fail(const std::string& path, const std::string& what) const {
    throw UsageError(text(where(path), ": ", path, ": ", what));
  }

  // The key that looks most like `path`; "steps" stands for train.steps too.
  std::string nearest(const std::string& path, const std::vector<std::string>& groups = {}) const {
    const auto distance = [&](const std::string& key) {
      return std::min(edit_distance(key, path), edit_distance(key.substr(key.find('.') + 1), path));
    };
    std::vector<std::string> candidates = keys_;
    candidates.insert(candidates.end(), groups.begin(), groups.end());
    return *std::min_element(candidates.begin(), candidates.end(),
                             [&](auto& a, auto& b) { return distance(a) < distance(b); });
  }

  bool known(const std::string& path) const {
    return std::find(keys_.begin(), keys_.end(), path) != keys_.end();
  }

  void refuse_unknown(const toml::table& table, const std::string& prefix) const {
    for (const auto& [key, node] : table) {
      const std::string path = prefix + std::string(key.str());
      const bool group = std::any_of(keys_.begin(), keys_.end(), [&](const std::string& known) {
        return known.rfind(path + ".", 0) == 0;
      });
      if (node.is_table() && group) {
        refuse_unknown(*node.as_table(), path + ".");
      } else if (!known(path)) {
        throw UsageError(text(name_, ":", node.source().begin.line, ": ", path, ": ",
                              group ? "expected a table, got " + describe(node)
                                    : "unknown key, did you mean " +
                                          nearest(path, {"model", "train", "data"}) + "?"));
      }
    }
  }

  // The value is TOML where it can be (4, 1e-3, "text"), else the text as it stands (a path).
  void apply(const std::string& setting) {
    const std::size_t equals = setting.find('=');
    if (equals == std::string::npos || equals == 0) {
      throw UsageError("--set: expected key.path=value, got \"" + setting + "\"");
    }
    const std::string path = setting.substr(0, equals), value = setting.substr(equals + 1);
    if (!known(path)) {
      throw UsageError("--set " + setting + ": " + path + ": unknown key, did you mean " +
                       nearest(path) + "?");
    }
    set_by_[path] = setting;
    raw_[path] = value;
    toml::table* table = &root_;
    std::string key = path;
    if (const std::size_t dot = path.find('.'); dot != std::string::npos) {
      key = path.substr(dot + 1);
      table = root_.insert(path.substr(0, dot), toml::table{}).first->second.as_table();
    }
    try {
      toml::table parsed = toml::parse("value = " + value);
      table->insert_or_assign(key, std::move(*parsed.get("value")));
    } catch (const toml::parse_error&) {
      table->insert_or_assign(key, value);
    }
  }

  bool accept(const char*, const toml::node& node, std::int64_t& value, const Range& range) const {
    const auto* x = node.as_integer();
    if (!x || double(**x) < range.least || double(**x) > range.most) return false;
    value = **x;
    return true;
  }
  bool accept(const char*, const toml::node& node, double& value, const Range& range) const {
    const auto x = node.is_number() ? node.value<double>() : std::nullopt;
    if (!x || !(*x >= range.least && *x <= range.most)) return false;
    value = *x;
    return true;
  }
  bool accept(const char* path, const toml::node& node, std::string& value, const Text&) const {
    const auto raw = raw_.find(path);
    if (const auto* x = node.as_string()) {
      value = **x;
    } else if (raw != raw_.end()) {  // a path that looks like a number
      value = raw->second;
    } else {
      return false;
    }
    return is_utf8(value);  // as TOML is, in which a run keeps it
  }
  bool accept(const char*, const toml::node& node, std::string& value, const OneOf& rule) const {
    const auto* x = node.as_string();
    if (!x) return false;
    value = **x;
    return std::find(rule.names.begin(), rule.names.end(), value) != rule.names.end();
  }
  bool accept(const char*, const toml::node& node, std::string& value, const NumberOr& rule) const {
    if (node.is_number()) {
      const double x = *node.value<double>();
      value = number(x);
      return x > 0 && std::isfinite(x);
    }
    const auto* x = node.as_string();
    if (!x) return false;
    value = **x;
    return std::find(rule.words.begin(), rule.words.end(), value) != rule.words.end();
  }

  bool accept(const char*, const toml::node& node, bool& value, const Flag&) const {
    const auto* x = node.as_boolean();
    if (x) value = **x;
    return x;
  }
  bool accept(const char* path, const toml::node& node, std::int64_t& value,
              const Shorthand& rule) const {
    return accept(path, node, value, rule.range);
  }

  static std::string expected(std::int64_t, const Range& range) { return expectation(range, true); }
  static std::string expected(double, const Range& range) { return expectation(range, false); }
  static std::string expected(std::int64_t, const Shorthand& rule) {
    return expectation(rule.range, true);
  }
  static std::string expected(bool, const Flag&) { return "true or false"; }
  static std::string expected(const std::string&, const Text&) { return "a string in UTF-8"; }
  static std::string expected(const std::string&, const OneOf& rule) {
    return (rule.names.size() == 1 ? "" : "one of ") + listed(rule.names);
  }
  static std::string expected(const std::string&, const NumberOr& rule) {
    return "a positive number or one of " + listed(rule.words);
  }

  // What depends on more than one key.
  void finish(Recipe& r) const {
    if (r.task.empty()) fail("task", "expected one of " + listed(task_names()) + ", got nothing");
    name_order(r.model);
    if (r.task == "textfile" && r.data.path.empty()) {
      fail("data.path", "expected the text file to learn (--set data.path=FILE), got nothing");
    }
    if (is_recall(r.task)) {
      const recall::Options all = recall::with_defaults(recall_options(r));
      r.data.length = all.length;
      r.data.pairs = all.pairs;
      r.data.keys = all.keys;
    }
    if (r.data.variant.empty()) r.data.variant = variants_of(r.task)[0];
    if (r.data.length == 0) r.data.length = natural_length(r);
    if (const auto found = contradiction(r)) fail(found->path, found->what);
  }

  // "fastmax" with p, 2 unless given, is "fastmaxP"; beside such a name p may only repeat it.
  void name_order(Recipe::ModelKeys& model) const {
    const bool order_is_free =
        model.attention == "fastmax" || !root_.at_path("model.attention").node();
    if (order_is_free) {
      model.attention = "fastmax" + std::to_string(model.p ? model.p : 2);
    } else if (model.p && model.attention == "softmax") {
      fail("model.p", text("expected none beside model.attention = \"softmax\", got ", model.p));
    } else if (model.p && model.attention != "fastmax" + std::to_string(model.p)) {
      fail("model.p", text("expected the order in model.attention = \"", model.attention,
                           "\" (\"fastmax\" takes any), got ", model.p));
    }
    model.p = 0;
  }

  std::string name_;
  toml::table root_;
  std::vector<std::string> keys_;
  std::map<std::string, std::string> set_by_, raw_;
};

}  // namespace

Recipe parse_recipe(const std::string& toml, const std::string& name,
                    const std::vector<std::string>& settings) {
  return Reader(toml, name, settings).read();
}

Recipe read_recipe(const std::string& file, const std::vector<std::string>& settings) {
  return parse_recipe(read_file(file, "a recipe"), file, settings);
}

std::string write_recipe(const Recipe& recipe) {
  std::ostringstream out;
  std::string open;
  for_each_key(recipe, [&](const std::string& path, const auto& value, const auto& rule) {
    using Value = std::decay_t<decltype(value)>;
    using Rule = std::decay_t<decltype(rule)>;
    if constexpr (std::is_same_v<Rule, Shorthand>) return;
    const std::size_t dot = path.find('.');
    const std::string group = dot == std::string::npos ? "" : path.substr(0, dot);
    if (group != open) out << "\n[" << (open = group) << "]\n";
    out << (dot == std::string::npos ? path : path.substr(dot + 1)) << " = ";
    if constexpr (std::is_same_v<Value, bool>) {
      out << (value ? "true" : "false");
    } else if constexpr (std::is_same_v<Value, std::string>) {
      constexpr bool kMayBeNumber = std::is_same_v<Rule, NumberOr>;
      if (kMayBeNumber && as_number(value)) {
        out << value;
      } else {
        out << quoted(value);
      }
    } else if constexpr (std::is_integral_v<Value>) {
      out << value;
    } else {
      out << number(value);
    }
    out << "\n";
  });
  return out.str();
}

std::optional<std::string> first_difference(const Recipe& there, const Recipe& here) {
  const auto all = differences(there, here);
  if (all.empty()) return std::nullopt;
  return text(all[0].path, " is ", all[0].there, " there and ", all[0].here, " here");
}

}  // namespace fastmax::app
