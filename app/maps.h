// Attention maps: by which weights each head of a trained model mixed the values of one example.
#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "app/drawing.h"
#include "app/model.h"
#include "app/task.h"

namespace fastmax::app {

/// What the attention of one head applied: o_n = sum_m weights[n][m] v_m.
struct AttentionMap {
  std::int64_t layer = 0, head = 0;
  at::Tensor weights;  ///< [N, N] float32; a class token is row and column 0
};

/// Sequence `index` of a part, alone and without padding. Sequences are counted in the order of an evaluation, short ones first
/// where lengths differ; both of a pair count. Throws UsageError with the range.
Batch one_sequence(const Task& task, Split split, std::int64_t index);

/// Of the layer and the head, or of all of them where the number is negative. Throws UsageError with the range.
std::vector<AttentionMap> attention_maps(const Model& model, const Batch& sequence,
                                         std::int64_t layer, std::int64_t head);

/// A row of the csv is a query: "layer,head,query,0,1,..", the weights of its keys to six digits.
std::string maps_csv(const std::vector<AttentionMap>& maps);
/// A picture of all, a line of panels a layer.
Drawing maps_drawing(const std::vector<AttentionMap>& maps);

}  // namespace fastmax::app
