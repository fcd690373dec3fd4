"""Causal Fastmax in the calling convention of flash-linear-attention: tokens before heads, states as plain tensors."""

import math
from typing import Any

import torch
from torch import Tensor

from fastmax._attention import scaled_dot_product_attention
from fastmax._call import function_options
from fastmax._errors import in_callers_words, need, need_tensor, need_type
from fastmax._state import FastmaxState


def chunk_fastmax(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: Tensor | None = None,
    *,
    p: int = 2,
    normalize: str = "standardize",
    head_first: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Causal attention as `chunk_linear_attn` and its kin are called; gradients flow through all four tensors.

    q [B, T, H, K], k [B, T, Hkv, K], v [B, T, Hkv, V], H a multiple of Hkv -> o [B, T, H, V] and the final state or None.

    Args:
        scale: factor of the scores. None is the library's default, 1 for p = 2 (and not 1 / sqrt(K)).
        initial_state: [S, Hkv, F, V + 1] with F = C(K + p, p), a final state of an earlier call; S is B, or the number of
            packed sequences. Its last column carries the denominator, so that numerator and denominator go on together.
            It is `FastmaxState.tensor`; float64 for float64 inputs, else float32.
        output_final_state: whether the second result is the state after the last token.
        cu_seqlens: [S + 1] offsets, int32 or int64, of S sequences packed along T (B = 1).
        p, normalize: as in `fastmax.scaled_dot_product_attention`.
        head_first: refused: flash-linear-attention has removed it, too.

    Raises:
        ValueError, TypeError: as `fastmax.scaled_dot_product_attention`.
    """
    need_type("head_first", head_first, bool, "a bool")
    need(not head_first, "tokens before heads, [B, T, H, K] (for [B, H, T, K] there is "
         "fastmax.scaled_dot_product_attention, without a copy)", "head_first=True")  # fmt: skip
    for name, x in (("q", q), ("k", k), ("v", v)):
        need_tensor(name, x)
        need(x.dim() == 4, f"{name} of 4 dimensions [B, T, H, channels]", x.dim())
    need(k.size(1) == q.size(1), f"k of q's {q.size(1)} tokens (T comes before H)", k.size(1))
    need_type("output_final_state", output_final_state, bool, "a bool")
    options: dict[str, Any] = {"scale": scale, "p": p, "normalize": normalize}
    past = None
    if initial_state is not None:
        need_type("initial_state", initial_state, Tensor, "a Tensor (FastmaxState.tensor)")
        function_options(p, scale, normalize, None)
        wanted = (math.comb(q.size(3) + p, p), v.size(3) + 1)
        need(initial_state.dim() == 4 and initial_state.shape[2:] == wanted, f"initial_state of shape [S, Hkv, {wanted[0]}, "
             f"{wanted[1]}]", [*initial_state.shape])  # fmt: skip
        past = FastmaxState(initial_state, D=q.size(3), **options)
    if cu_seqlens is not None:
        need_type("cu_seqlens", cu_seqlens, Tensor, "a Tensor")
        need(cu_seqlens.dtype in (torch.int32, torch.int64), "cu_seqlens int32 or int64", cu_seqlens.dtype)
        cu_seqlens = cu_seqlens.int()
    try:
        result = scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            is_causal=True,
            enable_gqa=True,
            cu_seqlens=cu_seqlens,
            initial_state=past,
            return_state=output_final_state,
            **options,
        )
    except ValueError as wrong:
        raise in_callers_words(wrong, {"query": "q", "key": "k", "value": "v"}) from None
    o, state = result if isinstance(result, tuple) else (result, None)
    return o.transpose(1, 2), None if state is None else state.tensor
