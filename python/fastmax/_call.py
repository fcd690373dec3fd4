"""One call of attention on tensors [B, H, N, D]: by the kernels, or composed of torch operations."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fastmax import _composite
from fastmax._derivatives import is_transformed
from fastmax._errors import in_callers_words, need, need_one_place, need_type
from fastmax._operators import autocast, operators

# Where nothing is recorded, the Python code that would record it need not be asked; nor the layers of torch.ops.
_below_autograd = torch._C._AutoDispatchBelowAutograd
_below_views = torch._C._AutoDispatchBelowADInplaceOrView
_forward, _step = operators.forward.default._op, operators.step.default._op


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_weight: Tensor | None,
    initial_state: Tensor | None,
    cu_q: Tensor | None,
    cu_k: Tensor | None,
    method: str,
    dropout_p: float,
    options: dict[str, Any],
    names: Mapping[str, str],
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """o, g, final state and smallest denominator or None, as torch.ops.fastmax.forward gives them.

    Of the options only those that are not at their default are to be given: the dispatcher reads them one by one, and on
    short sequences that is what a call costs. `names`: the caller's for q, k and so on, where they differ; for errors.
    """
    try:
        return _attend(q, k, v, key_weight, initial_state, cu_q, cu_k, method, dropout_p, options)
    except ValueError as wrong:
        raise in_callers_words(wrong, names) from None


def _attend(q, k, v, key_weight, initial_state, cu_q, cu_k, method, dropout_p, options):
    if torch.compiler.is_compiling():  # which would wrap what operators raise as it traces
        need_one_place(q, k=k, v=v, key_weight=key_weight, initial_state=initial_state, cu_q=cu_q, cu_k=cu_k)
    seed = None
    if dropout_p != 0:
        options["dropout_p"] = dropout_p
        seed = torch.randint(torch.iinfo(torch.int64).max, (), device="cpu")
    inputs = (q, k, v, key_weight, initial_state, cu_q, cu_k, seed)
    transformed = is_transformed()
    of_weight = key_weight is not None and key_weight.requires_grad and torch.is_grad_enabled()
    if method == "composite" or transformed or not (q.is_cpu or q.is_meta):
        # Transforms, and the gradient of weights, need all operations in the open; elsewhere it is one for the compiler, too.
        run = _composite.attention if transformed or of_weight else operators.composite_forward
        device = q.device.type
        if _composite.autocasts(device):
            q, k, v = autocast(device, q, k, v)
        return run(q, k, v, *inputs[3:], **options)
    if method != "auto":
        options["method"] = method
    need(not of_weight, "key_weight without gradient, which only method='composite' gives", "one that requires it")
    records = torch.compiler.is_compiling() or (
        torch.is_grad_enabled()
        and (
            q.requires_grad
            or k.requires_grad
            or v.requires_grad
            or (initial_state is not None and initial_state.requires_grad)
        )
    )
    try:
        if records:
            return operators.forward.default(*inputs, **options)
        with _below_autograd():
            return _forward(*inputs, **options)
    except NotImplementedError:
        need_one_place(q, k=k, v=v, key_weight=key_weight, initial_state=initial_state, cu_q=cu_q, cu_k=cu_k)
        raise


def function_options(
    p: int, scale: float | None, normalize: str, coefficients: Sequence[float] | None
) -> dict[str, Any]:
    """The operators' options for f and x^ that are not at their default: on short sequences, reading them is what a call
    costs."""
    options: dict[str, Any] = {}
    if p != 2 or type(p) is not int:
        need_type("p", p, int, "an int")
        need(1 <= p <= 4, "p in 1..4", p)
        options["p"] = p
    if scale is not None:
        need_type("scale", scale, (float, int), "a number or None")
        options["scale"] = scale
    if normalize != "standardize":
        need_type("normalize", normalize, str, "a str")
        options["normalize"] = normalize
    if coefficients is not None:
        need_type("coefficients", coefficients, Sequence, "a sequence of numbers or None")
        for c in coefficients:
            need_type("coefficients", c, (float, int), "a sequence of numbers or None")
        options["coefficients"] = [*coefficients]
    return options


def step_in_place(
    q: Tensor, k: Tensor, v: Tensor, state: Tensor, key_weight: Tensor | None, options: dict[str, Any]
) -> Tensor:
    """One token, [B, H, D] -> [B, H, E], and no gradient."""
    try:
        return _step_in_place(q, k, v, state, key_weight, options)
    except ValueError as wrong:
        raise in_callers_words(wrong, {"initial_state": "state"}) from None


def _step_in_place(q, k, v, state, key_weight, options):
    if torch.compiler.is_compiling():
        need_one_place(q, k=k, v=v, state=state, key_weight=key_weight)
    if torch.compiler.is_compiling() or is_transformed() or not (state.is_cpu or state.is_meta):
        return _step_functions(q, k, v, state, key_weight, options)
    with _below_views():
        q, k, v = q.unsqueeze(2), k.unsqueeze(2), v.unsqueeze(2)
        w = None if key_weight is None else key_weight.unsqueeze(1)
        try:
            o = _step(q, k, v, state, w, **options).squeeze(2)
        except NotImplementedError:
            need_one_place(q, k=k, v=v, state=state, key_weight=w)
            raise
    if not state.is_inference():
        torch.autograd.graph.increment_version(state)
    return o


@torch.no_grad()
def _step_functions(q, k, v, state, key_weight, options):
    """The same where it is traced, transformed, or not on the CPU."""
    q, k, v = q.unsqueeze(2), k.unsqueeze(2), v.unsqueeze(2)
    w = None if key_weight is None else key_weight.unsqueeze(1)
    if (state.is_cpu or state.is_meta) and torch.compiler.is_compiling():
        return operators.step(q, k, v, state, w, **options).squeeze(2)
    device = q.device.type
    if _composite.autocasts(device):
        q, k, v = autocast(device, q, k, v)
    run = _composite.attention if is_transformed() else operators.composite_forward
    o, _, new, _ = run(q, k, v, w, state, return_state=True, **options)
    state.copy_(new)
    return o.squeeze(2)


def weights(q: Tensor, k: Tensor, key_weight: Tensor | None, rows: Tensor | None, options: dict[str, Any]) -> Tensor:
    """Rows [B, H, R, M] of the attention matrix."""
    if torch.compiler.is_compiling():
        need_one_place(q, k=k, key_weight=key_weight)
    device = q.device.type
    if _composite.autocasts(device):
        q, k = (rounded.to(x.dtype) for x, rounded in zip((q, k), autocast(device, q, k)))
    if is_transformed():
        return _composite.attention_weights(q, k, key_weight, rows, **options)
    if not (q.is_cpu or q.is_meta):
        return operators.composite_attention_weights(q, k, key_weight, rows, **options)
    try:
        return operators.attention_weights(q, k, key_weight, rows, **options)
    except NotImplementedError:
        need_one_place(q, k=k, key_weight=key_weight)
        raise
