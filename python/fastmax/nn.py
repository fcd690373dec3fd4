"""Modules in the place of `torch.nn`'s.

```python
attention = fastmax.nn.MultiheadAttention(512, 8)   # where torch.nn.MultiheadAttention(512, 8, batch_first=True) stood
o, _ = attention(x, x, x, need_weights=False, is_causal=True)
```

"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastmax import _features as ft
from fastmax._attention import attention_weights, scaled_dot_product_attention
from fastmax._composite import autocasts, computed_in
from fastmax._errors import in_callers_words, need, need_type

_NORMALIZE = ("standardize", "l2", "none", "max_norm")
_DROPOUT = ("quadratic", "standard", "token")
_LEAST = -41.5  # just above the log of the smallest key weight that there is, 2^-60


class MultiheadAttention(nn.Module):
    """Fastmax attention of `num_heads` heads between projections: `torch.nn.MultiheadAttention` in linear time.

    Constructor, call, parameters and their names are those of PyTorch's module, so that `load_state_dict` takes its
    weights. What differs:

    - `batch_first` is True by default: inputs are [B, N, embed_dim]. Where PyTorch's module stood with its own default,
      say `batch_first=False`.
    - Weights are Fastmax's, and as returned have no gradient and no dropout. They are the one thing here that takes
      O(N M) time and memory: pass `need_weights=False` on long sequences.
    - `attn_mask` is the causal mask or nothing.
    - A float `key_padding_mask` b weighs key m by exp(b_m), which is what adding b_m to a score does to softmax: 0
      keeps a key and -inf drops it. Any number but NaN and inf will do, and may require a gradient, which takes the path of
      torch operations. A key that is more than 41.5 below the row's largest is dropped, for causal queries that do not see the
      largest, too.
    - A causal query n sees the keys m <= n + M - N, so that the last query sees every key.
    - Nested tensors are an error: a `torch.nn.TransformerEncoder` that was built of PyTorch's layers, and given this module
      afterwards, needs `enable_nested_tensor=False`, and that of `torch.nn.Transformer` `encoder.use_nested_tensor = False`.

    Args:
        embed_dim, num_heads, bias, kdim, vdim, batch_first, device, dtype: as in PyTorch.
        dropout: its rate in training; `dropout_mode` says of what.
        add_bias_kv, add_zero_attn: one more key and value, learnt, or of zeros; every query sees it.
        p, scale, normalize, dropout_mode: as `p`, `scale`, `normalize` and `dropout` of
            `fastmax.scaled_dot_product_attention`.

    Raises:
        ValueError, TypeError: as that function does, from the constructor for its own arguments, and from the call for inputs of another
            width or type than the module's and for masks that are not as above.
    """

    # torch.nn.TransformerEncoderLayer has a shortcut in evaluation that computes softmax from the weights of `self_attn`
    # without calling it, and takes it only where this is true.
    _qkv_same_embed_dim = False

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        p: int = 2,
        scale: float | None = None,
        normalize: str = "standardize",
        dropout_mode: str = "quadratic",
    ):
        super().__init__()
        kdim, vdim = (embed_dim if size is None else size for size in (kdim, vdim))
        flags = (("bias", bias), ("add_bias_kv", add_bias_kv), ("add_zero_attn", add_zero_attn), ("batch_first", batch_first))
        for name, flag in flags:
            need_type(name, flag, bool, "a bool")
        for name, size in (("embed_dim", embed_dim), ("num_heads", num_heads), ("kdim", kdim), ("vdim", vdim), ("p", p)):
            need_type(name, size, int, "an int")
            need(size >= 1, f"{name} >= 1", size)
        need(embed_dim % num_heads == 0, f"embed_dim a multiple of num_heads = {num_heads}", embed_dim)
        need_type("dropout", dropout, (float, int), "a number")
        need(0 <= dropout < 1, "dropout in [0, 1)", dropout)
        need(p <= 4, "p in 1..4", p)
        need(normalize in _NORMALIZE, f"normalize one of {', '.join(_NORMALIZE)}", repr(normalize))
        need(dropout_mode in _DROPOUT, f"dropout_mode one of {', '.join(_DROPOUT)}", repr(dropout_mode))
        if scale is None:
            ft.default_scale(p, embed_dim // num_heads, normalize)  # an error where there is none
        else:
            need_type("scale", scale, (float, int), "a number or None")
            need(0 < scale < float("inf"), "scale > 0 and finite", scale)
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = kdim, vdim
        self.dropout, self.batch_first, self.add_zero_attn = float(dropout), batch_first, add_zero_attn
        self.p, self.scale, self.normalize, self.dropout_mode = p, scale, normalize, dropout_mode

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        packed = self.kdim == self.vdim == embed_dim
        self.in_proj_weight = parameter(3 * embed_dim, embed_dim) if packed else None
        self.q_proj_weight = None if packed else parameter(embed_dim, embed_dim)
        self.k_proj_weight = None if packed else parameter(embed_dim, self.kdim)
        self.v_proj_weight = None if packed else parameter(embed_dim, self.vdim)
        self.in_proj_bias = parameter(3 * embed_dim) if bias else None
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=bias, device=device, dtype=dtype)
        self.bias_k = parameter(1, 1, embed_dim) if add_bias_kv else None
        self.bias_v = parameter(1, 1, embed_dim) if add_bias_kv else None
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        """As in PyTorch."""
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                nn.init.xavier_uniform_(weight)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                nn.init.zeros_(bias)
        for token in (self.bias_k, self.bias_v):
            if token is not None:
                nn.init.xavier_normal_(token)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """query [B, N, embed_dim], key [B, M, kdim], value [B, M, vdim] -> [B, N, embed_dim] and weights or None.

        That with `batch_first`; else tokens come before the batch, and without a batch there are two dimensions.

        Args:
            key_padding_mask: [B, M] (or [M]), boolean and True where a key is padding, or float, whose exp weighs keys.
            need_weights: also return the weights [B, N, M], the heads' mean, in O(N M).
            attn_mask: [N, M], boolean and True where a query does not see a key, or float with -inf there: the causal
                mask, or one that masks nothing. Without need: `is_causal=True` says it all.
            average_attn_weights: False for the weights of each head, [B, H, N, M].
            is_causal: query n sees the keys m <= n + M - N. Under `torch.compile` `attn_mask` is then not looked at.
        """
        for name, x, width in (("query", query, self.embed_dim), ("key", key, self.kdim), ("value", value, self.vdim)):  # fmt: skip
            need_type(name, x, Tensor, "a Tensor")
            need(not x.is_nested, f"{name} not nested (padding is key_padding_mask, and torch.nn.TransformerEncoder makes none "
                 "with enable_nested_tensor=False, or once its use_nested_tensor is False)", "a nested tensor")  # fmt: skip
            need(self._takes(x), f"{name} of the module's {self.out_proj.weight.dtype}", x.dtype)
            need(x.dim() in (2, 3), f"{name} of 3 dimensions, or 2 without a batch", x.dim())
            need(x.dim() == query.dim(), f"{name} of query's {query.dim()} dimensions", x.dim())
            need(x.size(-1) == width, f"{name} of {width} channels", x.size(-1))
        flags = (("is_causal", is_causal), ("need_weights", need_weights), ("average_attn_weights", average_attn_weights))
        for name, flag in flags:
            need_type(name, flag, bool, "a bool")
        same = query is key and key is value
        batched = query.dim() == 3
        if not batched:
            query, key, value = query[None], key[None], value[None]
        elif not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        N, M = query.size(1), key.size(1)
        need(key.size(0) == query.size(0), f"key of query's batch size {query.size(0)}", key.size(0))
        need(value.shape[:2] == key.shape[:2], f"value of key's batch and tokens {[*key.shape[:2]]}", [*value.shape[:2]])  # fmt: skip
        if attn_mask is not None:
            is_causal = _is_causal_mask(attn_mask, is_causal, N, M)
        if is_causal:
            need(N <= M, "at most as many queries as keys when causal", f"{N} and {M}")
        weight = None if key_padding_mask is None else self._key_weight(key_padding_mask, key, batched)

        q, k, v = self._project(query, key, value, same)
        k, v = self._with_extra_tokens(k, v)
        options: dict[str, Any] = {
            "p": self.p,
            "scale": self.scale,
            "normalize": self.normalize,
            "is_causal": is_causal,
            "key_weight": weight,
        }
        rate = self.dropout if self.training else 0.0
        method = "composite" if weight is not None and weight.requires_grad else "auto"
        try:
            o = scaled_dot_product_attention(q, k, v, dropout_p=rate, dropout=self.dropout_mode, method=method, **options)
        except ValueError as wrong:
            raise in_callers_words(wrong, {"key_weight": "exp(key_padding_mask)"}) from None
        o = self.out_proj(o.transpose(1, 2).flatten(2))
        weights = self._weights(q, k, average_attn_weights, options) if need_weights else None
        if not batched:
            return o[0], None if weights is None else weights[0]
        return o if self.batch_first else o.transpose(0, 1), weights

    def _project(self, query: Tensor, key: Tensor, value: Tensor, same: bool) -> list[Tensor]:
        """q, k, v [B, H, N, D], which stay where the projection wrote them."""
        qkv: Sequence[Tensor]
        if same and self.in_proj_weight is not None:
            qkv = F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        else:
            own = self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
            packed = self.in_proj_weight
            weights: Sequence[Tensor] = [w for w in own if w is not None] if packed is None else packed.chunk(3)
            bias = self.in_proj_bias
            biases: Sequence[Tensor | None] = (None,) * 3 if bias is None else bias.chunk(3)
            qkv = [F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases)]
        return [x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2) for x in qkv]

    def _takes(self, x: Tensor) -> bool:
        dtype, device = self.out_proj.weight.dtype, x.device.type
        if x.dtype == dtype:
            return True
        return autocasts(device) and torch.float64 not in (x.dtype, dtype) and x.is_floating_point()

    def _key_weight(self, mask: Tensor, key: Tensor, batched: bool) -> Tensor:
        """Weights of the extra tokens, whose mask is 0, and of the M keys: [B, extra + M]."""
        need_type("key_padding_mask", mask, Tensor, "a Tensor")
        known = mask.dtype == torch.bool or mask.is_floating_point()
        need(known, "key_padding_mask boolean or float", mask.dtype)
        shape = key.shape[:2] if batched else key.shape[1:2]
        need(mask.shape == shape, f"key_padding_mask of shape {[*shape]}", [*mask.shape])
        dtype = computed_in(key.dtype)
        extra = (self.bias_k is not None) + self.add_zero_attn
        mask = mask.reshape(key.shape[:2])
        if mask.dtype == torch.bool:
            return F.pad(~mask, (extra, 0), value=True).to(dtype)
        mask = F.pad(mask.to(dtype), (extra, 0))
        if mask.size(1) == 0:
            return mask
        largest = mask.detach().amax(1, keepdim=True)  # only ratios of weights count, and with it none overflows
        mask = mask - largest.masked_fill(largest == -torch.inf, 0)
        return mask.masked_fill(mask < _LEAST, -torch.inf).exp()

    def _with_extra_tokens(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """They come first, where the causal mask hides them from nobody."""
        B, H, _, D = k.shape
        if self.bias_k is not None and self.bias_v is not None:
            bias_k, bias_v = (x.to(k.dtype).view(1, H, 1, D).expand(B, -1, -1, -1) for x in (self.bias_k, self.bias_v))
            k, v = torch.cat([bias_k, k], 2), torch.cat([bias_v, v], 2)
        if self.add_zero_attn:
            k, v = F.pad(k, (0, 0, 1, 0)), F.pad(v, (0, 0, 1, 0))
        return k, v

    def _weights(self, q: Tensor, k: Tensor, average: bool, options: dict[str, Any]) -> Tensor:
        """Extra tokens last, as in PyTorch. A mean is formed head by head, in the memory of one head's matrix."""
        if average:
            heads = range(self.num_heads)
            one = (attention_weights(q[:, h : h + 1], k[:, h : h + 1], **options)[:, 0] for h in heads)
            a = functools.reduce(torch.add, one) / self.num_heads
        else:
            a = attention_weights(q, k, **options)
        extra = [a[..., :1]] if self.add_zero_attn else []
        if self.bias_k is not None:
            extra.insert(0, a[..., len(extra) : len(extra) + 1])
        return torch.cat([a[..., len(extra) :], *extra], -1) if extra else a

    def extra_repr(self) -> str:
        scale = "" if self.scale is None else f", scale={self.scale:g}"
        return (
            f"{self.embed_dim}, {self.num_heads}, p={self.p}, normalize={self.normalize!r}{scale}, "
            f"dropout={self.dropout}, batch_first={self.batch_first}"
        )


def _is_causal_mask(mask: Tensor, is_causal: bool, N: int, M: int) -> bool:
    """Whether it is the causal mask or, False, masks nothing; anything else is an error."""
    rule = f"attn_mask the causal mask [{N}, {M}] (for padding key_padding_mask)"
    need_type("attn_mask", mask, Tensor, "a Tensor")
    need(mask.dtype == torch.bool or mask.is_floating_point(), rule, mask.dtype)
    need(mask.shape == (N, M), rule, [*mask.shape])
    if torch.compiler.is_compiling():
        need(is_causal, "is_causal=True beside attn_mask under torch.compile, which sees no values", False)
        return True
    hidden = mask if mask.dtype == torch.bool else mask == -torch.inf
    only_hides = mask.dtype == torch.bool or bool((hidden | (mask == 0)).all())
    if only_hides and not is_causal and not hidden.any():
        return False
    causal = torch.ones(N, M, dtype=torch.bool, device=mask.device).triu(1 + M - N)
    need(only_hides and torch.equal(hidden, causal), rule, "another one")
    return True
