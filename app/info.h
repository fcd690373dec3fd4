// What this program is and what it runs on: `fastmax info`, and the `machine` of every result file.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace fastmax::app {

/// "Intel(R) Xeon(R) Gold 6448Y, 2 cores": the name of the processor and the cores this process may use.
std::string machine_name();

/// The keys of `fastmax info --json`: version, commit, compiler, cpu, targets, target, amx,
/// threads, torch, cuda.
nlohmann::ordered_json info();

}  // namespace fastmax::app
