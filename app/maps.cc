#include "app/maps.h"

#include <c10/core/GradMode.h>

#include <array>
#include <cstdio>

#include "app/error.h"
#include "app/evaluate.h"
#include "app/heat_map.h"

namespace fastmax::app {
namespace {

constexpr std::int64_t kMostWeights = std::int64_t{1} << 26;  // a csv of half a gigabyte

/// The numbers asked for, of 0 .. count - 1.
std::vector<std::int64_t> chosen(const char* option, const char* things, std::int64_t asked,
                                 std::int64_t count) {
  if (asked >= count) {
    throw UsageError(text(option, ": expected 0 to ", count - 1, ", for the model has ", count, " ",
                          things, ", got ", asked));
  }
  if (asked >= 0) return {asked};
  std::vector<std::int64_t> all;
  for (std::int64_t i = 0; i < count; ++i) all.push_back(i);
  return all;
}

}  // namespace

Batch one_sequence(const Task& task, Split split, std::int64_t index) {
  std::int64_t before = 0;
  for (const Batch& batch : task.evaluation(split, 0)) {
    const std::int64_t b = index - before;
    before += batch.B;
    if (b >= batch.B) continue;
    const std::int64_t N = batch.lengths[b];
    Batch one{.B = 1, .N = N, .lengths = {N}, .mask_zero = batch.mask_zero};
    const auto row = [&](const auto& all, auto& into, std::int64_t width) {
      const auto first = all.begin() + b * batch.N * width;
      into.assign(first, first + N * width);
    };
    if (batch.values.empty()) {
      row(batch.tokens, one.tokens, 1);
    } else {
      row(batch.values, one.values,
          static_cast<std::int64_t>(batch.values.size()) / (batch.B * batch.N));
    }
    return one;
  }
  throw UsageError(text("--example: expected 0 to ", before - 1, ", for the part has ", before,
                        " sequences, got ", index));
}

std::vector<AttentionMap> attention_maps(const Model& model, const Batch& sequence,
                                         std::int64_t layer, std::int64_t head) {
  const auto layers = chosen("--layer", "layers", layer, model.config().layers);
  const auto heads = chosen("--head", "heads", head, model.config().heads);
  const auto maps = static_cast<std::int64_t>(layers.size() * heads.size());
  if (maps * sequence.N * sequence.N > kMostWeights) {
    throw UsageError(text("expected at most ", kMostWeights, " weights, got ", maps, " maps of ",
                          sequence.N, " x ", sequence.N,
                          ": choose with --layer and --head, or a shorter --example"));
  }
  const c10::AutoGradMode no_gradient(false);
  const Tensors t = to_tensors(sequence);
  std::vector<AttentionMap> all;
  for (const std::int64_t l : layers) {
    Watched watched{.layer = l};
    model.watch(t.tokens, t.key_weight, watched);
    const at::Tensor weights = model.attention().weights(watched.heads, watched.key_weight);
    for (const std::int64_t h : heads) all.push_back({l, h, weights[0][h].contiguous()});
  }
  return all;
}

std::string maps_csv(const std::vector<AttentionMap>& maps) {
  std::string out = "layer,head,query";
  for (std::int64_t m = 0; m < maps[0].weights.size(1); ++m) out += "," + std::to_string(m);
  out += "\n";
  std::array<char, 32> buffer{};
  for (const AttentionMap& map : maps) {
    const auto a = map.weights.accessor<float, 2>();
    for (std::int64_t n = 0; n < a.size(0); ++n) {
      out += text(map.layer, ",", map.head, ",", n);
      for (std::int64_t m = 0; m < a.size(1); ++m) {
        std::snprintf(buffer.data(), buffer.size(), ",%.6g", static_cast<double>(a[n][m]));
        out += buffer.data();
      }
      out += "\n";
    }
  }
  return out;
}

Drawing maps_drawing(const std::vector<AttentionMap>& maps) {
  std::vector<HeatMap> panels;
  int columns = 0;
  for (const AttentionMap& map : maps) {
    columns += map.layer == maps[0].layer;
    HeatMap& panel = panels.emplace_back();
    panel = {.title = text("layer ", map.layer, ", head ", map.head),
             .x_label = "key",
             .y_label = "query",
             .rows = {}};
    const auto a = map.weights.accessor<float, 2>();
    for (std::int64_t n = 0; n < a.size(0); ++n)
      panel.rows.emplace_back(a[n].data(), a[n].data() + a.size(1));
  }
  return heat_drawing(panels, columns, maps_csv(maps));
}

}  // namespace fastmax::app
