"""Loads the operators and gives them what only Python can: shapes without data, and gradients."""

import os
from pathlib import Path

import torch
from torch import Tensor

import fastmax

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
_ops = torch.ops.fastmax


def _empty_in_layout_of(like: Tensor, width: int) -> Tensor:
    """A new [B, H, N, width] laid out in memory as `like`: what torch_ops/views.h does with data."""
    if like.size(3) > 1 and like.stride(3) != 1:
        like = like.contiguous()
    outer_first = sorted(range(3), key=like.stride, reverse=True)
    dense = like.new_empty([*(like.size(axis) for axis in outer_first), width])
    return dense.permute(*(outer_first.index(axis) for axis in range(3)), 3)


@torch.library.register_fake("fastmax::forward")
def _(q, k, v, key_weight=None, *, p=2, scale=None, causal=False, method="auto"):
    return _empty_in_layout_of(q, v.size(3)), q.new_empty(q.shape[:3])


@torch.library.register_fake("fastmax::backward")
def _(d_o, q, k, v, key_weight, o, g, *, p=2, scale=None, causal=False, method="auto"):
    return tuple(_empty_in_layout_of(x, x.size(3)) for x in (q, k, v))


def _save_for_backward(ctx, inputs, keyword_only_inputs, output) -> None:
    q, k, v, key_weight = inputs
    o, g = output
    ctx.save_for_backward(q, k, v, key_weight, o, g)
    ctx.options = keyword_only_inputs
    ctx.mark_non_differentiable(g)


def _backward(ctx, d_o, _):
    q, k, v, key_weight, o, g = ctx.saved_tensors
    return *_ops.backward(d_o, q, k, v, key_weight, o, g, **ctx.options), None


def _refuse_second_gradient(ctx, *_):
    raise NotImplementedError("fastmax: need a first gradient: attention is differentiable once")


torch.library.register_autograd("fastmax::forward", _backward, setup_context=_save_for_backward)
torch.library.register_autograd("fastmax::backward", _refuse_second_gradient)
# Under torch.autocast the linear layers before attention give bfloat16; the operators take float32.
torch.library.register_autocast("fastmax::forward", "cpu", torch.float32)
