"""Fastmax attention in linear time (arXiv 2402.07901).

Importing the package loads the operators ``torch.ops.fastmax.*`` and makes them differentiable and
compilable: ``o, g = torch.ops.fastmax.forward(q, k, v)`` for q [B, H, N, D], k [B, Hkv, M, D] and
v [B, Hkv, M, E] of float32 or float64.
"""

from fastmax import _operators as _operators
