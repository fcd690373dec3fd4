"""Fastmax attention in linear time (arXiv 2402.07901).

```python
import fastmax

o = fastmax.scaled_dot_product_attention(query, key, value, is_causal=True)
```

takes the place of `torch.nn.functional.scaled_dot_product_attention`, for q [B, H, N, D], k [B, Hkv, M, D] and
v [B, Hkv, M, E] of float32, float64, bfloat16 or float16. Beside it:

- `FastmaxState`, `step`: all that attention needs of a past of any length, in memory that does not grow;
- `fastmax.nn`: `MultiheadAttention` in the place of PyTorch's;
- `fastmax.models`: the transformer that the program trains, by the same weights;
- `fastmax.ops`: the calling convention of flash-linear-attention;
- `fastmax.hf`: Hugging Face's models under Fastmax, and a cache of constant size;
- `fastmax.distributed`: one sequence over many machines;
- `attention_weights`: rows of the matrix that is never formed;
- `fastmax.reference`: the definition, in float64;
- `torch.ops.fastmax.*`: the operators themselves, one for each function of the C++ core.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from fastmax import models, nn, ops, reference
from fastmax._attention import attention_weights, scaled_dot_product_attention, step
from fastmax._info import info
from fastmax._state import FastmaxState

if TYPE_CHECKING:
    from fastmax import distributed, hf

__all__ = [
    "FastmaxState",
    "attention_weights",
    "info",
    "models",
    "nn",
    "ops",
    "reference",
    "scaled_dot_product_attention",
    "step",
]


_LATER = ("distributed", "hf")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


if not TYPE_CHECKING:  # to whom every name would be one

    def __getattr__(name: str) -> ModuleType:
        """Imports at their first use what needs more than torch, or takes long to import."""
        if name in _LATER:
            return importlib.import_module(f"fastmax.{name}")
        raise AttributeError(f"module 'fastmax' has no attribute '{name}'")
