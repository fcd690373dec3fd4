// The operators, declared once; cpu.cc implements them. Shapes are those of fastmax/fastmax.h:
// q [B, H, N, D], k [B, Hkv, M, D], v [B, Hkv, M, E], key_weight [B, M], o [B, H, N, E], g [B, H,
// N].
//
// `method` is 'auto', 'direct' or 'factorised'. `o` is laid out in memory as q is, and each
// gradient as the tensor it belongs to, so that the transposes around attention stay free of
// copies.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(fastmax, m) {
  m.def(
      "forward(Tensor q, Tensor k, Tensor v, Tensor? key_weight=None, *, int p=2, float? "
      "scale=None, "
      "bool causal=False, str method='auto') -> (Tensor o, Tensor g)");
  m.def(
      "backward(Tensor d_o, Tensor q, Tensor k, Tensor v, Tensor? key_weight, Tensor o, Tensor g, "
      "*, "
      "int p=2, float? scale=None, bool causal=False, str method='auto') "
      "-> (Tensor dq, Tensor dk, Tensor dv)");
  m.def(
      "plan(Tensor q, Tensor k, Tensor v, *, int p=2, bool causal=False, str method='auto', "
      "bool backward=False) -> str");
  m.def("targets() -> str");
}
