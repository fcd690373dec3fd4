"""Attention where each rank holds a shard of the tokens."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fastmax import _features as ft
from fastmax._attention import _check_call, _tensors
from fastmax._call import attend, function_options
from fastmax._composite import floor_is_error, is_judged, need_denominators
from fastmax._errors import need, need_type
from fastmax.distributed._exchange import Sum, SumOfOthers, agree

_NORMALIZE = ("standardize", "l2", "none")
_METHODS = ("auto", "composite")
_FLOORS = ("auto", "clamp", "error")
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_NAMES = ("is_causal", "p", "normalize", "floor", "batch size", "number of key heads", "D", "E", "dtype of states",
          "presence of gradients", "number of coefficients", "scale", "c_0", "c_1", "c_2", "c_3", "c_4")  # fmt: skip


def sequence_parallel_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    group: dist.ProcessGroup | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    p: int = 2,
    normalize: str = "standardize",
    key_weight: Tensor | None = None,
    method: str = "auto",
    coefficients: Sequence[float] | None = None,
    floor: str = "auto",
) -> Tensor:
    """`fastmax.scaled_dot_product_attention` of one long sequence, of which each rank of `group` holds some tokens.

    The shards follow one another in the order of ranks, and may be of any sizes, none included. Shapes are those of the shard:
    q [..., H, N, D], k [..., Hkv, M, D], v [..., Hkv, M, E], key_weight [B, M] (0 for padding) -> [..., H, N, E].

    Ranks exchange states, S_r = sum_m w_m phi(k^_m) [v_m, 1] over their own keys, of s = 4 B Hkv F (E + 1) bytes with
    F = C(D + p, p) (8 for 4 in float64), however many tokens there are:

    - unmasked, one all-reduce of S_r: about 2 s (P - 1) / P bytes sent by each of P ranks. Backward, another one of dS.
    - causal, an exclusive scan, S = sum of S_r over earlier ranks: ceil(log2 P) rounds, in each of which a rank sends at most s.
      Backward, the same scan from the other end. (To gather all states would take every rank (P - 1) s bytes and as
      much memory: 33 times as many for 256 ranks. A ring would take P - 1 rounds, one after another.)

    Beside it a few integers are gathered, by which all ranks see when one is called with other arguments: every rank
    then raises instead of waiting. The gradient is exact, and so is its gradient. As with every collective, each rank
    must call this function and run backward through its result, in the same order, an empty one included. The
    causal form reads its keys twice, once for S_r. It pays where the tokens of all ranks are
    many more than F; below, gathering k and v would send less.

    Args:
        group: the ranks that hold the sequence; None is the default group.
        is_causal: needs N = M on every rank.
        normalize: "standardize", "l2" or "none"; "max_norm" looks at all tokens at once and is refused.
        method: "auto", or "composite" for torch operations only.
        floor: as in the function above; the smallest denominator of all ranks counts.

    There is no dropout, and there are no states in or out. The other arguments are those of the function above.

    Raises:
        ValueError, TypeError: on every rank, if the arguments of one are wrong or the ranks' do not fit together.
    """
    need(dist.is_available() and dist.is_initialized(), "an initialised process group (torch.distributed.init_process_group)",
         "none")  # fmt: skip
    group = dist.group.WORLD if group is None else group
    need_type("group", group, dist.ProcessGroup, "a ProcessGroup this rank belongs to, or None")
    assert group is not None

    error, own, values, device = None, None, [0] * len(_NAMES), _device(q, group)
    try:
        shape, q, k, v, options = _arguments(
            q, k, v, is_causal, scale, enable_gqa, p, normalize, key_weight, method, coefficients, floor
        )
        # The kernels' own checks, too, come before any exchange: they see all but the queries' number.
        _, _, own, _ = attend(q[:, :, :0], k, v, key_weight, None, None, None, method, 0.0, {**options, "return_state": True}, {})
        assert own is not None
        values = _description(q, k, v, own, is_causal, scale, p, normalize, coefficients, floor)
    except Exception as wrong:
        error = wrong
    agree(group, _NAMES, values, error, device)
    assert own is not None

    past = SumOfOthers.apply(group, own, False) if is_causal else Sum.apply(group, own)
    if is_causal:
        options["causal"] = True
    else:
        k, v, key_weight = k[:, :, :0], v[:, :, :0], None
    if is_judged(p, coefficients):
        options["floor"] = "clamp"
    o, _, _, smallest = attend(q, k, v, key_weight, past, None, None, method, 0.0, options, {})
    if smallest is not None and floor_is_error(floor, q.size(3), p, scale, normalize, coefficients):
        smallest = smallest.detach().to(torch.float64, copy=True)
        dist.all_reduce(smallest, dist.ReduceOp.MIN, group=group)
        need_denominators(smallest.item(), own.dtype, " on every rank")
    return o if len(shape) == 4 else o.reshape(*shape[:-1], o.size(-1))


def _device(q: Any, group: dist.ProcessGroup) -> torch.device:
    """Where this rank's part of the exchange lies, even if its arguments are wrong."""
    if isinstance(q, Tensor):
        return q.device
    return torch.device("cuda" if dist.get_backend(group) == "nccl" else "cpu")


def _arguments(q, k, v, is_causal, scale, enable_gqa, p, normalize, key_weight, method, coefficients, floor):
    q, k, v, shape = _tensors(q, k, v, ("q", "k", "v"))
    options = function_options(p, scale, normalize, coefficients)
    _check_call(0.0, is_causal, enable_gqa, q, k)
    for name, value, allowed in (("normalize", normalize, _NORMALIZE), ("method", method, _METHODS), ("floor", floor, _FLOORS)):
        need_type(name, value, str, "a str")
        need(value in allowed, f"{name} one of {allowed} when tokens are spread over ranks", repr(value))
    if key_weight is not None:
        need_type("key_weight", key_weight, Tensor, "a Tensor")
    need(not is_causal or q.size(2) == k.size(2), "as many queries as keys on each rank when causal",
         f"{q.size(2)} and {k.size(2)}")  # fmt: skip
    return shape, q, k, v, options


def _description(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    own: Tensor,
    is_causal: bool,
    scale: float | None,
    p: int,
    normalize: str,
    coefficients: Sequence[float] | None,
    floor: str,
) -> list[int]:
    """What must be the same on all ranks, in the order of _NAMES."""
    scale = ft.default_scale(p, q.size(3), normalize) if scale is None else float(scale)
    c = [*ft.coefficients_of(p, coefficients)] + [0.0] * (4 - p)
    exact = torch.tensor([scale, *c], dtype=torch.float64, device="cpu").view(torch.int64).tolist()
    return [
        int(is_causal),
        p,
        _NORMALIZE.index(normalize),
        _FLOORS.index(floor),
        own.size(0),
        own.size(1),
        q.size(3),
        v.size(3),
        _DTYPES.index(own.dtype),
        # Backward exchanges gradients of states where one of these is there.
        2 * int(own.requires_grad) + int(torch.is_grad_enabled() and q.requires_grad),
        -1 if coefficients is None else len(coefficients),
        *exact,
    ]
