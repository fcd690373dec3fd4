#include "app/info.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <sched.h>
#include <torch/version.h>

#include <CLI/CLI.hpp>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "app/commands.h"
#include "app/table.h"
#include "app/version.h"
#include "fastmax/fastmax.h"

namespace fastmax::app {
namespace {

/// The value of the first line "KEY : VALUE" of /proc/cpuinfo; "" where there is none, as on Arm.
std::string cpuinfo(const std::string& key) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(':');
    if (line.starts_with(key) && colon != std::string::npos)
      return line.substr(std::min(colon + 2, line.size()));
  }
  return "";
}

std::string cpu_name() {
  const std::string name = cpuinfo("model name");
  if (name.empty()) return "unknown";
  // A hypervisor may hide the name; family, model and stepping still tell which processor it is.
  return name + " (family " + cpuinfo("cpu family") + ", model " + cpuinfo("model\t") +
         ", stepping " + cpuinfo("stepping") + ")";
}

int cores() {
  cpu_set_t allowed;
  return sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
}

std::vector<std::string> words(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> out;
  for (std::string word; in >> word;) out.push_back(word);
  return out;
}

bool has_amx() {
  const std::vector<std::string> flags = words(cpuinfo("flags"));
  return std::find(flags.begin(), flags.end(), "amx_bf16") != flags.end();
}

std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "g++ " __VERSION__;
#endif
}

std::string joined(const nlohmann::ordered_json& names) {
  std::string out;
  for (const std::string name : names) out += (out.empty() ? "" : " ") + name;
  return out;
}

void print(const nlohmann::ordered_json& info) {
  const auto yes_no = [](bool yes) { return yes ? "yes" : "no"; };
  const auto line = [](const std::string& name, const std::string& value) {
    std::cout << name << std::string(14 - name.size(), ' ') << value << "\n";
  };
  line("fastmax",
       info["version"].get<std::string>() + " (commit " + info["commit"].get<std::string>() + ")");
  line("compiler", info["compiler"]);
  line("cpu", info["cpu"]);
  line("instructions", info["target"].get<std::string>() + ", of " + joined(info["targets"]));
  line("AMX bf16", yes_no(info["amx"]));
  line("threads", std::to_string(info["threads"].get<int>()));
  line("torch", info["torch"]);
  line("CUDA", info["cuda"].is_null()
                   ? "none"
                   : std::to_string(info["cuda"]["devices"].get<int>()) + " devices seen by torch");
}

}  // namespace

std::string machine_name() {
  return cpu_name() + ", " + std::to_string(cores()) + (cores() == 1 ? " core" : " cores");
}

nlohmann::ordered_json info() {
  nlohmann::ordered_json cuda = nullptr;
  if (at::hasCUDA()) cuda = {{"devices", at::getNumGPUs()}};
  return {{"version", version()},
          {"commit", commit()},
          {"compiler", compiler()},
          {"cpu", cpu_name()},
          {"targets", words(target_names())},
          {"target", target_name()},
          {"amx", has_amx()},
          {"threads", at::get_num_threads()},
          {"torch", TORCH_VERSION},
          {"cuda", cuda}};
}

void add_info(CLI::App& app) {
  CLI::App* command = app.add_subcommand("info", "What this program is and what it runs on");
  auto as_json = std::make_shared<bool>(false);
  command->add_flag("--json", *as_json, "Print one JSON document");
  command->callback([as_json] {
    if (*as_json)
      std::cout << info().dump(2) << "\n";
    else
      print(info());
  });
}

}  // namespace fastmax::app
