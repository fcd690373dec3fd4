"""Attention and mask functions in the calling convention of transformers' AttentionInterface."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import bidirectional_mask_function, causal_mask_function

from fastmax._attention import attention_weights, scaled_dot_product_attention
from fastmax._composite import computed_in
from fastmax._errors import need, need_type

NAMES = {"fastmax": 2, **{f"fastmax{p}": p for p in range(1, 5)}}  # of attn_implementation, and the order p

# What some models add to scores or to their sum, or choose for single queries: a polynomial kernel of q and k has no place for it.
_REFUSED = ("position_bias", "sliding_window", "softcap", "s_aux", "sinks", "head_mask", "indices", "block_indices")
_PACKED = ("cu_seq_lens_q", "cu_seq_lens_k", "seq_idx")  # where sequences begin that share a row


def register() -> None:
    """Makes "fastmax" (p = 2) and "fastmax1" .. "fastmax4" values of `attn_implementation`. Any number of times.

    The scores' scale is Fastmax's own (1 for even p), not the model's 1 / sqrt(D). `config.fastmax`, a dict of
    `scale`, `normalize` and `dropout`, gives other options of `fastmax.scaled_dot_product_attention`. Key padding is
    right on both sides; sliding windows, packed sequences, position biases and 4-D masks raise ValueError.
    """
    for name, p in NAMES.items():
        AttentionInterface.register(name, partial(attention, p=p))
        AttentionMaskInterface.register(name, padding_mask)


def padding_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    mask_function: Callable = causal_mask_function,
    attention_mask: Tensor | None = None,
    device: torch.device | str = "cpu",
    **_: Any,
) -> Tensor:
    """The keys that count: bool [B, M] where attention is causal, [B, 1, 1, M] where it is not. Linear in M."""
    causal = mask_function is causal_mask_function
    # Traced position_ids do not show that nothing is packed, so that transformers then adds the mask of packed sequences;
    # it does not look at them where attention_mask is given.
    need(
        causal or mask_function is bidirectional_mask_function,
        "a causal or an unmasked layer under attn_implementation='fastmax' (and attention_mask under torch.compile)",
        "a sliding window, packed sequences or another mask of the model",
    )
    if causal:
        need(
            q_offset + q_length == kv_offset + kv_length,
            "a cache that holds the tokens so far and no more (fastmax.hf.cache or a DynamicCache)",
            f"{kv_offset + kv_length} places for {q_offset + q_length} tokens",
        )
    if attention_mask is None:
        keys = torch.ones(batch_size, kv_length, dtype=torch.bool, device=device)
    else:
        keys = attention_mask[:, kv_offset : kv_offset + kv_length]
        need(keys.size(1) == kv_length, f"attention_mask of {kv_offset + kv_length} tokens", attention_mask.size(1))
    return keys if causal else keys[:, None, None, :]


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    p: int,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    output_attentions: bool = False,
    **rest: Any,
) -> tuple[Tensor, Tensor | None]:
    """query [B, H, N, D], key and value [B, Hkv, M, D] -> o [B, N, H, D] and, with `output_attentions`, the matrix.

    `scaling` is not used: see `register`.
    """
    for name in _REFUSED:
        need(rest.get(name) is None, f"a model without {name} under attn_implementation='fastmax'", "one that has it")
    for name in _PACKED:
        need(rest.get(name) is None, "one sequence a row under attn_implementation='fastmax'", name)
    causal, weight = _mask(module, attention_mask, is_causal, computed_in(query.dtype))
    options = {"p": p, **_options(module), "enable_gqa": True}
    of_dropout = {"dropout": options.pop("dropout")} if "dropout" in options else {}
    layer = getattr(key, "fastmax_layer", None)
    if layer is not None:
        need(causal, "a causal layer with fastmax.hf.cache", "one that sees every token")
        need(not output_attentions, "output_attentions=False with fastmax.hf.cache, which keeps no keys", True)
        o = layer.attend(query, key, value, weight, dropout_p=dropout, **of_dropout, **options)
        return o.transpose(1, 2).contiguous(), None
    options.update(is_causal=causal, key_weight=weight)
    o = scaled_dot_product_attention(query, key, value, dropout_p=dropout, **of_dropout, **options)
    a = attention_weights(query, key, **options) if output_attentions else None
    return o.transpose(1, 2).contiguous(), a


def _mask(
    module: nn.Module, mask: Tensor | None, is_causal: bool | None, dtype: torch.dtype
) -> tuple[bool, Tensor | None]:
    """Whether attention is causal, and the weights [B, M] of keys."""
    if mask is None:
        return bool(getattr(module, "is_causal", True) if is_causal is None else is_causal), None
    of_keys = mask.dtype == torch.bool and (mask.dim() == 2 or (mask.dim() == 4 and mask.shape[1:3] == (1, 1)))
    need(of_keys, "attention_mask of 2 dimensions [B, M], of key padding", f"{mask.dtype} {[*mask.shape]}")
    return mask.dim() == 2, mask.flatten(1).to(dtype)


def _options(module: nn.Module) -> dict[str, Any]:
    options = getattr(getattr(module, "config", None), "fastmax", None) or {}
    need_type("config.fastmax", options, dict, "a dict")
    unknown = [name for name in options if name not in ("scale", "normalize", "dropout")]
    need(not unknown, "config.fastmax of scale, normalize and dropout", ", ".join(map(str, unknown)))
    return dict(options)
