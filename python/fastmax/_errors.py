"""Errors in the words of the core: what was needed, and what came."""

import re
from collections.abc import Mapping
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


def need_tensor(name: str, value: Any) -> None:
    need_type(name, value, Tensor, "a Tensor")
    need(not value.is_nested, f"{name} not nested (sequences of several lengths are cu_seqlens or key_weight)", "a nested tensor")


def need_one_place(q: Tensor, *, seed: Tensor | None = None, **others: Tensor | None) -> None:
    """Of tensors on several devices, or sparse ones, PyTorch's own error names no argument; beside one of "meta" there is none.
    A seed is drawn on the CPU and may stay there."""
    for name, x in {"q": q, **others}.items():
        if x is not None:
            need(x.layout == torch.strided, f"{name} dense", x.layout)
            need(x.device == q.device, f"{name} on q's device {q.device}", x.device)
    if seed is not None:
        need(seed.is_cpu or seed.device == q.device, f"seed on the CPU or q's device {q.device}", seed.device)


# The core's words for what a caller of Python sees under another name, and its numbers of rows and columns.
_WORDS = {
    r"\bk\.N\b": "k.M",
    r"\bv\.N\b": "v.M",
    r"\bkey_weight\.N\b": "key_weight.M",
    r"\bv\.D\b": "v.E",
    r"\bform other than\b": "method other than",
    r"\bwith kNone\b": "with normalize='none'",
    r"\bFloor::kClamp\b": "floor='clamp'",
    r"\bkMaxNorm\b": "'max_norm'",
    r"\bkDirect\b": "'direct'",
    r"\bdropout\.rate\b": "dropout_p",
    r"\bcu_q and cu_k\b": "cu_seqlens of queries and of keys",
    r"\bcu_q\b": "cu_seqlens",
    r"\bcu_k\b": "cu_seqlens of keys",
    **{rf"\b{old}\b": f"torch.{new}" for old, new in {
        "Float": "float32", "Double": "float64", "BFloat16": "bfloat16", "Half": "float16", "Bool": "bool", "Byte": "uint8",
        "Char": "int8", "Short": "int16", "Int": "int32", "Long": "int64", "ComplexFloat": "complex64",
        "ComplexDouble": "complex128"}.items()},
}  # fmt: skip
_ANY_WORD = re.compile("|".join(f"({pattern})" for pattern in _WORDS))
_REPLACEMENTS = [*_WORDS.values()]


def _replacement(found: re.Match[str]) -> str:
    assert found.lastindex is not None  # each of _WORDS is a group
    return _REPLACEMENTS[found.lastindex - 1]


def in_callers_words(wrong: Exception, names: Mapping[str, str]) -> ValueError:
    """The core's error in Python's words, and its arguments under the `names` that they have where they were given."""
    text = _ANY_WORD.sub(_replacement, str(wrong))
    for name in names:
        text = re.sub(rf"\b{name}\b", names[name], text)
    return ValueError(text)
