// What exists, by name.
#pragma once
#include <string>
#include <vector>

namespace fastmax::app {

/// Tasks this program can train.
const std::vector<std::string>& task_names();
/// Tasks that predict the next byte.
bool is_language(const std::string& task);

/// softmax, fastmax1 .. fastmax4: a Fastmax stands at the index of its order.
const std::vector<std::string>& attention_names();

/// The other systems of the paper's Table 1: linear, performer, reformer, informer.
const std::vector<std::string>& rival_names();

/// What a model can be trained with: both of these.
const std::vector<std::string>& trainable_attention_names();

/// The same and "fastmax", whose order is another key's.
const std::vector<std::string>& attention_names_in_recipes();

/// standardize, l2, none, max_norm: in the order of the core's Normalize.
const std::vector<std::string>& normalize_names();

/// "a, b, c".
std::string listed(const std::vector<std::string>& names, const char* between = ", ");

/// Adds a name that is not there yet.
void add_once(std::vector<std::string>& names, const std::string& name);

/// Throws UsageError "WHAT: expected one of a, b, c, got "NAME"".
void require_name(const std::string& what, const std::vector<std::string>& names,
                  const std::string& name);

}  // namespace fastmax::app
