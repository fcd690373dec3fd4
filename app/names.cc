#include "app/names.h"

#include <algorithm>

#include "app/error.h"

namespace fastmax::app {

const std::vector<std::string>& task_names() {
  static const std::vector<std::string> names = {"listops",    "text",  "retrieval",   "image",
                                                 "pathfinder", "mnist", "shakespeare", "textfile",
                                                 "mqar",       "needle"};
  return names;
}

bool is_language(const std::string& task) { return task == "textfile" || task == "shakespeare"; }

const std::vector<std::string>& attention_names() {
  static const std::vector<std::string> names = {"softmax", "fastmax1", "fastmax2", "fastmax3",
                                                 "fastmax4"};
  return names;
}

const std::vector<std::string>& rival_names() {
  static const std::vector<std::string> names = {"linear", "performer", "reformer", "informer"};
  return names;
}

const std::vector<std::string>& trainable_attention_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all = attention_names();
    all.insert(all.end(), rival_names().begin(), rival_names().end());
    return all;
  }();
  return names;
}

const std::vector<std::string>& attention_names_in_recipes() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all = trainable_attention_names();
    all.insert(all.begin() + 1, "fastmax");
    return all;
  }();
  return names;
}

const std::vector<std::string>& normalize_names() {
  static const std::vector<std::string> names = {"standardize", "l2", "none", "max_norm"};
  return names;
}

std::string listed(const std::vector<std::string>& names, const char* between) {
  std::string all;
  for (const std::string& name : names) all += (all.empty() ? "" : between) + name;
  return all;
}

void add_once(std::vector<std::string>& names, const std::string& name) {
  if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
}

void require_name(const std::string& what, const std::vector<std::string>& names,
                  const std::string& name) {
  if (std::find(names.begin(), names.end(), name) != names.end()) return;
  throw UsageError(text(what, ": expected one of ", listed(names), ", got \"", name, "\""));
}

}  // namespace fastmax::app
