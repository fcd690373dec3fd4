#include "app/checkpoint.h"

#include <cstring>

#include "app/json_file.h"
#include "app/safetensors.h"

namespace fastmax::app {
namespace {

constexpr const char* kState = "state";
constexpr const char* kType = "F32";

void restore(const Safetensors& file, const std::string& name, const at::Tensor& tensor) {
  const Array& array = file.get(name, kType, tensor.sizes().vec());
  std::memcpy(tensor.data_ptr(), array.bytes.data(), array.bytes.size());
}

nlohmann::ordered_json to_json(const TrainState& s) {
  return {{"step", s.step},
          {"reported", s.reported},
          {"seconds", s.seconds},
          {"peak_memory_bytes", s.peak_memory_bytes},
          {"best", {{"step", s.best.step}, {"loss", s.best.loss}, {"accuracy", s.best.accuracy}}},
          {"window",
           {{"steps", s.window.steps},
            {"tokens", s.window.tokens},
            {"loss", s.window.loss},
            {"seconds", s.window.seconds}}}};
}

TrainState from_json(const nlohmann::ordered_json& json) {
  TrainState s;
  s.step = json.at("step");
  s.reported = json.at("reported");
  s.seconds = json.at("seconds");
  s.peak_memory_bytes = json.value("peak_memory_bytes", std::int64_t{0});
  const auto& best = json.at("best");
  s.best = {best.at("step"), best.at("loss"), best.at("accuracy")};
  const auto& window = json.at("window");
  s.window = {window.at("steps"), window.at("tokens"), window.at("loss"), window.at("seconds")};
  return s;
}

}  // namespace

Array array_of(const std::string& name, const at::Tensor& t) {
  return {
      name,
      t.scalar_type() == at::kLong ? "I64" : kType,
      t.sizes().vec(),
      {static_cast<const std::byte*>(t.const_data_ptr()), static_cast<std::size_t>(t.nbytes())}};
}

void save_checkpoint(const std::filesystem::path& file, const Model& model, const AdamW& optimiser,
                     const TrainState& state) {
  std::vector<Array> arrays;
  for (const auto& [name, weight] : model.parameters()) {
    arrays.push_back(array_of("weight." + name, weight));
  }
  for (const auto& [name, moment] : optimiser.state()) arrays.push_back(array_of(name, moment));
  write_safetensors(file, arrays, {{kState, to_json(state).dump()}});
}

TrainState load_checkpoint(const std::filesystem::path& path, Model& model, AdamW& optimiser) {
  const Safetensors file(path);
  nlohmann::ordered_json form = to_json(TrainState{});
  form.erase("peak_memory_bytes");
  form["peak_memory_bytes?"] = 0;  // an older one has none
  const std::string place = path.string() + ": the counters of a run";
  const TrainState state = from_json(parse_json(file.note(kState), place, form));
  for (const auto& [name, weight] : model.parameters()) restore(file, "weight." + name, weight);
  for (const auto& [name, moment] : optimiser.state()) restore(file, name, moment);
  optimiser.set_steps(state.step);
  return state;
}

void save_weights(const std::filesystem::path& file, const Model& model, std::int64_t step) {
  std::vector<Array> arrays;
  for (const auto& [name, weight] : model.parameters()) arrays.push_back(array_of(name, weight));
  write_safetensors(file, arrays, {{"format", "pt"}, {"step", std::to_string(step)}});
}

void load_weights(const std::filesystem::path& path, Model& model) {
  const Safetensors file(path);
  for (const auto& [name, weight] : model.parameters()) restore(file, name, weight);
}

}  // namespace fastmax::app
