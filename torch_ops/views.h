// Tensors of the stable ABI as the views that the core takes, and new tensors for its results.
#pragma once
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <type_traits>
#include <utility>

#include "fastmax/fastmax.h"

namespace fastmax::torch_ops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

template <class T>
inline constexpr ScalarType kScalarType = std::is_same_v<T, double>     ? ScalarType::Double
                                          : std::is_same_v<T, BFloat16> ? ScalarType::BFloat16
                                          : std::is_same_v<T, Float16>  ? ScalarType::Half
                                                                        : ScalarType::Float;

/// Calls f<T>() with T as q's elements.
template <class F>
auto with_dtype_of(const Tensor& q, F&& f) {
  const ScalarType type = q.scalar_type();
  if (type == ScalarType::Double) return f.template operator()<double>();
  if (type == ScalarType::BFloat16) return f.template operator()<BFloat16>();
  if (type == ScalarType::Half) return f.template operator()<Float16>();
  require(type == ScalarType::Float, "q of float32, float64, bfloat16 or float16, got ",
          toString(type));
  return f.template operator()<float>();
}

/// `t` itself if the elements of its last dimension are adjacent, else a contiguous copy: like
/// PyTorch's own attention, the operators take any strides. `axes` is what the error prints: "[B,
/// H, N, D]".
inline Tensor readable(const Tensor& t, const char* name, const char* axes, std::int64_t rank,
                       ScalarType type) {
  require(t.dim() == rank, name, " of ", rank, " dimensions ", axes, ", got ", t.dim());
  require(t.scalar_type() == type, name, " of dtype ", toString(type), ", got ",
          toString(t.scalar_type()));
  const std::int64_t last = rank - 1;
  const bool adjacent = rank == 0 || t.sizes()[last] <= 1 || t.strides()[last] == 1;
  return adjacent ? t : torch::stable::contiguous(t);
}
inline OptionalTensor readable(const OptionalTensor& t, const char* name, const char* axes,
                               std::int64_t rank, ScalarType type) {
  return t ? OptionalTensor(readable(*t, name, axes, rank, type)) : std::nullopt;
}
/// The same, with all elements adjacent.
inline OptionalTensor dense(const OptionalTensor& t, const char* name, const char* axes,
                            std::int64_t rank, ScalarType type) {
  OptionalTensor x = readable(t, name, axes, rank, type);
  if (x && !x->is_contiguous()) x = torch::stable::contiguous(*x);
  return x;
}

template <std::size_t rank>
Tensor new_tensor(const std::array<std::int64_t, rank>& sizes,
                  const std::array<std::int64_t, rank>& strides, ScalarType type) {
  AtenTensorHandle handle = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      rank, sizes.data(), strides.data(),
      torch::stable::detail::to<std::int32_t>(torch::stable::detail::from(type)),
      aoti_torch_device_type_cpu(), /*device_index=*/0, &handle));
  return Tensor(handle);
}
template <std::size_t rank>
Tensor new_tensor(const std::array<std::int64_t, rank>& sizes, ScalarType type) {
  std::array<std::int64_t, rank> strides{};
  std::int64_t next = 1;
  for (std::size_t i = rank; i-- > 0; next *= std::max<std::int64_t>(sizes[i], 1))
    strides[i] = next;
  return new_tensor(sizes, strides, type);
}
/// A new [B, H, N, width] tensor whose B, H and N lie in memory in the order in which those of `like` do.
inline Tensor empty_in_layout_of(const Tensor& like, std::int64_t width) {
  const auto like_sizes = like.sizes(), like_strides = like.strides();
  std::array<std::size_t, 3> outer_first = {0, 1, 2};
  std::stable_sort(outer_first.begin(), outer_first.end(),
                   [&](std::size_t a, std::size_t b) { return like_strides[a] > like_strides[b]; });
  const std::array<std::int64_t, 4> sizes = {like_sizes[0], like_sizes[1], like_sizes[2], width};
  std::array<std::int64_t, 4> strides = {0, 0, 0, 1};
  std::int64_t next = std::max<std::int64_t>(width, 1);
  for (auto axis = outer_first.rbegin(); axis != outer_first.rend(); ++axis) {
    strides[*axis] = std::exchange(next, next * std::max<std::int64_t>(sizes[*axis], 1));
  }
  return new_tensor(sizes, strides, like.scalar_type());
}

/// To read where T is const, else to write.
template <class T>
T* elements(const Tensor& t) {
  if constexpr (std::is_const_v<T>) {
    return static_cast<T*>(t.const_data_ptr());
  } else {
    return static_cast<T*>(t.mutable_data_ptr());
  }
}
template <class T>
BhndView<T> bhnd(const Tensor& t) {
  const auto n = t.sizes(), stride = t.strides();
  return {elements<T>(t), n[0], n[1], n[2], n[3], stride[0], stride[1], stride[2]};
}
template <class T>
BhnView<T> bhn(const Tensor& t) {
  const auto n = t.sizes(), stride = t.strides();
  return {elements<T>(t), n[0], n[1], n[2], stride[0], stride[1]};
}
template <class T>
BnView<const T> bn(const OptionalTensor& t) {
  if (!t) return {};
  return {elements<const T>(*t), t->size(0), t->size(1), t->stride(0)};
}
/// Dense states [B, Hkv, F, E + 1].
template <class T>
StateView<T> states(const Tensor& t) {
  const auto n = t.sizes();
  return {elements<T>(t), n[0], n[1], n[2], n[3] - 1};
}
template <class T>
StateView<T> states(const OptionalTensor& t) {
  return t ? states<T>(*t) : StateView<T>{};
}

}  // namespace fastmax::torch_ops
