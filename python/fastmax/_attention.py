"""The functions that users call: arguments in PyTorch's words are checked and put in the operators'."""

from collections.abc import Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor

from fastmax._call import attend, function_options, step_in_place, weights
from fastmax._composite import computed_in
from fastmax._errors import in_callers_words, need, need_tensor, need_type
from fastmax._state import FastmaxState

_METHODS = ("auto", "direct", "factorised", "composite")
_NAMES = {"q": "query", "k": "key", "v": "value"}  # the operators' and ours


@overload
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = ...,
    dropout_p: float = ...,
    is_causal: bool = ...,
    scale: float | None = ...,
    enable_gqa: bool = ...,
    *,
    p: int = ...,
    normalize: str = ...,
    key_weight: Tensor | None = ...,
    cu_seqlens: Tensor | tuple[Tensor, Tensor] | None = ...,
    dropout: str = ...,
    initial_state: FastmaxState | None = ...,
    return_state: Literal[False] = ...,
    method: str = ...,
    coefficients: Sequence[float] | None = ...,
    floor: str = ...,
) -> Tensor: ...


@overload
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = ...,
    dropout_p: float = ...,
    is_causal: bool = ...,
    scale: float | None = ...,
    enable_gqa: bool = ...,
    *,
    p: int = ...,
    normalize: str = ...,
    key_weight: Tensor | None = ...,
    cu_seqlens: Tensor | tuple[Tensor, Tensor] | None = ...,
    dropout: str = ...,
    initial_state: FastmaxState | None = ...,
    return_state: Literal[True],
    method: str = ...,
    coefficients: Sequence[float] | None = ...,
    floor: str = ...,
) -> tuple[Tensor, FastmaxState]: ...


@overload
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = ...,
    dropout_p: float = ...,
    is_causal: bool = ...,
    scale: float | None = ...,
    enable_gqa: bool = ...,
    *,
    p: int = ...,
    normalize: str = ...,
    key_weight: Tensor | None = ...,
    cu_seqlens: Tensor | tuple[Tensor, Tensor] | None = ...,
    dropout: str = ...,
    initial_state: FastmaxState | None = ...,
    return_state: bool,
    method: str = ...,
    coefficients: Sequence[float] | None = ...,
    floor: str = ...,
) -> Tensor | tuple[Tensor, FastmaxState]: ...


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    p: int = 2,
    normalize: str = "standardize",
    key_weight: Tensor | None = None,
    cu_seqlens: Tensor | tuple[Tensor, Tensor] | None = None,
    dropout: str = "quadratic",
    initial_state: FastmaxState | None = None,
    return_state: bool = False,
    method: str = "auto",
    coefficients: Sequence[float] | None = None,
    floor: str = "auto",
) -> Tensor | tuple[Tensor, FastmaxState]:
    """Fastmax attention, in the place of `torch.nn.functional.scaled_dot_product_attention`.

    ```text
    o_n = sum_m w_m f(s_nm) v_m / sum_m w_m f(s_nm)
    s_nm = scale * q^_n . k^_m,   f(s) = 1 + s + ... + s^p / p!,   q^ = (q - mean q) / sqrt(var q + 1e-6)
    ```

    over all keys, or over m <= n + M - N when causal. The cost grows linearly with the number of tokens.

    Shapes, with any leading dimensions `...` or none:
        query [..., H, N, D], key [..., Hkv, M, D], value [..., Hkv, M, E] -> [..., H, N, E].
    Of three dimensions the first is heads (PyTorch's function does not say): keys have weights [1, M] then, the same for all. Leading
    dimensions are the same in all three and do not broadcast.

    float32, float64, bfloat16 and float16; 16-bit inputs are computed in float32 and rounded once, but that CPUs with AMX
    multiply bfloat16 factors in the linear form. The result lies in memory as `query` does.

    Args:
        attn_mask: only a boolean key padding mask, True where a key counts, broadcastable to [..., 1, 1, M]; one that was
            expanded over queries or heads, too, or (but where no values are seen, as under torch.compile) that says the same to all.
        dropout_p: probability of dropout; its seed is drawn from torch's default generator. As in PyTorch's function it
            is on unless it is 0: pass 0 in evaluation.
        is_causal: query n sees the keys m <= n + M - N, so that the last query sees every key, as in a continued sequence.
            (PyTorch's function aligns the first instead. For N = M they are the same.) Needs N <= M.
        scale: factor of the scores. None is 1 for even p, and for odd p the largest for which no weight can be negative:
            not PyTorch's 1 / sqrt(D), which is worth a try.
        enable_gqa: let H be a multiple of Hkv; query head h reads key head h // (H // Hkv).
        p: order of f, 1 to 4. The linear form costs N D^p E / p! operations a head.
        normalize: x^ = "standardize", as above (the paper's); "l2", x / ||x||; "none", x; or "max_norm", x / max_n ||x_n||
            over the tokens of a head, or of a packed sequence's head (not causal, no state).
        key_weight: [B, M], B the product of the leading dimensions: weights w_m of the keys, 0 or in 2^-60 .. 2^40,
            float64 for float64, else float32. Has no gradient unless `method="composite"`. Without a causal mask keys of
            weight 0 take no time where they are many.
        cu_seqlens: int32 [S + 1] offsets of S sequences packed along N and M (B = 1), or a pair of them, for queries and
            for keys. Tensors that are not on the CPU are computed one sequence after another, and the offsets are
            brought to the CPU: many short sequences are better padded there.
        dropout: what is dropped: "quadratic" and "standard" drop features, "token" whole tokens.
        initial_state: the past, as an earlier call with `return_state=True` gave it, or `FastmaxState.zeros`.
        return_state: also return the state of the past and all keys of this call. Its gradient flows, as that of
            `initial_state` does.
        method: "direct" or "factorised" (the same numbers, quadratic and linear), "auto" for whichever is faster, or
            "composite" for torch operations only, which tensors that are not on the CPU always use.
        coefficients: c_0 .. c_p of f in the place of 1 / l!.
        floor: what a denominator near zero does (odd p, own coefficients): "clamp" keeps it at a floor, "error" raises
            ValueError, "auto" raises where coefficients are the caller's or the scale is above the safe default. The smallest
            one met is the fourth result of `torch.ops.fastmax.forward`. Under a transform of torch.func and in forward mode,
            which hide values, it is always clamped.

    Raises:
        ValueError, TypeError: one line that names the argument, the rule and the value. Nothing has been computed then,
            but for `floor`.
    """
    query, key, value, shape = _tensors(query, key, value)
    options = function_options(p, scale, normalize, coefficients)
    _check_call(dropout_p, is_causal, enable_gqa, query, key)
    if attn_mask is not None or key_weight is not None:
        key_weight = _weight_of(attn_mask, key_weight, query, key, shape)
    cu_q, cu_k = (None, None) if cu_seqlens is None else _offsets(cu_seqlens)
    past = None
    if initial_state is not None:
        need_type("initial_state", initial_state, FastmaxState, "a FastmaxState")
        initial_state.check_function(p, scale, normalize, coefficients)
        past = initial_state.tensor

    if is_causal:
        options["causal"] = True
    if dropout != "quadratic":
        need_type("dropout", dropout, str, "a str")
        options["dropout"] = dropout
    if floor != "auto":
        need_type("floor", floor, str, "a str")
        options["floor"] = floor
    if return_state:
        need_type("return_state", return_state, bool, "a bool")
        options["return_state"] = True
    if method != "auto":
        need_type("method", method, str, "a str")
        need(method in _METHODS, "method 'auto', 'direct', 'factorised' or 'composite'", repr(method))
    o, _, state, _ = attend(query, key, value, key_weight, past, cu_q, cu_k, method, dropout_p, options, _NAMES)
    if len(shape) != 4:
        o = o.reshape(*shape[:-1], o.size(-1))
    if state is None:
        return o
    count = key.size(2) + (0 if initial_state is None else initial_state.count)
    return o, FastmaxState(state, D=query.size(3), p=p, scale=scale, normalize=normalize,
                           coefficients=coefficients, count=count)  # fmt: skip


def step(
    q: Tensor, k: Tensor, v: Tensor, state: FastmaxState, key_weight: Tensor | None = None, *, floor: str = "auto"
) -> Tensor:
    """One token a sequence: it joins `state`, in place, and its query reads it.

    q [B, H, D], k [B, Hkv, D], v [B, Hkv, E], key_weight [B] -> [B, H, E], in time and memory that do not depend on how
    many tokens came before. The same numbers as the causal pass over all of them. Has no gradient:
    `scaled_dot_product_attention(..., initial_state=, return_state=True)` has. `floor` is as there; what raises leaves the
    state as it was.

    Raises:
        ValueError, TypeError: for tensors of other shapes, types or devices, key weights other than 0 and
            2^-60 .. 2^40, and a state that requires a gradient.
    """
    need_type("state", state, FastmaxState, "a FastmaxState")
    for name, x in (("q", q), ("k", k), ("v", v)):
        need_tensor(name, x)
        need(x.dim() == 3, f"{name} of 3 dimensions [B, heads, channels]", x.dim())
    need(
        not state.tensor.requires_grad,
        "a state without gradient in step (state.detach())",
        "one that requires it",
    )
    if key_weight is not None:
        need_type("key_weight", key_weight, Tensor, "a Tensor")
        need(key_weight.dim() == 1, "key_weight of 1 dimension [B]", key_weight.dim())
    options = state.options()
    if floor != "auto":
        need_type("floor", floor, str, "a str")
        options["floor"] = floor
    o = step_in_place(q, k, v, state.tensor, key_weight, options)
    state.count += 1
    return o


@torch.no_grad()
def attention_weights(
    query: Tensor,
    key: Tensor,
    *,
    rows: Sequence[int] | Tensor | None = None,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    p: int = 2,
    normalize: str = "standardize",
    key_weight: Tensor | None = None,
    coefficients: Sequence[float] | None = None,
    floor: str = "auto",
) -> Tensor:
    """Rows of the attention matrix, exactly what the operator applies to the values: a_nm = w_m f(s_nm) / g_n.

    query [..., H, N, D], key [..., Hkv, M, D] -> [..., H, R, M] for R `rows`, indices of queries from 0 in any order;
    None is all of them. Time O(M D) a row. The other arguments are those of `scaled_dot_product_attention`, of which it has
    neither dropout, cu_seqlens, states nor method. Every row sums to one, or to zero
    where no key has weight. Under autocast query and key are rounded as there, the weights are not. Has no gradient
    (`fastmax.reference` has).

    Raises:
        ValueError, TypeError: as `scaled_dot_product_attention`, and for rows outside of 0 .. N - 1.
    """
    query, key, _, shape = _tensors(query, key, key)
    _check_call(0.0, is_causal, enable_gqa, query, key)
    if attn_mask is not None or key_weight is not None:
        key_weight = _weight_of(attn_mask, key_weight, query, key, shape)
    if rows is not None:
        rows = _row_indices(rows, query.size(2)).to(query.device)
    need_type("floor", floor, str, "a str")
    options = {**function_options(p, scale, normalize, coefficients), "causal": is_causal, "floor": floor}
    try:
        a = weights(query, key, key_weight, rows, options)
    except ValueError as wrong:
        raise in_callers_words(wrong, _NAMES) from None
    return a if len(shape) == 4 else a.reshape(*shape[:-2], *a.shape[-2:])


def _tensors(
    query: Any, key: Any, value: Any, names: tuple[str, str, str] = ("query", "key", "value")
) -> tuple[Tensor, Tensor, Tensor, torch.Size]:
    """[..., H, N, D] as [B, H, N, D], and the shape that query had. `names`: the caller's, for errors."""
    tensors = isinstance(query, Tensor) and isinstance(key, Tensor) and isinstance(value, Tensor)
    if not tensors or query.is_nested or key.is_nested or value.is_nested:
        for name, x in zip(names, (query, key, value)):
            need_tensor(name, x)
    shape = query.shape
    if len(shape) == key.dim() == value.dim() == 4:
        return query, key, value, shape
    for name, x in zip(names, (query, key, value)):
        need(x.dim() >= 3, f"{name} of 3 dimensions or more [..., heads, tokens, channels]", x.dim())
        need(
            x.shape[:-3] == shape[:-3],
            f"{name} of {names[0]}'s leading dimensions {[*shape[:-3]]}",
            [*x.shape[:-3]],
        )
    query, key, value = (x[None] if x.dim() == 3 else x.flatten(0, -4) for x in (query, key, value))
    return query, key, value, shape


def _row_indices(rows: Any, N: int) -> Tensor:
    if isinstance(rows, Tensor):
        whole = rows.dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
        need(whole and rows.dim() == 1, "rows of ints, of 1 dimension", f"{rows.dtype} of {rows.dim()}")
        return rows.to(torch.int64)
    need_type("rows", rows, Sequence, "a sequence of ints or None")
    for n in rows:
        need_type("rows", n, int, "a sequence of ints or None")
        need(0 <= n < N, "rows in 0 .. query.N - 1", f"{n} of {N}")
    return torch.tensor([*rows], dtype=torch.int64, device="cpu")


def _check_call(dropout_p: float, is_causal: bool, enable_gqa: bool, query: Tensor, key: Tensor) -> None:
    if type(dropout_p) is not float:
        need_type("dropout_p", dropout_p, (float, int), "a number")
    if type(is_causal) is not bool:
        need_type("is_causal", is_causal, bool, "a bool")
    if type(enable_gqa) is not bool:
        need_type("enable_gqa", enable_gqa, bool, "a bool")
    if not enable_gqa and query.shape[1] != key.shape[1]:
        need(
            False,
            "as many key heads as query heads, or enable_gqa=True",
            f"{key.shape[1]} and {query.shape[1]}",
        )


def _weight_of(mask: Any, key_weight: Any, query: Tensor, key: Tensor, shape: torch.Size) -> Tensor:
    if mask is None:
        need_type("key_weight", key_weight, Tensor, "a Tensor")
        return key_weight
    need(key_weight is None, "attn_mask or key_weight", "both")
    return _weight_of_mask(mask, query, key, shape)


def _weight_of_mask(mask: Tensor, query: Tensor, key: Tensor, shape: torch.Size) -> Tensor:
    """[B, M] key weights of a boolean mask [..., 1, 1, M]; rows and heads that are all the same count as one."""
    rule = (
        f"attn_mask a boolean key padding mask, broadcastable to {[*shape[:-3], 1, 1, key.size(2)]} (for the causal mask "
        "is_causal=True, for blocks of a sequence cu_seqlens, for weights key_weight, for an additive mask of 0 and -inf mask == 0"
    )
    rule += "; a batch without heads is query.unsqueeze(1))" if len(shape) == 3 else ")"
    need_type("attn_mask", mask, Tensor, "a Tensor")
    need(mask.dtype == torch.bool, rule, mask.dtype)
    need(mask.dim() >= 1, rule, "one of 0 dimensions")
    narrow = mask
    hidden = mask.is_meta or torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    for axis in (-2, -3):
        if narrow.dim() >= -axis and narrow.size(axis) == query.size(axis) == 0:
            narrow = narrow.all(axis, keepdim=True)  # of nothing: True
        if narrow.dim() >= -axis and narrow.size(axis) > 1:
            first = narrow.narrow(axis, 0, 1)
            if narrow.stride(axis) == 0 or not (hidden or (narrow != first).any()):
                narrow = first
    wanted = (*shape[:-3], 1, 1, key.size(2))
    fits = narrow.dim() <= len(wanted) and all(
        size in (1, want) for size, want in zip(reversed(narrow.shape), reversed(wanted))
    )
    need(fits, rule, [*mask.shape])
    weight = narrow.expand(wanted).reshape(query.size(0), key.size(2))
    return weight.to(computed_in(query.dtype))


def _offsets(cu_seqlens: Any) -> tuple[Tensor, Tensor | None]:
    pair = cu_seqlens if isinstance(cu_seqlens, tuple) else (cu_seqlens, None)
    need(
        len(pair) == 2,
        "cu_seqlens a Tensor or a pair of them, for queries and for keys",
        f"{len(pair)} of them",
    )
    need_type("cu_seqlens", pair[0], Tensor, "a Tensor or a pair of them")
    for cu in pair:
        if cu is not None:
            need_type("cu_seqlens", cu, Tensor, "a Tensor or a pair of them")
            need(
                cu.dtype == torch.int32 and cu.dim() == 1,
                "cu_seqlens int32 [S + 1]",
                f"{cu.dtype} {[*cu.shape]}",
            )
    return pair
