"""One call of attention on tensors [B, H, N, D]: by the kernels, or composed of torch operations."""

import torch
from torch import Tensor

from fastmax import _composite
from fastmax._operators import operators

_DEFAULTS = {
    "p": 2,
    "scale": None,
    "normalize": "standardize",
    "coefficients": None,
    "causal": False,
    "method": "auto",
    "dropout_p": 0.0,
    "dropout": "quadratic",
    "floor": "auto",
    "return_state": False,
}


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_weight: Tensor | None = None,
    initial_state: Tensor | None = None,
    cu_q: Tensor | None = None,
    cu_k: Tensor | None = None,
    *,
    method: str = "auto",
    dropout_p: float = 0.0,
    **options,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """o, g, final state and smallest denominator, as torch.ops.fastmax.forward gives them."""
    seed = torch.randint(torch.iinfo(torch.int64).max, ()) if dropout_p > 0 else None
    inputs = (q, k, v, key_weight, initial_state, cu_q, cu_k, seed)
    # The dispatcher reads what it is given one by one: defaults need not be read.
    options = {name: value for name, value in options.items() if value != _DEFAULTS[name]}
    if dropout_p != 0:
        options["dropout_p"] = dropout_p
    if method == "composite" or q.device.type not in ("cpu", "meta") or is_transformed():
        return _composite.attention(*inputs, **options)
    if method != "auto":
        options["method"] = method
    if torch.compiler.is_compiling():
        return operators.forward(*inputs, **options)
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs[:5]):
        return operators.forward.default(*inputs, **options)
    # Nothing to record: the Python code that would record it need not be asked.
    with torch._C._AutoDispatchBelowAutograd():
        return operators.forward.default(*inputs, **options)


def is_transformed() -> bool:
    """Inside torch.func.grad, vmap and the like, or in forward mode: what the operators' formulas do not know."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0
