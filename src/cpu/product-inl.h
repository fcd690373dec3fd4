// The one matrix product behind every kernel: C[rows][columns] from A[rows][K] and B[K][columns].
//
// A register tile of R rows x Z vectors accumulates over K from zero (or from what the epilogue
// starts it at): per step Z loads of B and R broadcasts of A feed R Z multiply-adds. Where 32 registers
// exist, 6 x 4 runs at 86 to 92 % of the machine's multiply-add rate from L1, 4 x 4 at 80 to 87 %; 6 x 2
// fills 16 registers. What happens to the finished tile is the epilogue's: store, add to C, or turn
// scores into weights, while it is still in registers.
#include <cstddef>

#include "hwy/highway.h"
#include "src/cpu/layout.h"

#if defined(FASTMAX_CPU_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FASTMAX_CPU_PRODUCT_INL_H_
#undef FASTMAX_CPU_PRODUCT_INL_H_
#else
#define FASTMAX_CPU_PRODUCT_INL_H_
#endif

#include "src/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fastmax::cpu::HWY_NAMESPACE {

/// Where A(row, k) lies: a[row * lda + k] or a[k * lda + row].
enum class By : unsigned char { kRow, kColumn };

template <By kBy, int R, int Z, class T, class Epilogue>
HWY_INLINE void tile(std::size_t K, const T* HWY_RESTRICT a, std::size_t lda,
                     const T* HWY_RESTRICT b, std::size_t ldb, const Epilogue& epilogue,
                     std::size_t row, std::size_t column) {
  const Tag<T> d;
  Vec<T> acc[R][Z];
  epilogue.template start<R, Z>(acc, row, column);
  for (std::size_t k = 0; k < K; ++k) {
    Vec<T> b_k[Z];
    HWY_UNROLL(8)
    for (int z = 0; z < Z; ++z) b_k[z] = hn::LoadU(d, b + k * ldb + z * kLanes<T>);
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) {
      const auto a_rk = hn::Set(d, kBy == By::kRow ? a[r * lda + k] : a[k * lda + r]);
      HWY_UNROLL(8)
      for (int z = 0; z < Z; ++z) acc[r][z] = hn::MulAdd(a_rk, b_k[z], acc[r][z]);
    }
  }
  epilogue.template finish<R, Z>(acc, row, column);
}

/// Tiles of R rows over the rows [first, last).
template <By kBy, int R, int Z, class T, class Epilogue>
HWY_NOINLINE void column_of_tiles(std::size_t first, std::size_t last, std::size_t K, const T* a,
                                  std::size_t lda, const T* b, std::size_t ldb,
                                  const Epilogue& epilogue, std::size_t column) {
  for (std::size_t r = first; r < last; r += R) {
    tile<kBy, R, Z>(K, a + (kBy == By::kRow ? r * lda : r), lda, b, ldb, epilogue, r, column);
  }
}

/// Six rows a tile, and five where sixes would leave a rest; four where there are only eight rows.
template <By kBy, int Z, class T, class Epilogue>
HWY_INLINE void wide_column(std::size_t rows, std::size_t K, const T* a, std::size_t lda,
                            const T* b, std::size_t ldb, const Epilogue& epilogue,
                            std::size_t column) {
  const std::size_t fives = 5 * ((6 - rows % 6) % 6);
  if (fives > rows) {
    return column_of_tiles<kBy, 4, Z>(0, rows, K, a, lda, b, ldb, epilogue, column);
  }
  column_of_tiles<kBy, 6, Z>(0, rows - fives, K, a, lda, b, ldb, epilogue, column);
  if (fives > 0)
    column_of_tiles<kBy, 5, Z>(rows - fives, rows, K, a, lda, b, ldb, epilogue, column);
}

/// C = A B for `rows` (a multiple of kRows) rows and `vectors` vectors of columns. B's rows are ldb
/// apart. Time rows * vectors * K multiply-adds; reads no element outside A, and B to the end of
/// its last vector.
template <By kBy, class T, class Epilogue>
HWY_INLINE void product(std::size_t rows, std::size_t vectors, std::size_t K, const T* a,
                        std::size_t lda, const T* b, std::size_t ldb, const Epilogue& epilogue) {
  constexpr std::size_t L = kLanes<T>;
  std::size_t z = 0;
  for (; z + kWide <= vectors; z += kWide) {
    wide_column<kBy, kWide>(rows, K, a, lda, b + z * L, ldb, epilogue, z * L);
  }
  if constexpr (kWide > 2) {
    if (vectors - z == 3) {
      return column_of_tiles<kBy, 4, 3>(0, rows, K, a, lda, b + z * L, ldb, epilogue, z * L);
    }
    if (vectors - z == 2) {
      return column_of_tiles<kBy, 8, 2>(0, rows, K, a, lda, b + z * L, ldb, epilogue, z * L);
    }
  }
  if (vectors - z == 1) {
    column_of_tiles<kBy, 8, 1>(0, rows, K, a, lda, b + z * L, ldb, epilogue, z * L);
  }
}

/// C = A B, or C += A B. The sum over K starts at zero and is added once: a long sequence of
/// products then rounds once per product, not once per term.
template <class T>
struct StoreOrAdd {
  T* c;
  std::size_t ldc;
  bool add;

  template <int R, int Z>
  HWY_INLINE void start(Vec<T> (&acc)[R][Z], std::size_t, std::size_t) const {
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) {
      HWY_UNROLL(8)
      for (int z = 0; z < Z; ++z) acc[r][z] = hn::Zero(Tag<T>());
    }
  }
  template <int R, int Z>
  HWY_INLINE void finish(Vec<T> (&acc)[R][Z], std::size_t row, std::size_t column) const {
    const Tag<T> d;
    T* to = c + row * ldc + column;
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) {
      HWY_UNROLL(8)
      for (int z = 0; z < Z; ++z) {
        T* p = to + r * ldc + z * kLanes<T>;
        hn::StoreU(add ? hn::Add(hn::LoadU(d, p), acc[r][z]) : acc[r][z], d, p);
      }
    }
  }
};

/// C += diag(weight) A B.
template <class T>
struct AddWeighted : StoreOrAdd<T> {
  const T* weight;

  template <int R, int Z>
  HWY_INLINE void finish(Vec<T> (&acc)[R][Z], std::size_t row, std::size_t column) const {
    const Tag<T> d;
    T* to = this->c + row * this->ldc + column;
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) {
      const auto w = hn::Set(d, weight[row + r]);
      HWY_UNROLL(8)
      for (int z = 0; z < Z; ++z) {
        T* p = to + r * this->ldc + z * kLanes<T>;
        hn::StoreU(hn::MulAdd(w, acc[r][z], hn::LoadU(d, p)), d, p);
      }
    }
  }
};

}  // namespace fastmax::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // FASTMAX_CPU_PRODUCT_INL_H_
