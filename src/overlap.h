// Do two views share memory? Rows of D adjacent elements lie at multiples of three strides, so views of one array may
// interleave (q, k and v of one projection, their gradients in another) without sharing an element.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "fastmax/view.h"

namespace fastmax {

/// The bytes of a view: rows of `width`, at begin + sum i_j dims[j].stride for 0 <= i_j < dims[j].count.
struct Memory {
  struct Dim {
    std::int64_t stride = 0;  ///< bytes; 0 where the count is 1
    std::int64_t count = 1;
  };
  const char* name;
  const std::byte* begin = nullptr;  ///< nullptr: no memory
  std::int64_t width = 0;
  std::array<Dim, 3> dims = {};  ///< largest stride first

  /// Bytes from the first to the last that one step of dims[inside - 1] moves.
  std::int64_t extent(std::size_t inside = 0) const {
    std::int64_t bytes = width;
    for (std::size_t j = inside; j < dims.size(); ++j)
      bytes += (dims[j].count - 1) * dims[j].stride;
    return bytes;
  }
  /// Each step is at least as long as what lies inside it: no two rows share an element.
  bool nested() const {
    for (std::size_t j = 0; begin && j < dims.size(); ++j) {
      if (dims[j].count > 1 && dims[j].stride < extent(j + 1)) return false;
    }
    return true;
  }
};

template <class T>
Memory memory(const char* name, const BhndView<T>& x) {
  if (!x.data || x.B == 0 || x.H == 0 || x.N == 0 || x.D == 0) return {.name = name};
  const auto bytes = [](std::int64_t n) { return n * static_cast<std::int64_t>(sizeof(T)); };
  Memory out{
      .name = name,
      .begin = reinterpret_cast<const std::byte*>(x.data),
      .width = bytes(x.D),
      .dims = {{{bytes(x.stride_b), x.B}, {bytes(x.stride_h), x.H}, {bytes(x.stride_n), x.N}}}};
  for (Memory::Dim& dim : out.dims) {
    if (dim.count == 1) dim.stride = 0;
  }
  std::ranges::sort(out.dims, std::ranges::greater(), &Memory::Dim::stride);
  return out;
}
template <class T>
Memory memory(const char* name, const BhnView<T>& x) {
  return memory(name, BhndView<T>{x.data, x.B, x.H, 1, x.N, x.stride_b, x.stride_h, 0});
}
template <class T>
Memory memory(const char* name, const BnView<T>& x) {
  return memory(name, BhndView<T>{x.data, x.B, 1, 1, x.N, x.stride_b, 0, 0});
}
template <class T>
Memory memory(const char* name, const StateView<T>& x) {
  return memory(name, BhndView<T>{x.data, 1, 1, 1, x.size(), 0, 0, 0});
}

/// Of two nested views with equal strides, b's first row `distance` bytes behind a's: do rows meet, that is, is
/// -b.width < distance + sum k_j stride_j < a.width for some differences k_j of their indices? What lies inside a step
/// is no longer than it, so that only the three k_j about -distance / stride_j can be.
inline bool rows_meet(const Memory& a, const Memory& b, std::int64_t distance, std::size_t j = 0) {
  if (j == a.dims.size()) return -b.width < distance && distance < a.width;
  const std::int64_t stride = a.dims[j].stride;
  if (stride == 0) return rows_meet(a, b, distance, j + 1);
  const std::int64_t most = std::min(b.dims[j].count - 1, -distance / stride + 1);
  for (std::int64_t k = std::max(1 - a.dims[j].count, -distance / stride - 1); k <= most; ++k) {
    if (rows_meet(a, b, distance + k * stride, j + 1)) return true;
  }
  return false;
}

/// Exact for nested views with equal strides; others overlap where the ranges that they span do.
inline bool overlap(const Memory& a, const Memory& b) {
  if (!a.begin || !b.begin) return false;
  const std::int64_t distance = b.begin - a.begin;
  if (distance >= a.extent() || -distance >= b.extent()) return false;
  const bool comparable =
      a.nested() && b.nested() &&
      std::ranges::equal(a.dims, b.dims, {}, &Memory::Dim::stride, &Memory::Dim::stride);
  return !comparable || rows_meet(a, b, distance);
}

}  // namespace fastmax
