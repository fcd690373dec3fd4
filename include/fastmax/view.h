// Views: shapes and strides over memory that somebody else owns. Strides count elements and are not negative; those of
// inputs other than g may be 0, which shows the same rows again (broadcasting). Rows of outputs share no element.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace fastmax {

/// T is const U: what lets a view of U become a view of const U, never back.
template <class T, class U>
concept ConstOf = std::is_same_v<T, const U>;

/// One head: N rows of D adjacent elements; consecutive rows are `stride` elements apart.
template <class T>
struct Rows {
  T* data = nullptr;
  std::int64_t N = 0, D = 0, stride = 0;

  std::span<T> operator[](std::int64_t n) const {
    return {data + n * stride, static_cast<std::size_t>(D)};
  }
  template <ConstOf<T> U>
  operator Rows<U>() const {
    return {data, N, D, stride};
  }
};

/// [B, H, N, D]; the D elements of a row are always adjacent.
template <class T>
struct BhndView {
  T* data = nullptr;
  std::int64_t B = 0, H = 0, N = 0, D = 0;
  std::int64_t stride_b = 0, stride_h = 0, stride_n = 0;

  Rows<T> head(std::int64_t b, std::int64_t h) const {
    return {.data = data + b * stride_b + h * stride_h, .N = N, .D = D, .stride = stride_n};
  }
  template <ConstOf<T> U>
  operator BhndView<U>() const {
    return {data, B, H, N, D, stride_b, stride_h, stride_n};
  }
};

/// [B, H, N]; the N elements of a head are adjacent. An empty view (data == nullptr) means "not wanted".
template <class T>
struct BhnView {
  T* data = nullptr;
  std::int64_t B = 0, H = 0, N = 0;
  std::int64_t stride_b = 0, stride_h = 0;

  T* head(std::int64_t b, std::int64_t h) const {
    return data ? data + b * stride_b + h * stride_h : nullptr;
  }
  template <ConstOf<T> U>
  operator BhnView<U>() const {
    return {data, B, H, N, stride_b, stride_h};
  }
};

/// [B, N]; the N elements of a batch entry are adjacent. An empty view means "not given".
template <class T>
struct BnView {
  T* data = nullptr;
  std::int64_t B = 0, N = 0;
  std::int64_t stride_b = 0;

  T* row(std::int64_t b) const { return data ? data + b * stride_b : nullptr; }
  template <ConstOf<T> U>
  operator BnView<U>() const {
    return {data, B, N, stride_b};
  }
};

/// States of one call, dense [B, Hkv, F, E + 1]. An empty view means "not given" or "not wanted".
template <class T>
struct StateView {
  T* data = nullptr;
  std::int64_t B = 0, H = 0, F = 0, E = 0;

  /// The state of one head, [F][E + 1].
  T* head(std::int64_t b, std::int64_t h) const {
    return data ? data + (b * H + h) * F * (E + 1) : nullptr;
  }
  std::int64_t size() const { return B * H * F * (E + 1); }
  template <ConstOf<T> U>
  operator StateView<U>() const {
    return {data, B, H, F, E};
  }
};

/// The view of a dense [B, H, N, D] array.
template <class T>
BhndView<T> contiguous(T* data, std::int64_t B, std::int64_t H, std::int64_t N, std::int64_t D) {
  return {data, B, H, N, D, H * N * D, N * D, D};
}
/// The view of a dense [B, H, N] array.
template <class T>
BhnView<T> contiguous(T* data, std::int64_t B, std::int64_t H, std::int64_t N) {
  return {data, B, H, N, H * N, N};
}
/// The view of a dense [B, N] array.
template <class T>
BnView<T> contiguous(T* data, std::int64_t B, std::int64_t N) {
  return {data, B, N, N};
}

}  // namespace fastmax
