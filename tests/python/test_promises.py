"""What PyTorch promises of a function: transforms, forward mode, compile, export, autocast, checkpointing, inference mode."""

import itertools

import pytest
import torch
from inputs import make_inputs, normal
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

import fastmax
from fastmax import reference

sdpa = fastmax.scaled_dot_product_attention


def test_func_transforms():
    q, k, v = (normal(3, 2, 7, 4, seed=i) for i in range(3))

    def loss(q, k, v):
        return sdpa(q, k, v, is_causal=True).sin().sum()

    batched = torch.func.vmap(torch.func.grad(loss))(q, k, v)
    for i in range(3):
        single = q[i].clone().requires_grad_()
        torch.testing.assert_close(batched[i], torch.autograd.grad(loss(single, k[i], v[i]), single)[0])
    _, slope = torch.func.jvp(lambda q: loss(q, k, v), (q,), (k,))
    h = 1e-6
    assert abs(slope - (loss(q + h * k, k, v) - loss(q - h * k, k, v)) / (2 * h)) < 1e-7
    assert torch.func.hessian(lambda q: loss(q, k[0], v[0]))(q[0]).shape == (2, 7, 4, 2, 7, 4)


def test_forward_mode_is_not_lost():
    q, k, v = make_inputs(Hkv=4)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(q, normal(*q.shape, seed=7))
        tangent = torch.autograd.forward_ad.unpack_dual(sdpa(dual, k, v)).tangent
    assert tangent is not None and tangent.any()


@pytest.mark.parametrize("method", ["auto", "composite"])
@pytest.mark.parametrize("options", [{}, {"is_causal": True, "p": 3}], ids=str)
def test_derivatives_of_any_order_and_kind(options, method):
    """The fourth derivative, of self-attention too; all rows of a Hessian at once; and a tangent that only gradients meet."""
    inputs = make_inputs(B=1, H=1, Hkv=1, N=3, M=3, D=4, E=4, requires_grad=True)
    along = [normal(1, 1, 3, 4, seed=seed) for seed in (3, 4, 5)]

    def ours(q, k, v):
        return sdpa(q, k, v, method=method, **options).sin().sum()

    def definition(q, k, v):
        return reference.attention(q, k, v, **options).sin().sum()

    def derivative(order, loss, *leaves):
        for _ in range(order):
            loss = sum((x * d).sum() for x, d in zip(torch.autograd.grad(loss, leaves, create_graph=True), along))
        return loss

    def tangent(function):
        loss = function(*inputs)
        slopes = torch.func.jvp(lambda d: torch.autograd.grad(loss, inputs, d), (torch.ones_like(loss),), (loss.detach(),))
        return slopes[1]

    for order in (3, 4):
        torch.testing.assert_close(derivative(order, ours(*inputs), *inputs), derivative(order, definition(*inputs), *inputs))
    x = inputs[0]
    torch.testing.assert_close(derivative(3, ours(x, x, x), x), derivative(3, definition(x, x, x), x))
    torch.testing.assert_close(
        torch.autograd.functional.hessian(ours, inputs, vectorize=True), torch.autograd.functional.hessian(definition, inputs)
    )
    torch.testing.assert_close(tangent(ours), tangent(definition))


@pytest.mark.parametrize("method", ["auto", "composite"])
def test_transforms_inside_of_compile(method):
    q, k, v = (normal(3, 2, 7, 4, seed=i) for i in range(3))

    def loss(q, k, v):
        return sdpa(q, k, v, is_causal=True, method=method).sin().sum()

    def slope(q, k, v):
        return torch.func.jvp(lambda q: loss(q, k, v), (q,), (k,))[1]

    for transformed in (slope, torch.func.grad(loss, (0, 1, 2)), torch.func.vmap(torch.func.grad(loss))):
        torch._dynamo.reset()
        compiled = torch.compile(transformed, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(q, k, v), transformed(q, k, v))


@pytest.mark.parametrize("method", ["auto", "composite"])
def test_compiles_whole_without_a_recompile_for_each_length(method):
    counter = CompileCounterWithBackend("aot_eager")

    def loss(q, k, v):
        o, state = sdpa(q, k, v, is_causal=True, dropout_p=0.1, dropout="token", return_state=True, method=method)
        return o.sin().sum() + state.tensor.sum()

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend=counter)
    for N in (6, 11, 17, 130, 200):
        inputs = make_inputs(Hkv=4, N=N, M=N, requires_grad=True)
        torch.manual_seed(N)
        expected = torch.autograd.grad(loss(*inputs), inputs)
        torch.manual_seed(N)
        for ours, true in zip(torch.autograd.grad(compiled(*inputs), inputs), expected):
            torch.testing.assert_close(ours, true)
    assert counter.frame_count == 1


@pytest.mark.parametrize("method", ["auto", "composite"])
def test_packed_sequences_compile_too(method):
    def loss(q, k, v, cu):
        return sdpa(q, k, v, is_causal=True, cu_seqlens=cu, method=method).sin().sum()

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    for offsets in ([0, 4, 9], [0, 2, 2, 11]):
        inputs = make_inputs(B=1, Hkv=4, N=offsets[-1], M=offsets[-1], requires_grad=True)
        cu = torch.tensor(offsets, dtype=torch.int32)
        expected = torch.autograd.grad(loss(*inputs, cu), inputs)
        for ours, true in zip(torch.autograd.grad(compiled(*inputs, cu), inputs), expected):
            torch.testing.assert_close(ours, true)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["auto", "composite"])
def test_the_default_compiler_takes_it(method):
    """torch.compile with nothing said generates C++, here around the operators."""
    q, k, v = make_inputs(Hkv=4, M=9, requires_grad=True)

    def loss(q, k, v):
        return (sdpa(q.sin(), k * 2, v, is_causal=True, method=method).exp() - 1).sum()

    torch._dynamo.reset()
    ours = torch.autograd.grad(torch.compile(loss, fullgraph=True)(q, k, v), (q, k, v))
    torch.testing.assert_close(ours, torch.autograd.grad(loss(q, k, v), (q, k, v)))


@pytest.mark.parametrize("device", ["cuda", "mps", "xpu"])
def test_other_devices_compile_to_the_composite_operator(device):
    """Without such a device: what the compiler would see of one."""
    with FakeTensorMode():
        q, k, v = (torch.empty(2, 4, *size, dtype=torch.bfloat16, device=device) for size in ((9, 4), (12, 4), (12, 3)))
        o, state = sdpa(q, k, v, is_causal=True, p=1, return_state=True)
        assert (o.shape, o.dtype, o.device.type) == ((2, 4, 9, 3), torch.bfloat16, device)
        assert (state.tensor.shape, state.tensor.dtype) == ((2, 4, 5, 4), torch.float32)
        assert fastmax.attention_weights(q, k).shape == (2, 4, 9, 12)


def test_compiled_calls_refuse_denominators_near_zero():
    x = normal(1, 1, 40, 16)
    compiled = torch.compile(sdpa, backend="eager")
    for method in ("auto", "composite"):
        with pytest.raises(ValueError, match="denominators above"):
            compiled(x, -x, x, p=1, scale=1.0, is_causal=True, method=method)


def test_autocast_and_checkpointing():
    inputs = make_inputs(Hkv=4, dtype=torch.float32, requires_grad=True)
    for method in ("auto", "composite"):
        with torch.autocast("cpu", torch.bfloat16):
            o = sdpa(inputs[0].bfloat16(), *inputs[1:], is_causal=True, method=method)
        assert o.dtype == torch.bfloat16
        o.float().sum().backward()
    rounded = [x.detach().bfloat16() for x in inputs]
    expected = sdpa(*rounded, is_causal=True, method="composite")
    with torch.autocast("cpu", torch.bfloat16):  # which does not reach the sums
        assert torch.equal(sdpa(*(x.detach() for x in inputs), is_causal=True, method="composite"), expected)
    with torch.autocast("cpu", torch.bfloat16):
        o = fastmax.step(*(x[:, :, 0] for x in inputs), fastmax.FastmaxState.zeros(2, 4, 4, 3))
    assert o.dtype == torch.bfloat16

    def drop(q, k, v):
        return sdpa(q, k, v, None, 0.2, dropout="token").sum()

    torch.manual_seed(1)
    expected = torch.autograd.grad(drop(*inputs), inputs)
    torch.manual_seed(1)
    again = torch.autograd.grad(checkpoint(drop, *inputs, use_reentrant=False), inputs)
    assert all(torch.equal(x, y) for x, y in zip(again, expected))


def test_export_inference_meta_and_deterministic():
    q, k, v = make_inputs(Hkv=4)

    class Attention(torch.nn.Module):
        def __init__(self, method="auto"):
            super().__init__()
            self.method = method

        def forward(self, q, k, v):
            return sdpa(q, k, v, is_causal=True, method=self.method)

    expected = sdpa(q, k, v, is_causal=True)
    assert torch.equal(torch.export.export(Attention(), (q, k, v)).module()(q, k, v), expected)
    tokens = make_inputs(Hkv=4, M=9)
    free = {0: torch.export.Dim("B", min=1, max=64), 2: torch.export.Dim("N", min=2, max=4096)}
    longer = make_inputs(B=3, Hkv=4, N=31, M=31)
    for strict, method in itertools.product((True, False), ("auto", "composite")):
        exported = torch.export.export(Attention(method), tokens, dynamic_shapes=(free,) * 3, strict=strict)
        assert torch.equal(exported.module()(*longer), sdpa(*longer, is_causal=True, method=method))
    with torch.inference_mode():
        assert torch.equal(sdpa(q, k, v, is_causal=True), expected)
    for method in ("auto", "composite"):
        o = sdpa(*(x.to("meta") for x in (q, k, v)), p=1, scale=0.1, method=method)
        assert o.is_meta and o.shape == (2, 4, 9, 3)
        cu = torch.empty(4, dtype=torch.int32, device="meta")
        _, states = sdpa(*(x[:1].to("meta") for x in tokens), cu_seqlens=cu, return_state=True, is_causal=True, method=method)
        assert states.tensor.shape == (3, 4, 15, 4)
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    torch.use_deterministic_algorithms(True)  # whatever may give other bits next time is an error then
    try:
        assert torch.equal(sdpa(q, k, v, is_causal=True), expected)
        for method in ("auto", "composite"):
            once, again = (
                torch.autograd.grad(sdpa(*leaves, is_causal=True, method=method).sin().sum(), leaves) for _ in range(2)
            )
            assert all(torch.equal(x, y) for x, y in zip(once, again))
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("method", ["auto", "composite"])
def test_a_default_device_elsewhere(method):
    """What a call makes for itself is where its tokens are, or on the CPU."""
    q, k, v = make_inputs(Hkv=4)

    def calls():
        weight = q.new_ones(1, 12)
        torch.manual_seed(4)
        yield sdpa(q, k, v, None, 0.3, method=method)
        yield torch.func.vmap(lambda q, k, v: sdpa(q[None], k[None], v[None], key_weight=weight, method=method))(q, k, v)
        state = fastmax.FastmaxState(q.new_ones(1, 4, 15, 4), D=4)
        yield torch.func.vmap(lambda k, v: state.clone().update(k[None], v[None]).tensor)(k, v)
        yield fastmax.attention_weights(q, k, rows=[3, 1])
        yield reference.attention(q, k, v, dropout_p=0.3, seed=3)

    expected = [*calls()]
    with torch.device("meta"):
        elsewhere = [*calls()]
    for ours, true in zip(elsewhere, expected):
        assert torch.equal(ours, true)
