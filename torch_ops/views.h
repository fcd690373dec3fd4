// Tensors of the stable ABI as the views that the core takes, and new tensors for its results.
#pragma once
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <utility>

#include "fastmax/error.h"
#include "fastmax/view.h"

namespace fastmax::torch_ops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

/// Calls f<float>() or f<double>(), whichever q holds.
template <class F>
auto with_dtype_of(const Tensor& q, F&& f) {
  const ScalarType type = q.scalar_type();
  require(type == ScalarType::Float || type == ScalarType::Double, "q of float32 or float64, got ",
          toString(type));
  return type == ScalarType::Float ? f.template operator()<float>()
                                   : f.template operator()<double>();
}

/// `t` itself if the elements of its last dimension are adjacent, else a contiguous copy: like
/// PyTorch's own attention, the operators take any strides. `axes` is what the error prints: "[B,
/// H, N, D]".
inline Tensor readable(const Tensor& t, const char* name, const char* axes, std::int64_t rank,
                       ScalarType type) {
  require(t.dim() == rank, name, " of ", rank, " dimensions ", axes, ", got ", t.dim());
  require(t.scalar_type() == type, name, " of the same dtype as q, ", toString(type), ", got ",
          toString(t.scalar_type()));
  const bool adjacent = t.size(rank - 1) <= 1 || t.stride(rank - 1) == 1;
  return adjacent ? t : torch::stable::contiguous(t);
}

/// A new [B, H, N, width] tensor whose B, H and N lie in memory in the order in which those of
/// `like` do.
inline Tensor empty_in_layout_of(const Tensor& like, std::int64_t width) {
  std::array<int, 3> outer_first = {0, 1, 2};
  std::stable_sort(outer_first.begin(), outer_first.end(),
                   [&](int a, int b) { return like.stride(a) > like.stride(b); });
  const std::array<std::int64_t, 4> sizes = {like.size(0), like.size(1), like.size(2), width};
  std::array<std::int64_t, 4> strides = {0, 0, 0, 1};
  std::int64_t next = std::max<std::int64_t>(width, 1);
  for (auto axis = outer_first.rbegin(); axis != outer_first.rend(); ++axis) {
    strides[*axis] = std::exchange(next, next * std::max<std::int64_t>(sizes[*axis], 1));
  }
  std::int32_t dtype = 0;
  AtenTensorHandle handle = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(like.get(), &dtype));
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(4, sizes.data(), strides.data(), dtype,
                                                         aoti_torch_device_type_cpu(),
                                                         /*device_index=*/0, &handle));
  return Tensor(handle);
}

template <class T>
BhndView<const T> bhnd(const Tensor& t) {
  return {t.const_data_ptr<T>(), t.size(0),   t.size(1),  t.size(2), t.size(3),
          t.stride(0),           t.stride(1), t.stride(2)};
}
template <class T>
BhndView<T> bhnd_mutable(const Tensor& t) {
  return {t.mutable_data_ptr<T>(),
          t.size(0),
          t.size(1),
          t.size(2),
          t.size(3),
          t.stride(0),
          t.stride(1),
          t.stride(2)};
}
template <class T>
BhnView<const T> bhn(const Tensor& t) {
  return {t.const_data_ptr<T>(), t.size(0), t.size(1), t.size(2), t.stride(0), t.stride(1)};
}
template <class T>
BhnView<T> bhn_mutable(const Tensor& t) {
  return {t.mutable_data_ptr<T>(), t.size(0), t.size(1), t.size(2), t.stride(0), t.stride(1)};
}
template <class T>
BnView<const T> bn(const std::optional<Tensor>& t) {
  if (!t) return {};
  return {t->const_data_ptr<T>(), t->size(0), t->size(1), t->stride(0)};
}

}  // namespace fastmax::torch_ops
