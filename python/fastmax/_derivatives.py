"""Derivatives of torch operations, of any order and under any transform."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def is_transformed() -> bool:
    """Inside torch.func.grad, vmap and the like, or in forward mode: what the operators' formulas do not know."""
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


def vjp(function: Callable, inputs: Sequence[Tensor], d_result: Any) -> tuple[Tensor, ...]:
    """The gradient of function(*inputs), one tensor or a tuple, for that of its result; to be differentiated in its turn."""
    if is_transformed():
        return torch.func.vjp(function, *inputs)[1](d_result)
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # Other tensors, though connected: two of the inputs may be one, and each has its own gradient.
        inputs = [x.view_as(x) if again and x.requires_grad else x.detach().requires_grad_() for x in inputs]
        return torch.autograd.grad(function(*inputs), inputs, d_result, create_graph=again, materialize_grads=True)
