// The two products of the factorised form by bf16 matrix tiles (Intel AMX): features and values are rounded to bf16,
// every sum is float32. A tile product does sixteen times the multiply-adds of an AVX-512 one, so that what is left of
// the cost is forming the features.
//
//   join   M[f][e] += w_f sum_n phi_f(n) v[n][e]     A = phi [16 f][32 n],  B = v [32 n][16 e]
//   read   ot[e][n] += sum_f M[f][e] phi_f(n)        A = M^T [16 e][32 f],  B = phi [32 f][16 n]
//
// Lanes are tokens as everywhere, so A and B of phi are what forming writes, without a transposition. B tiles hold
// pairs of rows, element by element: [16 pairs][16 columns][2].
#pragma once
#include <cstddef>
#include <cstdint>

#include "src/cpu/features.h"

namespace fastmax::cpu::amx {

/// Whether this CPU has tiles of bf16 and the system lets the process use them; asked once.
bool available();

/// Sets this thread's tile registers up for as long as it lives; join and read need one. use = false: does nothing.
class Tiles {
 public:
  explicit Tiles(bool use);
  ~Tiles();
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

 private:
  bool used_;
};

/// Features of a block: the inner dimension of one tile product, and two tiles of rows.
inline constexpr std::size_t kBlock = 32;
/// Channels of a tile: E must be a multiple of it.
inline constexpr std::size_t kChannels = 16;
/// Blocks that one pass over a panel reads, so that their features stay in L1.
inline constexpr std::size_t kReadBlocks = 8;

using Bits = std::uint16_t;  ///< a bf16 number

/// Elements of the tiles of one panel of values, and of a state's block.
constexpr std::size_t value_size(std::size_t E) { return kPanel * E; }
constexpr std::size_t state_size(std::size_t E) { return kBlock * E; }
/// Elements of scratch that join takes for a panel.
constexpr std::size_t join_size() { return kBlock * kPanel; }

/// n rows of values less `mean` [E] to tiles; tokens behind them are zero.
void pack_values(const float* rows, std::size_t ld, std::size_t n, const float* mean, std::size_t E,
                 Bits* tiles);
/// The state's rows of one block, `rows` of them, M [rows][ld], to tiles; rows behind them are zero.
void pack_state(const float* M, std::size_t ld, std::size_t rows, std::size_t E, Bits* tiles);

/// Keys of one panel.
struct Keys {
  const float* x;       ///< kappa [K][kPanel], zeros behind the last token
  const float* weight;  ///< [kPanel]; nullptr: all ones
  const Bits* values;   ///< from pack_values
};

/// M and y += the sums over the keys of `count` panels, for a block of the features of order p. Weights, M and y are
/// those of the block's first feature; y's sums are of unrounded features. phi: scratch, [count][join_size()].
void join(const FeatureBlock& block, int p, const Keys* keys, std::size_t count, std::size_t E,
          const float* weight, const float* value_weight, float* M, std::size_t ld, float* y,
          Bits* phi);

/// ot [E][kPanel] += M^T phi and g [kPanel] += y . phi for the panel x, over `count` <= kReadBlocks neighbouring blocks,
/// whose tiles lie in `state` one behind the other. `y` is that of the first block's first feature. add = false: ot is
/// written, not read.
void read(const FeatureBlock* blocks, std::size_t count, int p, const float* x, const Bits* state,
          const float* y, std::size_t E, bool add, float* ot, float* g);

}  // namespace fastmax::cpu::amx
