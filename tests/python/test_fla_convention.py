"""fastmax.ops.chunk_fastmax: flash-linear-attention's calling convention around the same numbers."""

import inspect
import math

import pytest
import torch

import fastmax
from fastmax import reference
from fastmax.ops import chunk_fastmax


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def inputs(B=2, T=9):
    return normal(B, T, 4, 5), normal(B, T, 2, 5, seed=1), normal(B, T, 2, 3, seed=2)


def test_the_first_seven_parameters_are_the_conventions():
    names = ["q", "k", "v", "scale", "initial_state", "output_final_state", "cu_seqlens"]
    assert [*inspect.signature(chunk_fastmax).parameters][:7] == names


@pytest.mark.parametrize("p, scale", [(2, None), (1, None), (3, 0.1)])
def test_it_is_the_definition_with_gradients_through_the_state(p, scale):
    q, k, v = inputs()
    past = reference.attention(*(x.transpose(1, 2) for x in inputs()), p=p, scale=scale, return_state=True)[1]
    past = past.detach().requires_grad_()
    o, state = chunk_fastmax(q, k, v, scale, past, True, p=p)
    truth, true_state = reference.attention(*(x.transpose(1, 2) for x in (q, k, v)), is_causal=True, p=p, scale=scale,
                                            initial_state=past, return_state=True)  # fmt: skip
    truth = truth.transpose(1, 2)
    torch.testing.assert_close(o, truth, rtol=0, atol=1e-12)
    torch.testing.assert_close(state, true_state)
    assert o.is_contiguous()
    rows = math.comb(4 + p, p)  # the rest is unused under standardize
    found = torch.autograd.grad(o.sin().sum() + state[:, :, :rows].sum(), (q, k, v, past))
    true_loss = truth.sin().sum() + true_state[:, :, :rows].sum()
    for ours, true in zip(found, torch.autograd.grad(true_loss, (q, k, v, past))):
        torch.testing.assert_close(ours, true, rtol=1e-9, atol=1e-9)


def test_any_split_is_the_whole_and_the_state_is_a_fastmax_states():
    q, k, v = inputs()
    whole, last = chunk_fastmax(q, k, v, output_final_state=True)
    first, state = chunk_fastmax(q[:, :4], k[:, :4], v[:, :4], output_final_state=True)
    second, state = chunk_fastmax(q[:, 4:], k[:, 4:], v[:, 4:], None, state, True)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(state, last)
    update = fastmax.FastmaxState.zeros(2, 2, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(update.update(k.transpose(1, 2), v.transpose(1, 2)).tensor, last)
    assert chunk_fastmax(q, k, v)[1] is None


def test_packed_sequences_have_a_state_each():
    q, k, v = inputs(1, 9)
    cu = torch.tensor([0, 2, 9])
    o, states = chunk_fastmax(q, k, v, output_final_state=True, cu_seqlens=cu)
    again, _ = chunk_fastmax(q, k, v, None, states, cu_seqlens=cu)
    for i, part in enumerate((slice(0, 2), slice(2, 9))):
        alone, state = chunk_fastmax(*(x[:, part] for x in (q, k, v)), output_final_state=True)
        torch.testing.assert_close(o[:, part], alone)
        torch.testing.assert_close(states[i : i + 1], state)
        torch.testing.assert_close(again[:, part], chunk_fastmax(*(x[:, part] for x in (q, k, v)), None, state)[0])


@pytest.mark.parametrize(
    "change, kind, text",
    [
        ({"head_first": True}, ValueError, "tokens before heads, [B, T, H, K]"),
        ({"q": None}, TypeError, "q a Tensor, got NoneType"),
        ({"v": torch.zeros(2, 9, 3)}, ValueError, "v of 4 dimensions [B, T, H, channels], got 3"),
        ({"k": torch.zeros(2, 8, 2, 5)}, ValueError, "k of q's 9 tokens (T comes before H), got 8"),
        ({"output_final_state": 1}, TypeError, "output_final_state a bool"),
        ({"initial_state": torch.zeros(2, 2, 5)}, ValueError, "initial_state of shape [S, Hkv, 21, 4], got [2, 2, 5]"),
        ({"initial_state": fastmax.FastmaxState.zeros(2, 2, 5, 3)}, TypeError, "initial_state a Tensor"),
        ({"initial_state": torch.zeros(2, 2, 20, 4).double()}, ValueError, "initial_state of shape [S, Hkv, 21, 4]"),
        ({"initial_state": torch.zeros(2, 2, 21, 4).half()}, ValueError, "a state of float32 or float64, got torch.float16"),
        ({"cu_seqlens": [0, 9]}, TypeError, "cu_seqlens a Tensor, got list"),
        ({"cu_seqlens": torch.zeros(3)}, ValueError, "cu_seqlens int32 or int64, got torch.float32"),
        ({"cu_seqlens": torch.tensor([0, 9])}, ValueError, "got 2"),
        ({"p": 7}, ValueError, "p in 1..4, got 7"),
        ({"scale": "1"}, TypeError, "scale a number or None"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_wrong_calls(change, kind, text):
    arguments = dict(zip("qkv", inputs()))
    with pytest.raises(kind) as caught:
        chunk_fastmax(**{**arguments, **change})
    assert text in str(caught.value) and "\n" not in str(caught.value)
