// `fastmax data make`: data sets by the built-in generators.
#pragma once
namespace CLI {
class App;
}

namespace fastmax::app {

/// Adds `make` to the command `data`.
void add_data_make(CLI::App& data);

}  // namespace fastmax::app
