// What `bench` times: one way to compute attention, forward or backward, as a call that can be repeated.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "app/bench_truth.h"
#include "fastmax/fastmax.h"

namespace fastmax::app {

/// What a Fastmax call is given beside q, k and v, such that its answer is that of the call without.
enum class Extra : std::uint8_t {
  kNone,
  kWeights,  ///< key weights, all 1
  kGrouped,  ///< one key head for all heads
  kPacked,   ///< the batch entries as packed sequences of one length
  kStates,   ///< a state of nothing comes in, one goes out; backward: their gradients
};

/// One length, head size, mask and type; N = M and D = E.
struct BenchShape {
  std::int64_t B = 1, H = 1, N = 0, D = 0;
  bool causal = false;
  bool backward = false;
  at::ScalarType dtype = at::kFloat;
  bool tokens_first =
      false;             ///< memory is [B, N, H, D], as projections leave it; else [B, H, N, D]
  Dropout dropout = {};  ///< of the Fastmax methods; softmax has none
  Extra extra = Extra::kNone;  ///< of the Fastmax methods
};

struct Contender {
  std::string method = {};  ///< as asked: fastmax, direct, factorised, sdpa, softmax
  int order = 0;            ///< p; 0: softmax
  BenchShape shape = {};
  std::string path = {};  ///< what runs: direct or factorised
  std::string why = {};
  double useful_flops = 0;
  double workspace_bytes = 0;                  ///< beyond inputs and outputs, while the call runs
  double saved_bytes = 0;                      ///< kept from forward for backward, inputs included
  BenchInputs inputs = {};                     ///< what `call` reads
  std::shared_ptr<BenchOutputs> outputs = {};  ///< what it writes
  std::function<void()> call = {};
};

/// "f32", "bf16", "f16", "f64".
std::string dtype_name(at::ScalarType dtype);

/// The names of --methods.
const std::vector<std::string>& bench_methods();

/// Random normal q, k, v and d_o, the same for the same shape.
BenchInputs bench_inputs(const BenchShape& shape);

/// Memory that bench_inputs needs at once, before anything is allocated.
double input_bytes(const BenchShape& shape);

/// factorised 4 N F (E + 1) with F = C(D + p, p); direct 2 N M (D + E), halved when causal.
/// Backward has five such products where forward has two, in either form (S, dP, dQ, dK, dV; two
/// states and three contractions), so its factor is 2.5.
double useful_flops(const BenchShape& shape, int order, bool factorised);

/// Memory a call of the method needs at once beyond `bench_inputs`, before anything is allocated.
double expected_bytes(const std::string& method, const BenchShape& shape);

/// Fastmax by the core, on torch's threads, with outputs and scratch that are kept from call to
/// call. Contenders of one order and direction may share `outputs`; the first backward one fills in
/// o and g by a forward call. Throws fastmax::Error where the core refuses.
Contender fastmax_contender(const std::string& method, int order, const BenchShape& shape,
                            const BenchInputs& in, const std::shared_ptr<BenchOutputs>& outputs);

/// The truth of a Fastmax contender's answers, which have been computed. With dropout, where only the library knows
/// what was drawn, it is the definition with the weights that fastmax::attention_weights gives in float64: o at sampled
/// rows, and dv where the whole matrix is affordable.
SampledTruth fastmax_truth(const Contender& contender);

/// "sdpa": at::scaled_dot_product_attention; "softmax": the N x M matrix written out. Backward by autograd.
Contender softmax_contender(const std::string& method, const BenchShape& shape,
                            const BenchInputs& in);

}  // namespace fastmax::app
