// The operators, declared once, one for each function of the core; cpu.cc implements them. Shapes are those of
// fastmax/fastmax.h: q [B, H, N, D], k [B, Hkv, M, D], v [B, Hkv, M, E], key_weight [B, M], o [B, H, N, E], g [B, H, N],
// states [B, Hkv, F, E + 1].
//
// q, k and v are float32, float64, bfloat16 or float16; o and their gradients are of the same type. g, key_weight and
// states are what is computed in: float64 for float64, else float32. `o` is laid out in memory as q is, and each
// gradient as the tensor it belongs to, so that the transposes around attention stay free of copies.
//
// cu_q and cu_k are int32 offsets of packed sequences (B = 1, one state a sequence); cu_k alone is not enough, and
// without it keys are packed as queries are. `seed` of dropout is an int64 tensor of one element, so that drawing it can
// be traced. Results that there is no need for are undefined, None in Python.
#include "torch_ops/options.h"

#define FASTMAX_OPERANDS                                                                        \
  "Tensor q, Tensor k, Tensor v, Tensor? key_weight=None, Tensor? initial_state=None, Tensor? " \
  "cu_q=None, Tensor? cu_k=None, Tensor? seed=None"

STABLE_TORCH_LIBRARY(fastmax, m) {
  // smallest_denominator: of a row, over the sum of its weights, before the floor; where one can come near zero (odd p,
  // coefficients). Infinity if no row sees any weight.
  m.def("forward(" FASTMAX_OPERANDS ", *, " FASTMAX_FUNCTION ", " FASTMAX_CALL
        ", bool return_state=False) -> (Tensor o, Tensor g, Tensor final_state, Tensor "
        "smallest_denominator)");
  m.def("backward(Tensor d_o, Tensor? d_final_state, Tensor o, Tensor g, " FASTMAX_OPERANDS
        ", *, " FASTMAX_FUNCTION ", " FASTMAX_CALL
        ") -> (Tensor dq, Tensor dk, Tensor dv, Tensor d_initial_state)");
  // One token, N = 1: it joins the state, then the query reads it. A state whose denominator is an error stays as it was.
  m.def("step(Tensor q, Tensor k, Tensor v, Tensor(a!) state, Tensor? key_weight=None, *, "  //
        FASTMAX_FUNCTION ", str floor='auto') -> Tensor");
  // [B, H, number of rows, M]; rows: int64 indices of queries, all if None.
  m.def(
      "attention_weights(Tensor q, Tensor k, Tensor? key_weight=None, Tensor? rows=None, "
      "Tensor? seed=None, *, " FASTMAX_FUNCTION ", " FASTMAX_CALL ") -> Tensor");
  // "direct: ..." or "factorised: ...": the form that a call takes on this machine, and why.
  m.def("plan(" FASTMAX_OPERANDS ", *, " FASTMAX_FUNCTION ", " FASTMAX_CALL
        ", bool return_state=False, bool backward=False) -> str");
  // Instruction sets, best first, separated by spaces; and what the library was built from and by.
  m.def("targets() -> str");
  m.def("build() -> (str version, str compiler)");
}
