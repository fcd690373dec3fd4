"""Errors in the words of the core: what was needed, and what came."""

from typing import Any

import torch
from torch import Tensor


def need(condition: Any, rule: str, got: Any) -> None:
    if not condition:
        raise ValueError(f"fastmax: need {rule}, got {got}")


def need_type(name: str, value: Any, kind: type | tuple[type, ...], words: str) -> None:
    """bool is not taken for a number."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"fastmax: need {name} {words}, got {type(value).__name__}")


def need_one_place(q: Tensor, **others: Tensor | None) -> None:
    """Of tensors on several devices, or sparse ones, PyTorch's own error names no argument; beside one of "meta" there is none."""
    for name, x in {"q": q, **others}.items():
        if x is not None:
            need(x.layout == torch.strided, f"{name} dense", x.layout)
            need(x.device == q.device, f"{name} on q's device {q.device}", x.device)
