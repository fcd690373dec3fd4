// What a run needs to go on as if it had never stopped: weights, the optimiser's moments and the
// counters below, in one file that is replaced in one step.
//
// Random states and the data order are not in it: both are pure functions of the seed and the step.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>

#include "app/model.h"
#include "app/optimiser.h"
#include "app/safetensors.h"

namespace fastmax::app {

struct TrainState {
  std::int64_t step = 0;      ///< optimiser steps done
  std::int64_t reported = 0;  ///< the last step that has its line in metrics.jsonl
  double seconds = 0;         ///< spent in training steps
  std::int64_t peak_memory_bytes = 0;
  struct Best {
    std::int64_t step = 0;  ///< 0: none yet
    double loss = 0, accuracy = 0;
  } best;
  struct Window {  ///< since the last line of metrics.jsonl
    std::int64_t steps = 0, tokens = 0;
    double loss = 0, seconds = 0;  ///< sums
  } window;
};

/// A dense tensor, float32 or int64, to be written: the bytes stay the tensor's.
Array array_of(const std::string& name, const at::Tensor& tensor);

/// FILE is a safetensors file: "weight.NAME", "first.NAME", "second.NAME", and the counters as a note.
void save_checkpoint(const std::filesystem::path& file, const Model& model, const AdamW& optimiser,
                     const TrainState& state);

/// Restores model and optimiser in place. Throws UsageError when the file does not fit them.
TrainState load_checkpoint(const std::filesystem::path& file, Model& model, AdamW& optimiser);

/// The weights alone.
void save_weights(const std::filesystem::path& file, const Model& model, std::int64_t step);
void load_weights(const std::filesystem::path& file, Model& model);

}  // namespace fastmax::app
