// `fastmax demo`: the project in a few minutes.
#pragma once

namespace fastmax::app {

/// recipes/listops_short.toml as it was when the program was built.
const char* demo_recipe();

}  // namespace fastmax::app
