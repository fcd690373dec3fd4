"""fastmax.scaled_dot_product_attention against the definition, fastmax.reference."""

import inspect

import pytest
import torch
from inputs import make_inputs, normal
from torch.utils._python_dispatch import TorchDispatchMode

import fastmax
from fastmax import _composite, _operators, reference

sdpa = fastmax.scaled_dot_product_attention
METHODS = ["auto", "direct", "factorised", "composite"]


def make_weight(B, M, dtype=torch.float64):
    weight = torch.linspace(0.1, 2, B * M, dtype=dtype).reshape(B, M)
    weight[:, 1::3] = 0
    return weight


def test_signature_is_pytorchs_and_more():
    theirs = ["attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa"]
    parameters = inspect.signature(sdpa).parameters
    assert [*parameters][:8] == ["query", "key", "value", *theirs]
    assert {name: parameters[name].default for name in theirs} == {
        "attn_mask": None, "dropout_p": 0.0, "is_causal": False, "scale": None, "enable_gqa": False,
    }  # fmt: skip


OPTIONS = [
    {},
    {"p": 1},
    {"p": 3, "scale": 0.1},
    {"p": 4},
    {"scale": 0.3},
    {"normalize": "l2"},
    {"normalize": "none"},
    {"normalize": "none", "p": 1, "scale": 0.02},
    {"normalize": "max_norm"},
    {"coefficients": [1, 0.5, 0.4]},
    {"coefficients": [1, 0.1], "p": 1, "floor": "clamp"},
]


# The largest norm looks at future tokens: it is refused with a causal mask.
CAUSAL_OPTIONS = [{"is_causal": True, **o} for o in OPTIONS if o.get("normalize") != "max_norm"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", OPTIONS + CAUSAL_OPTIONS, ids=str)
def test_every_option_is_the_definition_with_its_gradient(options, method):
    inputs = make_inputs(requires_grad=True)
    options = {**options, "key_weight": make_weight(2, 12)}
    o = sdpa(*inputs, enable_gqa=True, method=method, **options)
    options.pop("floor", None)
    truth = reference.attention(*inputs, **options)
    torch.testing.assert_close(o, truth, rtol=0, atol=1e-12)
    d_o = normal(*o.shape, seed=3)
    for ours, true in zip(torch.autograd.grad(o, inputs, d_o), torch.autograd.grad(truth, inputs, d_o)):
        torch.testing.assert_close(ours, true, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("method", ["auto", "composite"])
@pytest.mark.parametrize("dropout", ["quadratic", "standard", "token"])
@pytest.mark.parametrize("causal", [False, True])
def test_dropout_is_the_definition_for_the_drawn_seed(causal, dropout, method):
    inputs = make_inputs(requires_grad=True)
    torch.manual_seed(5)
    o = sdpa(*inputs, None, 0.3, causal, enable_gqa=True, dropout=dropout, method=method)
    torch.manual_seed(5)
    seed = torch.randint(2**63 - 1, ())
    truth = reference.attention(*inputs, is_causal=causal, dropout_p=0.3, dropout=dropout, seed=seed)
    torch.testing.assert_close(o, truth, rtol=0, atol=1e-12)
    for ours, true in zip(torch.autograd.grad(o.sum(), inputs), torch.autograd.grad(truth.sum(), inputs)):
        torch.testing.assert_close(ours, true, rtol=1e-10, atol=1e-10)
    again = sdpa(*inputs, None, 0.3, causal, enable_gqa=True, dropout=dropout, method=method)
    assert not torch.allclose(again, o)


def test_without_dropout_no_random_number_is_drawn():
    before = torch.get_rng_state()
    sdpa(*make_inputs(), enable_gqa=True)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "dtype, error", [(torch.float32, 2e-6), (torch.bfloat16, 4e-3), (torch.float16, 5e-4)]
)
def test_types_go_in_and_come_out(dtype, error, method):
    """Of 16-bit results, half a unit of the last place: the sums are float32's."""
    inputs = make_inputs(dtype=dtype, N=200, M=200, requires_grad=True)
    o = sdpa(*inputs, is_causal=True, enable_gqa=True, method=method)
    assert o.dtype == dtype and all(x.dtype == dtype for x in torch.autograd.grad(o.float().sum(), inputs))
    truth = reference.attention(*inputs, is_causal=True)
    assert (o - truth).abs().max() < error * truth.abs().max()


def test_tensors_of_three_and_of_five_dimensions():
    q, k, v = make_inputs(B=6, H=4, Hkv=4)
    o = sdpa(q, k, v)
    assert torch.equal(sdpa(q[0], k[0], v[0]), o[0])
    mask = make_weight(6, 12) > 0
    five = [x.unflatten(0, (2, 3)) for x in (q, k, v)]
    assert torch.equal(sdpa(*five).flatten(0, 1), o)
    assert torch.equal(
        sdpa(*five, mask.reshape(2, 3, 1, 1, 12)).flatten(0, 1), sdpa(q, k, v, mask[:, None, None])
    )


@pytest.mark.parametrize("method", ["auto", "composite"])
def test_a_mask_of_keys_is_a_shorter_sequence(method):
    q, k, v = make_inputs(Hkv=4)
    mask = torch.arange(12) < 7
    short = sdpa(q, k[:, :, :7], v[:, :, :7], method=method)
    for shaped in (
        mask,
        mask[None],
        mask[None, None, None],
        mask.expand(2, 1, 1, 12),
        mask.expand(2, 4, 9, 12),
        mask.expand(2, 4, 9, 12).contiguous(),  # as long as it says the same to all queries and heads
        mask.expand(9, 12).clone(),
    ):
        torch.testing.assert_close(sdpa(q, k, v, shaped, method=method), short, rtol=0, atol=1e-14)
    for sizes in ((0, 12), (1, 0, 12), (2, 1, 0, 12), (2, 4, 0, 12)):  # no query
        assert sdpa(q[:, :, :0], k, v, torch.ones(sizes, dtype=torch.bool), method=method).shape == (2, 4, 0, 3)
    nothing = sdpa(q, k, v, torch.zeros(2, 1, 1, 12, dtype=torch.bool), method=method)
    assert not nothing.any()  # where PyTorch's function has NaN


def test_strides_are_free_and_the_result_lies_as_query_does():
    qkv = normal(2, 10, 3, 4, 8)
    q, k, v = (x.transpose(1, 2) for x in qkv.unbind(2))
    o = sdpa(q, k, v)
    assert o.transpose(1, 2).is_contiguous()
    assert torch.equal(o, sdpa(*(x.contiguous() for x in (q, k, v))))


PACKED_OPTIONS = [{}, {"is_causal": True}, {"normalize": "max_norm"}, {"p": 1, "is_causal": True}]


@pytest.mark.parametrize("method", ["auto", "composite"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("options", PACKED_OPTIONS, ids=str)
def test_packed_sequences_are_separate_ones(options, weighted, method):
    """Also in their gradients; and each has a largest norm of its own."""
    q, k, v = make_inputs(B=1, N=9, M=12, requires_grad=True)
    weight = make_weight(1, 12) if weighted else None
    cu_q, cu_k = (torch.tensor(x, dtype=torch.int32) for x in ([0, 2, 2, 9], [0, 4, 5, 12]))
    options = {**options, "enable_gqa": True, "method": method}
    with_states = options.get("normalize") != "max_norm"

    def call(*tensors, **more):
        result = sdpa(*tensors, return_state=with_states, **options, **more)
        return (result[0], result[1].tensor) if with_states else (result,)

    packed = call(q, k, v, key_weight=weight, cu_seqlens=(cu_q, cu_k))
    ones = []
    for n, n_end, m, m_end in zip(cu_q, cu_q[1:], cu_k, cu_k[1:]):
        w = None if weight is None else weight[:, m:m_end]
        ones.append(call(q[:, :, n:n_end], k[:, :, m:m_end], v[:, :, m:m_end], key_weight=w))
    separate = [torch.cat(x, axis) for x, axis in zip(zip(*ones), (2, 0))]
    torch.testing.assert_close([*packed], separate, rtol=0, atol=1e-12)
    loss, losses = (sum(x.sin().sum() for x in results) for results in (packed, separate))
    for ours, true in zip(torch.autograd.grad(loss, (q, k, v)), torch.autograd.grad(losses, (q, k, v))):
        torch.testing.assert_close(ours, true, rtol=1e-10, atol=1e-10)
    o = sdpa(q, k[:, :, :9], v[:, :, :9], cu_seqlens=cu_q, **options)
    last = sdpa(q[:, :, 2:], k[:, :, 2:9], v[:, :, 2:9], **options)
    torch.testing.assert_close(o[:, :, 2:], last, rtol=0, atol=1e-13)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("causal", [False, True])
def test_clamped_denominators_stand_at_their_floor_and_pass_no_gradient(causal, method):
    """At the paper's scale, keys opposite to their queries make most denominators negative."""
    q = normal(2, 1, 40, 16, requires_grad=True)
    inputs = q, -q, normal(2, 1, 40, 16, seed=1, requires_grad=True)
    options = {"is_causal": causal, "p": 1, "scale": 1.0, "key_weight": make_weight(2, 40)}
    o, truth = sdpa(*inputs, floor="clamp", method=method, **options), reference.attention(*inputs, **options)
    assert truth.abs().max() > 1e12
    torch.testing.assert_close(o, truth, rtol=1e-10, atol=1e-10)
    for ours, true in zip(
        torch.autograd.grad(o.sum(), (q, inputs[2])), torch.autograd.grad(truth.sum(), (q, inputs[2]))
    ):
        assert (ours - true).abs().max() < 1e-10 * true.abs().max()


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
@pytest.mark.parametrize("causal", [False, True])
def test_the_chunks_of_the_composite_path_join(causal, dropout_p):
    """Chunks of 64 tokens: three before any query, then three with theirs."""
    inputs = make_inputs(B=1, N=150, M=310, requires_grad=True)
    torch.manual_seed(2)
    o = sdpa(*inputs, None, dropout_p, causal, enable_gqa=True, method="composite")
    torch.manual_seed(2)
    seed = torch.randint(2**63 - 1, ())
    truth = reference.attention(*inputs, is_causal=causal, dropout_p=dropout_p, seed=seed)
    torch.testing.assert_close(o, truth, rtol=0, atol=1e-11)
    for ours, true in zip(
        torch.autograd.grad(o.sin().sum(), inputs), torch.autograd.grad(truth.sin().sum(), inputs)
    ):
        torch.testing.assert_close(ours, true, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"p": 1}, {"normalize": "l2"}], ids=str)
@pytest.mark.parametrize("sizes", [{"D": 1}, {"H": 0, "Hkv": 0}, {"H": 0}, {"B": 0}, {"N": 0}, {"N": 0, "M": 0}], ids=str)
def test_the_smallest_sizes(sizes, options, method):
    inputs = make_inputs(**sizes, requires_grad=True)
    o = sdpa(*inputs, enable_gqa=True, method=method, **options)
    truth = reference.attention(*inputs, **options)
    torch.testing.assert_close(o, truth, rtol=0, atol=1e-12)
    for ours, true in zip(torch.autograd.grad(o.sum(), inputs), torch.autograd.grad(truth.sum(), inputs)):
        torch.testing.assert_close(ours, true, rtol=1e-10, atol=1e-10)
    k, v = inputs[1:]
    state = fastmax.FastmaxState.zeros(k.size(0), k.size(1), k.size(3), 3, dtype=k.dtype).update(k, v)
    torch.testing.assert_close(state.query(inputs[0]), reference.attention(*inputs), rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["auto", "composite"])
@pytest.mark.parametrize("normalize", ["standardize", "l2", "max_norm"])
@pytest.mark.parametrize("size", [1e-30, 1e30, 1e38])
def test_tokens_of_any_finite_size(size, normalize, method):
    """float32 holds neither their squares nor, at 1e38, their sum."""
    q, k, v = make_inputs(Hkv=4, dtype=torch.float32)
    q, k = (x.clamp(-3, 3).mul(size).requires_grad_() for x in (q, k))
    o = sdpa(q, k, v, normalize=normalize, method=method)
    truth = reference.attention(q, k, v, normalize=normalize)
    assert (o - truth).abs().max() < 2e-6 * truth.abs().max()
    assert all(x.isfinite().all() for x in torch.autograd.grad(o.sum(), (q, k)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("options", [{}, {"p": 1}, {"p": 4}, {"scale": 0.01}, {"normalize": "l2"}, {"coefficients": [1, 1, 9]}], ids=str)
def test_values_of_any_finite_size(options, causal, method):
    """Sums of weights and values, up to f = 2000 of each here, are far above what float32 holds."""
    q, k, v = make_inputs(H=4, N=12, D=8, dtype=torch.float32)
    weight = make_weight(2, 12, torch.float32) * 2**38
    options = {**options, "is_causal": causal}
    for size in (1e-30, 1.0, 3e38):
        values = v.sign() * size
        o = sdpa(q, k, values, enable_gqa=True, method=method, floor="clamp", key_weight=weight, **options)
        truth = reference.attention(q, k, values, key_weight=weight, **options)
        assert (o - truth).abs().max() < 4e-6 * size


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("p", [2, 4])
def test_an_entry_that_is_all_padding_has_no_largest_norm(p, method):
    inputs = make_inputs(dtype=torch.float32, requires_grad=True)
    weight = make_weight(2, 12, torch.float32)
    weight[0] = 0
    options = {"p": p, "normalize": "max_norm", "key_weight": weight}
    o = sdpa(*inputs, enable_gqa=True, method=method, **options)
    truth = reference.attention(*inputs, **options)
    torch.testing.assert_close(o, truth.float())
    torch.testing.assert_close(torch.autograd.grad(o.sum(), inputs), torch.autograd.grad(truth.sum(), inputs), rtol=1e-5, atol=1e-5)


# Rows of the matrix.


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"p": 1, "normalize": "l2"}, {"coefficients": [1, 1, 1]}], ids=str)  # fmt: skip
def test_attention_weights_are_what_is_applied(options):
    q, k, v = make_inputs(Hkv=4)
    options["key_weight"] = make_weight(2, 12)
    a = fastmax.attention_weights(q, k, rows=[7, 0, 3], **options)
    torch.testing.assert_close(a @ v, sdpa(q, k, v, **options)[:, :, [7, 0, 3]], rtol=0, atol=1e-13)
    torch.testing.assert_close(a.sum(-1), torch.ones(2, 4, 3, dtype=a.dtype), rtol=0, atol=1e-13)
    assert torch.equal(a, fastmax.attention_weights(q, k, **options)[:, :, [7, 0, 3]])
    torch.testing.assert_close(
        a, reference.attention_weights(q, k, **options)[:, :, [7, 0, 3]], rtol=0, atol=1e-13
    )
    batched = torch.func.vmap(
        lambda q, k: fastmax.attention_weights(q, k, rows=[7, 0, 3], **{**options, "key_weight": None})
    )
    torch.testing.assert_close(
        batched(q[None], k[None])[0],
        fastmax.attention_weights(q, k, rows=[7, 0, 3], **{**options, "key_weight": None}),
        rtol=0,
        atol=1e-13,
    )
    masked = {**options, "key_weight": None, "attn_mask": options["key_weight"][:, None, None] > 0}
    ones = {**options, "key_weight": (options["key_weight"] > 0).double()}
    assert torch.equal(fastmax.attention_weights(q, k, **masked), fastmax.attention_weights(q, k, **ones))
    assert fastmax.attention_weights(q[0].bfloat16(), k[0].bfloat16()).shape == (4, 9, 12)
    assert fastmax.attention_weights(q, k, rows=[]).shape == (2, 4, 0, 12)


def test_attention_weights_under_autocast_are_of_the_rounded_tokens():
    q, k, _ = make_inputs(Hkv=4, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        a = fastmax.attention_weights(q, k)
    assert torch.equal(a, fastmax.attention_weights(*(x.bfloat16().float() for x in (q, k))))


# What PyTorch promises of its own functions.


@pytest.mark.parametrize("method", ["auto", "composite"])
@pytest.mark.parametrize("causal", [False, True])
def test_gradients_of_gradients(causal, method):
    inputs = make_inputs(B=1, H=2, Hkv=1, N=4, M=5, D=3, E=2, requires_grad=True)

    def function(q, k, v):
        return sdpa(q, k, v, is_causal=causal, enable_gqa=True, method=method)

    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("method", ["auto", "composite"])
@pytest.mark.parametrize("function", [{}, {"p": 1}, {"p": 3}, {"normalize": "l2"}], ids=str)
def test_gradients_of_gradients_flow_through_states(function, method):
    q, k, v = make_inputs(B=1, H=2, Hkv=1, N=4, M=4, D=3, E=2, requires_grad=True)
    past = fastmax.FastmaxState.zeros(1, 1, 3, 2, dtype=torch.float64, **function).update(normal(1, 1, 6, 3), normal(1, 1, 6, 2))

    def call(q, k, v, tensor):
        state = fastmax.FastmaxState(tensor, D=3, **function)
        o, state = sdpa(q, k, v, is_causal=True, enable_gqa=True, initial_state=state, return_state=True, method=method, **function)
        return o, state.tensor

    inputs = (q, k, v, past.tensor.requires_grad_())
    assert torch.autograd.gradcheck(call, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, inputs, fast_mode=True)


def test_composite_gives_the_gradient_of_key_weights():
    q, k, v = make_inputs(B=1, Hkv=4)
    weight = torch.rand(1, 12, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda w: sdpa(q, k, v, key_weight=w, is_causal=True, method="composite"), weight, fast_mode=True
    )


def test_composite_keeps_no_features_for_backward():
    """As the kernels: O(N (D + E)) numbers, where a feature row alone would be F = 153."""
    saved = 0

    def count(x):
        nonlocal saved
        saved += x.numel()
        return x

    N, D = 2048, 16
    q, k, v = make_inputs(B=1, H=1, Hkv=1, N=N, M=N, D=D, E=D, dtype=torch.float32, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
        sdpa(q, k, v, is_causal=True, method="composite")
    assert saved < 20 * N * D


class Largest(TorchDispatchMode):
    """The most numbers in one tensor that an operation made."""

    numbers = 0
    inside = {
        torch.ops.fastmax.composite_forward.default: _composite.attention,
        torch.ops.fastmax.composite_backward.default: _operators._composite_backward,
    }

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in self.inside:
            with self:
                return self.inside[function](*args, **kwargs)
        result = function(*args, **(kwargs or {}))
        for x in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(x, torch.Tensor):
                self.numbers = max(self.numbers, x.numel())
        return result


@pytest.mark.parametrize("causal", [False, True])
def test_features_of_the_composite_path_exist_one_chunk_at_a_time(causal):
    """F = 136 rows of D = 16 (standardised, they have 15 degrees of freedom); chunks of 64 tokens. The same largest tensor at any length but for what is as long as q."""
    D, largest = 16, {}
    for N in (512, 4096):
        inputs = make_inputs(B=1, H=1, Hkv=1, N=N, M=N, D=D, E=D, dtype=torch.float32, requires_grad=True)
        with Largest() as mode:
            sdpa(*inputs, is_causal=causal, method="composite").sum().backward()
        largest[N] = mode.numbers
    assert largest[512] == 64 * 136 and largest[4096] == 4096 * (D + 1)
