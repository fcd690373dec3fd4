"""Loads the operators and gives them what only Python can: shapes without data, and gradients."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

import fastmax
from fastmax import _composite
from fastmax._composite import computed_in, is_judged
from fastmax._derivatives import is_transformed, vjp
from fastmax._errors import need, need_one_place

_NAME = "libfastmax_ops.so"


def _find_library() -> Path:
    """$FASTMAX_LIBRARY, else beside the package, else where a checkout is built."""
    if named := os.environ.get("FASTMAX_LIBRARY"):
        if not Path(named).is_file():
            raise ImportError(f"fastmax: need FASTMAX_LIBRARY to name {_NAME}, got '{named}'")
        return Path(named)
    # An editable install has two folders in __path__: the sources' and the built library's.
    places = [*map(Path, fastmax.__path__), Path(__file__).parents[2] / "build"]
    for place in places:
        if (place / _NAME).is_file():
            return place / _NAME
    raise ImportError(
        f"fastmax: need {_NAME} in one of {', '.join(map(str, places))}: run ./dev build, "
        "or set FASTMAX_LIBRARY"
    )


torch.ops.load_library(_find_library())
operators = torch.ops.fastmax

# Shapes, strides and types: what torch_ops/cpu.cc gives.


def _empty_in_layout_of(like: Tensor, width: int) -> Tensor:
    """A new [B, H, N, width] laid out in memory as `like`: what torch_ops/views.h does with data."""
    if like.size(3) > 1 and like.stride(3) != 1:
        like = like.contiguous()
    outer_first = sorted(range(3), key=like.stride, reverse=True)
    dense = like.new_empty([*(like.size(axis) for axis in outer_first), width])
    return dense.permute(*(outer_first.index(axis) for axis in range(3)), 3)


def _empty_state(k: Tensor, v: Tensor, cu_q: Tensor | None, p: int) -> Tensor:
    features = 1
    for i in range(1, p + 1):  # C(D + p, p)
        features = features * (k.size(3) + i) // i
    states = k.size(0) if cu_q is None else cu_q.numel() - 1
    return k.new_empty([states, k.size(1), features, v.size(3) + 1], dtype=computed_in(k.dtype))


# The same operators composed of torch operations, for every device. They may wait for it: CUDA graphs take no part.

_library = torch.library.Library("fastmax", "FRAGMENT")


def _in_layout_of(like: Tensor, x: Tensor) -> Tensor:
    laid_out = _empty_in_layout_of(like, x.size(3))
    return x if x.stride() == laid_out.stride() else laid_out.copy_(x)


def _composite_forward(q, *inputs, **options):
    o, g, final_state, smallest_denominator = _composite.attention(q, *inputs, **options)
    final_state = None if final_state is None else final_state.contiguous()
    return _in_layout_of(q, o), g.contiguous(), final_state, smallest_denominator


def _composite_backward(d_o, d_final_state, o, g, q, k, v, *inputs, **options):
    """Which differentiates, below the part of the dispatcher that would record it."""
    included, nothing = torch._C._dispatch_tls_local_include_set(), torch._C.DispatchKeySet(torch._C.DispatchKey.Undefined)
    with torch._C._ForceDispatchKeyGuard(included, nothing):
        *gradients, d_state = _composite.backward(d_o, d_final_state, o, g, q, k, v, *inputs, **options)
    d_state = None if d_state is None else d_state.contiguous()
    return *(_in_layout_of(x, dx) for x, dx in zip((q, k, v), gradients)), d_state


def _define_composite(name: str, function: Callable) -> None:
    schema = str(getattr(operators, name).default._schema).replace(f"fastmax::{name}", f"composite_{name}")
    _library.define(schema, tags=(torch.Tag.cudagraph_unsafe,))
    _library.impl(f"composite_{name}", function, "CompositeExplicitAutograd")


_define_composite("forward", _composite_forward)
_define_composite("backward", _composite_backward)
_define_composite("attention_weights", torch.no_grad()(_composite.attention_weights))


# The same without data.


def _check_on_meta(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_weight: Tensor | None,
    initial_state: Tensor | None,
    cu_q: Tensor | None = None,
    **options: Any,
) -> None:
    """All that can be judged without data. The compiler's tensors stand for others, which the kernels will judge."""
    if isinstance(q, FakeTensor):
        return
    if cu_q is not None:  # sequences of unknown lengths
        need(q.size(0) == 1, "B == 1 for packed sequences", q.size(0))
        initial_state, options["causal"] = None, False
    _composite.check(q, k, v, key_weight, initial_state, **options)


@torch.library.register_fake("fastmax::composite_forward")
@torch.library.register_fake("fastmax::forward")
def _(q, k, v, key_weight=None, initial_state=None, cu_q=None, cu_k=None, seed=None, *, p=2,
      coefficients=None, return_state=False, **options):  # fmt: skip
    need_one_place(q, seed=seed, k=k, v=v, key_weight=key_weight, initial_state=initial_state, cu_q=cu_q, cu_k=cu_k)
    _check_on_meta(q, k, v, key_weight, initial_state, cu_q, p=p, coefficients=coefficients, return_state=return_state, **options)
    return (
        _empty_in_layout_of(q, v.size(3)),
        q.new_empty(q.shape[:3], dtype=computed_in(q.dtype)),
        _empty_state(k, v, cu_q, p) if return_state else None,
        q.new_empty([], dtype=torch.float64) if is_judged(p, coefficients) else None,
    )


@torch.library.register_fake("fastmax::composite_backward")
@torch.library.register_fake("fastmax::backward")
def _(d_o, d_final_state, o, g, q, k, v, key_weight=None, initial_state=None, cu_q=None, cu_k=None,
      seed=None, *, p=2, **_):  # fmt: skip
    need_one_place(q, seed=seed, d_o=d_o, d_final_state=d_final_state, o=o, g=g, k=k, v=v, key_weight=key_weight,
                   initial_state=initial_state, cu_q=cu_q, cu_k=cu_k)  # fmt: skip
    d_initial_state = None if initial_state is None else _empty_state(k, v, cu_q, p)
    return *(_empty_in_layout_of(x, x.size(3)) for x in (q, k, v)), d_initial_state


@torch.library.register_fake("fastmax::step")
def _(q, k, v, state, key_weight=None, **options):
    need_one_place(q, k=k, v=v, state=state, key_weight=key_weight)
    _check_on_meta(q, k, v, key_weight, state, **options)
    return _empty_in_layout_of(q, v.size(3))


@torch.library.register_fake("fastmax::composite_attention_weights")
@torch.library.register_fake("fastmax::attention_weights")
def _(q, k, key_weight=None, rows=None, seed=None, **options):
    need_one_place(q, seed=seed, k=k, key_weight=key_weight, rows=rows)
    _check_on_meta(q, k, k, key_weight, None, **options)
    return q.new_empty([*q.shape[:2], q.size(2) if rows is None else rows.numel(), k.size(2)])


@torch.library.register_fake("fastmax::plan")
def _(q, k, v, *_, **__):
    return "unknown: no data, no plan"


# Gradients.


def _save_for_backward(
    ctx: Any,
    inputs: tuple[Tensor | None, ...],
    keyword_only_inputs: dict[str, Any],
    output: tuple[Tensor, Tensor, Tensor | None, Tensor | None],
) -> None:
    o, g, _, smallest_denominator = output
    ctx.save_for_backward(o, g, *inputs)
    ctx.options = {name: value for name, value in keyword_only_inputs.items() if name != "return_state"}
    ctx.mark_non_differentiable(*(x for x in (g, smallest_denominator) if x is not None))
    ctx.set_materialize_grads(False)


def _gradient(d_results, inputs, rest, options):
    """(dq, dk, dv) and d_initial_state if there is one, by autograd through the composite path."""
    key_weight, *others = rest

    def attention(q, k, v, initial_state=None):
        o, _, final_state, _ = _composite.attention(
            q, k, v, key_weight, initial_state, *others, return_state=len(d_results) == 2, **options
        )
        return (o,) if final_state is None else (o, final_state)

    return vjp(attention, inputs, d_results)


def _backward(operator, ctx, d_o, _d_g, d_final_state, _d_smallest):
    o, g, *inputs = ctx.saved_tensors
    if d_o is None:
        d_o = torch.zeros_like(o)
    if is_transformed():  # which began after the operator ran
        q, k, v, key_weight, initial_state, *others = inputs
        d_results, inputs = _given(d_o, d_final_state), _given(q, k, v, initial_state)
        dq, dk, dv, *d_state = _gradient(d_results, inputs, (key_weight, *others), ctx.options)
        d_initial_state = d_state[0] if d_state else None
    else:
        dq, dk, dv, d_initial_state = operator(d_o, d_final_state, o, g, *inputs, **ctx.options)
    return dq, dk, dv, None, d_initial_state, None, None, None


def _save_for_second_backward(
    ctx: Any, inputs: tuple[Tensor | None, ...], keyword_only_inputs: dict[str, Any], output: object
) -> None:
    d_o, d_final_state, _, _, *others = inputs  # o and g follow from the others
    ctx.save_for_backward(d_o, d_final_state, *others)
    ctx.options = keyword_only_inputs


def _second_backward(ctx, *dd_results):
    """The gradient of (d_o, d_final_state, q, k, v, initial_state) -> (dq, dk, dv, d_initial_state)."""
    d_o, d_final_state, q, k, v, key_weight, initial_state, *others = ctx.saved_tensors
    d_results, inputs = _given(d_o, d_final_state), _given(q, k, v, initial_state)
    results = len(d_results)

    def gradient(*x):
        return _gradient(x[:results], x[results:], (key_weight, *others), ctx.options)

    found = iter(vjp(gradient, (*d_results, *inputs), _given(*dd_results)))
    d_o, d_final_state, q, k, v, initial_state = (
        None if x is None else next(found) for x in (d_o, d_final_state, q, k, v, initial_state)
    )
    return d_o, d_final_state, None, None, q, k, v, None, initial_state, None, None, None


def _given(*tensors: Tensor | None) -> tuple[Tensor, ...]:
    return tuple(x for x in tensors if x is not None)


for prefix in ("", "composite_"):
    backward = getattr(operators, f"{prefix}backward")
    torch.library.register_autograd(
        f"fastmax::{prefix}forward", partial(_backward, backward), setup_context=_save_for_backward
    )
    torch.library.register_autograd(
        f"fastmax::{prefix}backward", _second_backward, setup_context=_save_for_second_backward
    )


# Under autocast q, k and v take its type, as they do for PyTorch's own attention; weights and states keep theirs.

def autocast(device: str, *tensors: Tensor) -> list[Tensor]:
    dtype = torch.get_autocast_dtype(device)
    return [x if x.dtype == torch.float64 else x.to(dtype) for x in tensors]


def _register_autocast(name: str) -> None:
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)
    operator = getattr(operators, name).default

    def cast_and_call(q, k, v, *rest, **options):
        with torch._C._ExcludeDispatchKeyGuard(keys):
            return operator(*autocast("cpu", q, k, v), *rest, **options)

    _library.impl(name, cast_and_call, "AutocastCPU")


_register_autocast("forward")
_register_autocast("step")


def _step_in_place(keys, q, k, v, state, *rest, **options):
    """An operator on the stable ABI does not tell autograd by itself that it wrote to `state`."""
    with torch._C._AutoDispatchBelowADInplaceOrView():
        below = keys & torch._C._after_ADInplaceOrView_keyset
        o = operators.step.default.redispatch(below, q, k, v, state, *rest, **options)
    torch.autograd.graph.increment_version(state)
    return o


_library.impl("step", _step_in_place, "ADInplaceOrView", with_keyset=True)
