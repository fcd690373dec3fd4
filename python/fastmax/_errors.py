"""Errors in the words of the core: what was needed, and what came."""

from typing import Any


def need(condition: Any, rule: str, got: Any) -> None:
    if not condition:
        raise ValueError(f"fastmax: need {rule}, got {got}")


def need_type(name: str, value: Any, kind: type | tuple[type, ...], words: str) -> None:
    """bool is not taken for a number."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"fastmax: need {name} {words}, got {type(value).__name__}")
