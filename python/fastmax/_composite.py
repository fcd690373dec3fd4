"""Fastmax attention composed of torch operations: any device, any transform, as often differentiable as torch is.

The factorised form of docs/math.md (sections 3, 4, 9) in chunks of tokens: time and memory linear in their number, and
features exist one chunk at a time, in backward too. `attention` and `backward` are the operators composite_forward and
composite_backward, one call each to autograd and to the compiler, which tensors that are not on the CPU use. torch.func
transforms and forward mode see through `attention`, and autograd through it gives the operators their second gradient and
all further ones.
"""

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fastmax import _features as ft
from fastmax._errors import need, need_one_place
from fastmax._scan import Scan, chunk_tokens

_Sequence = tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]  # q, k, v, key_weight, initial_state
_Size = tuple[tuple[int, ...], torch.dtype]

_FLOOR = {torch.float32: 2.0**-20, torch.float64: 2.0**-49}  # src/denominator.h


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_weight: Tensor | None = None,
    initial_state: Tensor | None = None,
    cu_q: Tensor | None = None,
    cu_k: Tensor | None = None,
    seed: Tensor | None = None,
    *,
    return_state: bool = False,
    **options: Any,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """What torch.ops.fastmax.forward gives. Packed sequences are computed one after another."""
    with _uncast(q):
        sequences = _sequences(q, k, v, key_weight, initial_state, cu_q, cu_k, options.get("causal"))
        for sequence in sequences:
            check(*sequence, return_state=return_state, **options)
        results = [_attention(i, *x, seed, return_state=return_state, **options) for i, x in enumerate(sequences)]
    if cu_q is None:
        return results[0]
    o, g, states, smallest = zip(*results)
    return (
        torch.cat(o, 2),
        torch.cat(g, 2),
        torch.cat(states) if return_state else None,
        None if smallest[0] is None else torch.stack(smallest).amin(),
    )


def backward(
    d_o: Tensor,
    d_final_state: Tensor | None,
    o: Tensor,
    g: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_weight: Tensor | None = None,
    initial_state: Tensor | None = None,
    cu_q: Tensor | None = None,
    cu_k: Tensor | None = None,
    seed: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """What torch.ops.fastmax.backward gives."""
    with _uncast(q):
        if cu_q is None:
            return _backward(0, q, k, v, key_weight, initial_state, seed, d_o, d_final_state, o, g, **options)
        sequences = _sequences(q, k, v, key_weight, initial_state, cu_q, cu_k, options.get("causal"))
        sizes = [x[0].size(2) for x in sequences]
        rows = zip(*(x.split(sizes, 2) for x in (d_o, o, g)))
        gradients = []
        for i, (sequence, (d_o_i, o_i, g_i)) in enumerate(zip(sequences, rows)):
            d_state = None if d_final_state is None else d_final_state[i : i + 1]
            gradients.append(_backward(i, *sequence, seed, d_o_i, d_state, o_i, g_i, **options))
    dq, dk, dv, d_states = zip(*gradients)
    d_state = None if initial_state is None else torch.cat(d_states)
    return torch.cat(dq, 2), torch.cat(dk, 2), torch.cat(dv, 2), d_state


def autocasts(device: str) -> bool:
    """Whether autocast is on for a kind of device."""
    return _can_autocast(device) and torch.is_autocast_enabled(device)


def _can_autocast(device: str) -> bool:
    return torch.amp.is_autocast_available(device)


_can_autocast._dynamo_marked_constant = True  # type: ignore[attr-defined]  # torch 2.10's compiler cannot trace it


def _uncast(q: Tensor) -> contextlib.AbstractContextManager[object]:
    """Autocast would round sums to 16 bits: it is for what goes in."""
    if autocasts(q.device.type):
        return torch.autocast(q.device.type, enabled=False)
    return contextlib.nullcontext()


def _sequences(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_weight: Tensor | None,
    initial_state: Tensor | None,
    cu_q: Tensor | None,
    cu_k: Tensor | None,
    causal: bool | None,
) -> list[_Sequence]:
    """(q, k, v, key_weight, initial_state) of each packed sequence, or of all that there is."""
    if cu_q is None:
        return [(q, k, v, key_weight, initial_state)]
    queries, keys = cu_q.tolist(), (cu_q if cu_k is None else cu_k).tolist()
    need(q.size(0) == 1, "B == 1 for packed sequences", q.size(0))
    need(len(queries) == len(keys), "cu_q and cu_k of one length", f"{len(queries)} and {len(keys)}")
    for name, cu, end in (("cu_q", queries, q.size(2)), ("cu_k", keys, k.size(2))):
        need(len(cu) >= 2, f"{name} of at least 2 entries", len(cu))
        need(cu[0] == 0, f"{name} to begin with 0", cu[0])
        need(cu == sorted(cu), f"{name} not to decrease", cu)
        need(cu[-1] == end, f"{name} to end at {end}", cu[-1])
    for i, (n, n_end, m, m_end) in enumerate(zip(queries, queries[1:], keys, keys[1:])):
        rule = "no more queries than keys in a sequence when causal"
        need(not causal or n_end - n <= m_end - m, rule, f"{n_end - n} and {m_end - m} in sequence {i}")
    if initial_state is not None:
        S, given = len(queries) - 1, initial_state.size(0)
        need(given == S, "initial_state.B == k.B (packed: the number of sequences)", f"{given} and {S}")
    return [
        (
            q[:, :, n:n_end],
            k[:, :, m:m_end],
            v[:, :, m:m_end],
            None if key_weight is None else key_weight[:, m:m_end],
            None if initial_state is None else initial_state[i : i + 1],
        )
        for i, (n, n_end, m, m_end) in enumerate(zip(queries, queries[1:], keys, keys[1:]))
    ]


def computed_in(dtype: torch.dtype) -> torch.dtype:
    """What sums, states and weights are made of."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _attention(first, q, k, v, key_weight, initial_state, seed, *, return_state, floor="auto", **options):
    """One sequence, the one numbered `first`, or a batch of them."""
    scan, unit, inputs = _prepared(first, q, k, v, key_weight, initial_state, seed, **options)
    sums, state = scan(*inputs)
    unit_q = unit.repeat_interleave(scan.group, 1)
    numerator, g = sums[..., :-1], sums[..., -1] / unit_q
    smallest = None
    if is_judged(**options):
        total = _visible_weight(q, k, key_weight, initial_state, options)
        g, smallest = _floored(g, total, floor_is_error(floor, q.size(3), **options))
    rows = g != 0
    o = torch.where(rows[..., None], numerator / torch.where(rows, g * unit_q, 1)[..., None], 0)
    if return_state:
        state = state / unit[..., None]
        unused = math.comb(q.size(3) + scan.p, scan.p) - state.size(2)  # rows of zeros under standardize
        state = torch.nn.functional.pad(state, (0, 0, 0, unused))
    return o.to(q.dtype), g, state if return_state else None, smallest


def _backward(first, q, k, v, key_weight, initial_state, seed, d_o, d_final_state, o, g, **options):
    """For o = a / g of the sums (a, g): da = d_o / g, dg = -d_o . o / g, and none where g stands at its floor.

    Then the scan from the end, and autograd through what turns tokens into its inputs.
    """
    inputs = [None if x is None else x.detach().requires_grad_() for x in (q, k, v, initial_state)]
    q_leaf, k_leaf, v_leaf, state_leaf = inputs
    with torch.enable_grad():
        scan, unit, prepared = _prepared(first, q_leaf, k_leaf, v_leaf, key_weight, state_leaf, seed, **options)
    kappa_q, kappa_k, values, W, past = prepared
    d_o, o = d_o.to(g.dtype), o.to(g.dtype)
    rows = g != 0
    g_sums = g * unit.repeat_interleave(scan.group, 1)
    d_sums = torch.where(rows, 1 / torch.where(rows, g_sums, 1), 0)[..., None] * torch.cat(
        [d_o, -(d_o * o).sum(-1, keepdim=True)], -1
    )
    if is_judged(**options):
        floored = g <= _FLOOR[g.dtype] * _visible_weight(q, k, key_weight, initial_state, options)
        d_sums[..., -1].masked_fill_(floored, 0)
    R = torch.zeros_like(past) if d_final_state is None else d_final_state[:, :, : past.size(2)] / unit[..., None]
    d_prepared = scan.vjp([x.detach() for x in prepared], d_sums, R)
    through = [(x, d) for x, d in zip((kappa_q, kappa_k, values, past), d_prepared) if x.requires_grad]
    results, d_results = zip(*through)
    leaves = [x for x in inputs if x is not None]
    found = iter(torch.autograd.grad(results, leaves, d_results, allow_unused=True, materialize_grads=True))
    dq, dk, dv, d_state = (None if x is None else next(found) for x in inputs)
    return dq, dk, dv, d_state


def is_judged(p: int = 2, coefficients: Sequence[float] | None = None, **_: Any) -> bool:
    """Whether a denominator can come near zero."""
    return p % 2 == 1 or coefficients is not None


def _prepared(first, q, k, v, key_weight, initial_state, seed, *, p=2, scale=None, normalize="standardize", coefficients=None,
              causal=False, dropout_p=0.0, dropout="quadratic", chunk=0, **_):  # fmt: skip
    """The scan, the unit of its sums [B, Hkv, 1], and what it is of: kappa_q, kappa_k, values [v, 1], features' weights W and
    the past."""
    computed = computed_in(q.dtype)
    q, k, v = q.to(computed), k.to(computed), v.to(computed)
    (B, H, N, D), (_, Hkv, M, _), E = q.shape, k.shape, v.size(3)
    c = ft.coefficients_of(p, coefficients)
    q_scale = ft.default_scale(p, D, normalize) if scale is None else scale

    q, k = ft.normalized(q, normalize), ft.normalized(k, normalize, key_weight)
    if dropout_p > 0 and dropout == "token":
        q = q * ft.keep(dropout_p, seed, ft.QUERIES, B, H, N, first, q)[..., None]
        k = k * ft.keep(dropout_p, seed, ft.KEYS, B, Hkv, M, first, k)[..., None]
    kappa_q, kappa_k = ft.kappa(q, normalize), ft.kappa(k, normalize)
    kappa_q = torch.cat([kappa_q[..., :1], q_scale * kappa_q[..., 1:]], -1)
    values = torch.cat([v, torch.ones_like(v[..., :1])], -1)
    weight = values.new_ones(B, M) if key_weight is None else key_weight

    # Features' weights: in the numerator's E columns perhaps masked, in the denominator's, the last, never.
    K = kappa_k.size(-1)
    W = ft.feature_weights(p, K, c, q)[:, None]
    past = k.new_zeros(B, Hkv, len(W), E + 1)
    if initial_state is not None:
        past = past + initial_state[:, :, : len(W)]
    unit = _unit(weight.sum(1)[:, None] + past[:, :, 0, -1], D, p, q_scale, normalize, c)[..., None]
    values, past = values * (weight[:, None] * unit)[..., None], past * unit[..., None]
    masked = dropout_p > 0 and dropout != "token"
    if masked:
        mask = ft.feature_mask(p, K, dropout_p, dropout, seed, B, Hkv, first, q)
        W = torch.cat([(W * mask[..., None]).expand(-1, -1, -1, E), W.expand(B, Hkv, -1, 1)], -1)
    scan = Scan(p, c, H // max(Hkv, 1), masked, chunk or chunk_tokens(past.size(2)), causal)
    return scan, unit, (kappa_q, kappa_k, values, W, past)


@torch.no_grad()
def _unit(total: Tensor, D: int, p: int, q_scale: float, normalize: str, c: list[float]) -> Tensor:
    """A power of two by which no sum over values is above the largest of them: docs/math.md, section 11. `total` is the sum of
    all weights. It is a factor of values here, so it bounds also what queries do not read at once: states and W S."""
    if normalize == "none":
        return torch.ones_like(total)
    norm = D**0.5 if normalize == "standardize" else 1.0  # of x^, at most
    f = math.factorial(p) * sum(abs(c_l) * (max(q_scale, 1) * norm**2) ** l for l, c_l in enumerate(c))
    return torch.exp2(-torch.log2(2 * max(f, norm**p) * total.clamp(min=1)).ceil())


def attention_weights(q, k, key_weight=None, rows=None, seed=None, *, p=2, scale=None, normalize="standardize",
                      coefficients=None, causal=False, floor="auto", **_):  # fmt: skip
    """What torch.ops.fastmax.attention_weights gives without dropout: a_nm = w_m f(s_nm) / g_n."""
    check(q, k, k, key_weight, p=p, scale=scale, normalize=normalize, coefficients=coefficients, causal=causal, floor=floor)
    dtype = q.dtype
    computed = computed_in(dtype)
    (_, H, N, D), (B, Hkv, M, _) = q.shape, k.shape
    if rows is None:
        rows = torch.arange(N, device=q.device)
    else:
        _check_rows(rows, N)
    q_hat = ft.normalized(q.to(computed), normalize)[:, :, rows]
    k_hat = ft.normalized(k.to(computed), normalize, key_weight).repeat_interleave(H // max(Hkv, 1), 1)
    weight = q_hat.new_ones(B, M) if key_weight is None else key_weight
    weight = weight[:, None, None, :].expand(B, H, len(rows), M)
    if causal:
        weight = weight * (torch.arange(M, device=q.device) <= rows[:, None] + (M - N))
    q_scale = ft.default_scale(p, D, normalize) if scale is None else scale
    f = weight * ft.polynomial(q_scale * q_hat @ k_hat.mT, ft.coefficients_of(p, coefficients))
    g = f.sum(-1)
    if is_judged(p, coefficients):
        g = _floored(g, weight.sum(-1), floor_is_error(floor, D, p, scale, normalize, coefficients))[0]
    g = g[..., None]
    return torch.where(g != 0, f / torch.where(g != 0, g, 1), 0).to(dtype)


def check(
    q: Tensor, k: Tensor, v: Tensor, key_weight: Tensor | None = None, initial_state: Tensor | None = None, **options: Any
) -> None:
    """The kernels' own checks, before anything is computed."""
    tokens = tuple(_size(x) for x in (q, k, v))
    weight, state = (None if x is None else _size(x) for x in (key_weight, initial_state))
    if torch.compiler.is_compiling():  # a transform, of sizes that are known
        fault = _fault(tokens, weight, state, tuple(options.items()))
        if fault is not None:
            raise ValueError(fault)
        return
    need_one_place(q, k=k, v=v, key_weight=key_weight, initial_state=initial_state)
    # Weights and states are judged by their values, which may be elsewhere, or of a transform.
    seen = k.is_cpu and not torch._C._are_functorch_transforms_active()
    _plan(tokens, weight, state, options, *((key_weight, initial_state) if seen else (None, None)))


def _check_rows(rows: Tensor, N: int) -> None:
    """Where their values are seen: indexing would take -1 for the last."""
    if torch.compiler.is_compiling():
        return
    while torch._C._functorch.is_gradtrackingtensor(rows):
        rows = torch._C._functorch.get_unwrapped(rows)
    if rows.is_meta or torch._C._functorch.is_batchedtensor(rows):
        return
    for n in rows.tolist():
        need(0 <= n < N, "rows in 0 .. q.N - 1", f"{n} of {N}")


def _size(x: Tensor) -> _Size:
    return tuple(x.shape), x.dtype


def _plan(
    tokens: tuple[_Size, ...],
    weight: _Size | None,
    state: _Size | None,
    options: dict[str, Any],
    key_weight: Tensor | None = None,
    initial_state: Tensor | None = None,
) -> None:
    """Asks for a plan of tokens of these sizes, whose values it does not read: they have next to no memory."""
    qkv = [
        torch.empty_strided(shape, (0,) * (len(shape) - 1) + (1,), dtype=dtype, device="cpu") for shape, dtype in tokens
    ]
    if weight is not None and key_weight is None:
        key_weight = torch.ones(weight[0], dtype=weight[1], device="cpu")
    if state is not None and initial_state is None:
        initial_state = torch.zeros(state[0], dtype=state[1], device="cpu")
    torch.ops.fastmax.plan(*qkv, key_weight, initial_state, **options)


def _fault(
    tokens: tuple[_Size, ...], weight: _Size | None, state: _Size | None, options: tuple[tuple[str, Any], ...]
) -> str | None:
    """The error's text; the compiler calls this as it traces."""
    try:
        _plan(tokens, weight, state, dict(options))
    except ValueError as wrong:
        return str(wrong)
    return None


_fault._dynamo_marked_constant = True  # type: ignore[attr-defined]  # see _features.py


@torch.no_grad()
def _visible_weight(
    q: Tensor, k: Tensor, key_weight: Tensor | None, initial_state: Tensor | None, options: Mapping[str, Any]
) -> Tensor:
    """[B, H, N]: the sum of the weights that a row sees, its past's included."""
    (B, H, N, _), (_, Hkv, M, _) = q.shape, k.shape
    weight = q.new_ones(B, M, dtype=computed_in(q.dtype)) if key_weight is None else key_weight
    up_to = torch.nn.functional.pad(weight.cumsum(1), (1, 0))  # [B, M + 1]
    seen = up_to[:, M - N + 1 :] if options.get("causal") else up_to[:, -1:].expand(B, N)
    total = seen[:, None].expand(B, H, N)
    if initial_state is None:
        return total
    return total + initial_state[:, :, 0, -1].repeat_interleave(H // max(Hkv, 1), 1)[..., None]


def _floored(g: Tensor, total: Tensor, is_error: bool) -> tuple[Tensor, Tensor]:
    """g at its floor at least, where it is a constant; and the smallest of them over their weights before that."""
    tau = _FLOOR[g.dtype]
    ratios = torch.where(total > 0, g.detach() / torch.where(total > 0, total, 1), torch.inf)
    smallest = ratios.amin() if ratios.numel() else g.new_full((), torch.inf)
    smallest = smallest if g.device.type == "mps" else smallest.double()  # where there is no float64
    g = torch.where(g < tau * total, tau * total, g)
    has_value = not (
        g.is_meta or torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    )
    if has_value and is_error:
        need_denominators(smallest.item(), g.dtype)
    return g, smallest


def floor_is_error(
    floor: str,
    D: int,
    p: int = 2,
    scale: float | None = None,
    normalize: str = "standardize",
    coefficients: Sequence[float] | None = None,
    **_: Any,
) -> bool:
    """Whether a denominator at its floor is an error: src/denominator.cc."""
    if floor != "auto" or coefficients is not None:
        return floor != "clamp"
    if scale is None or p % 2 == 0:
        return False
    return normalize == "none" or scale > ft.default_scale(p, D, normalize)


def need_denominators(smallest: float, computed: torch.dtype, where: str = "") -> None:
    """`smallest` is the smallest denominator over the sum of its row's weights."""
    tau = _FLOOR[computed]
    rule = f"denominators above {tau:g} of their weights{where} (a smaller scale keeps f > 0, floor='clamp' clamps)"
    need(not smallest <= tau, rule, smallest)
