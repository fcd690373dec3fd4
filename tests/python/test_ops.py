"""torch.ops.fastmax against the definition in plain torch, and against PyTorch's own checks of operators."""

import itertools
import re
import subprocess

import pytest
import torch

from fastmax._operators import _find_library

ops = torch.ops.fastmax


def definition(q, k, v, key_weight=None, *, p=2, scale=None, causal=False):
    """o_n = sum_m w_m f(s_nm) v_m / sum_m w_m f(s_nm) in float64; autograd gives its gradient."""

    def standardize(x):
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    q, k, v = (x.double() for x in (q, k, v))
    N, M, D = q.size(2), k.size(2), q.size(3)
    if scale is None:
        scale = {1: 1 / D, 3: 1.5960716 / D}.get(p, 1.0)
    k, v = (x.repeat_interleave(q.size(1) // k.size(1), 1) for x in (k, v))
    s = scale * standardize(q) @ standardize(k).mT
    f, power = torch.ones_like(s), torch.ones_like(s)
    for order in range(1, p + 1):
        power = power * s / order
        f = f + power
    if key_weight is not None:
        f = f * key_weight.double()[:, None, None, :]
    if causal:
        f = f.tril(M - N)
    return f @ v / f.sum(-1, keepdim=True)


def make_inputs(shape, dtype=torch.float64, seed=0, requires_grad=False):
    B, H, Hkv, N, M, D, E = shape
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(size, dtype=dtype, generator=generator).requires_grad_(requires_grad)
        for size in ((B, H, N, D), (B, Hkv, M, D), (B, Hkv, M, E))
    ]


def make_weight(B, M, dtype=torch.float64):
    weight = torch.linspace(0.1, 2, B * M, dtype=dtype).reshape(B, M)
    weight[:, 1::3] = 0
    return weight


def rms(x):
    return x.double().square().mean().sqrt().item()


SHAPES = [
    (2, 3, 3, 17, 17, 5, 5),
    (1, 4, 2, 33, 70, 16, 9),
    (2, 2, 1, 130, 130, 8, 8),
    (1, 1, 1, 1, 1, 1, 1),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("p", [1, 2, 3, 4])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_forward_and_gradient_are_the_definitions(shape, p, causal, weighted):
    inputs = make_inputs(shape, requires_grad=True)
    weight = make_weight(shape[0], shape[4]) if weighted else None
    options = {"p": p, "causal": causal, "scale": 1 / shape[5] if p % 2 else None}
    o, *_ = ops.forward(*inputs, weight, **options)
    truth = definition(*inputs, weight, **options)
    torch.testing.assert_close(o, truth, rtol=0, atol=1e-11)
    d_o = torch.randn(o.shape, dtype=o.dtype, generator=torch.Generator().manual_seed(1))
    gradient = torch.autograd.grad(o, inputs, d_o)
    for ours, true in zip(gradient, torch.autograd.grad(truth, inputs, d_o)):
        torch.testing.assert_close(ours, true, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", ["direct", "factorised"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("p", [1, 2])
def test_both_forms_in_float32(method, causal, p):
    """Tolerance: float32 rounds at 6e-8; some hundred additions of it, relative to the output's size."""
    inputs = make_inputs((2, 2, 2, 200, 200, 16, 16), torch.float32, requires_grad=True)
    doubles = [x.detach().double().requires_grad_() for x in inputs]
    o, *_ = ops.forward(*inputs, p=p, causal=causal, method=method)
    truth = definition(*doubles, p=p, causal=causal)
    assert rms(o - truth) < 2e-6 * rms(truth)
    d_o = torch.ones_like(o)
    for ours, true in zip(
        torch.autograd.grad(o, inputs, d_o), torch.autograd.grad(truth, doubles, d_o.double())
    ):
        assert rms(ours - true) < 1e-5 * rms(true)


def test_scale_is_the_factor_of_the_score():
    inputs = make_inputs((1, 2, 2, 9, 9, 6, 6))
    o, *_ = ops.forward(*inputs, scale=0.25)
    torch.testing.assert_close(o, definition(*inputs, scale=0.25), rtol=0, atol=1e-12)


@pytest.mark.parametrize("p", [1, 2, 3, 4])
def test_default_scale_keeps_every_weight_positive(p):
    inputs = make_inputs((1, 2, 2, 40, 40, 6, 6))
    o, g, *_ = ops.forward(*inputs, p=p)
    torch.testing.assert_close(o, definition(*inputs, p=p), rtol=0, atol=1e-6)
    assert (g > 0).all()


def test_gradcheck():
    inputs = make_inputs((1, 2, 1, 5, 7, 4, 3), requires_grad=True)
    weight = make_weight(1, 7)
    for p, causal in itertools.product((1, 2), (False, True)):
        assert torch.autograd.gradcheck(
            lambda q, k, v: ops.forward(q, k, v, weight, p=p, causal=causal)[0], inputs
        )


@pytest.mark.parametrize("tokens_first", [False, True])
def test_opcheck(tokens_first):
    """Schema, fake tensors, autograd registration and tracing, by PyTorch's own checks."""
    q, k, v = make_inputs((2, 4, 2, 9, 9, 8, 6), requires_grad=True)
    if tokens_first:  # [B, H, N, D] over memory of [B, N, H, D]
        q, k, v = (
            x.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for x in (q, k, v)
        )
    weight = make_weight(2, 9)
    torch.library.opcheck(ops.forward.default, (q, k, v))
    torch.library.opcheck(ops.forward.default, (q, k, v, weight), {"p": 1, "causal": True})
    spread = torch.stack([q.detach(), q.detach()], -1)[..., 0]  # D is not adjacent
    torch.library.opcheck(ops.forward.default, (spread, k, v))
    with torch.no_grad():
        o, g, *_ = ops.forward(q, k, v, weight)
        torch.library.opcheck(
            ops.backward.default,
            (torch.ones_like(o), None, o, g, *(x.detach() for x in (q, k, v)), weight),
            test_utils=("test_schema", "test_faketensor"),
        )


def test_opcheck_of_every_option():
    q, k, v = make_inputs((1, 4, 2, 9, 9, 4, 3), torch.float32, requires_grad=True)
    seed, cu = torch.tensor(3), torch.tensor([0, 4, 9], dtype=torch.int32)
    past = torch.ones(2, 2, 15, 4, requires_grad=True)
    options = {"causal": True, "dropout_p": 0.3, "dropout": "token", "return_state": True}
    torch.library.opcheck(ops.forward.default, (q, k, v, None, past, cu, cu, seed), options)
    torch.library.opcheck(ops.forward.default, (q, k, v), {"p": 1, "coefficients": [1.0, 0.1]})
    for tokens in ((q[:, :, :0], k, v), (q, k[:, :, :0], v[:, :, :0]), (q[:, :, :0], k[:, :, :0], v[:, :, :0])):
        for p in (1, 2):
            torch.library.opcheck(ops.forward.default, tokens, {"p": p, "return_state": True})
            torch.library.opcheck(ops.forward.default, tokens, {"p": p})
    halves = [x.detach().bfloat16().requires_grad_() for x in (q, k, v)]
    torch.library.opcheck(ops.forward.default, (*halves, torch.ones(1, 9)), {"normalize": "l2"})


def test_opcheck_of_backward_step_and_weights():
    q, k, v = make_inputs((2, 4, 2, 5, 5, 4, 3))
    past = torch.ones(2, 2, 15, 4, dtype=q.dtype, requires_grad=True)
    o, g, state, _ = ops.forward(q, k, v, None, past, return_state=True)
    gradients = (torch.ones_like(o).requires_grad_(), torch.ones_like(state).requires_grad_())
    inputs = [x.clone().requires_grad_() for x in (q, k, v)]
    torch.library.opcheck(ops.backward.default, (*gradients, o.detach(), g.detach(), *inputs, None, past))
    token = [x[:, :, :1] for x in (q, k, v)]
    torch.library.opcheck(ops.step.default, (*token, past.detach().clone()), {"floor": "clamp"})
    torch.library.opcheck(
        ops.step.default, (*(x.half() for x in token), torch.ones(2, 2, 15, 4)), {"normalize": "none"}
    )
    torch.library.opcheck(
        ops.attention_weights.default, (q, k, make_weight(2, 5), torch.tensor([3, 1])), {"causal": True}
    )


def test_opcheck_of_the_composite_operators():
    q, k, v = make_inputs((1, 4, 2, 9, 9, 4, 3), torch.float32, requires_grad=True)
    seed, cu = torch.tensor(3), torch.tensor([0, 4, 9], dtype=torch.int32)
    past = torch.ones(2, 2, 15, 4, requires_grad=True)
    options = {"causal": True, "dropout_p": 0.3, "dropout": "token", "return_state": True}
    torch.library.opcheck(ops.composite_forward.default, (q, k, v))
    torch.library.opcheck(ops.composite_forward.default, (q, k, v, None, past, cu, cu, seed), options)
    torch.library.opcheck(ops.composite_forward.default, (q, k, v), {"p": 1, "coefficients": [1.0, 0.1]})
    o, g, state, _ = ops.composite_forward(q, k, v, None, past[:1], return_state=True)
    gradients = (torch.ones_like(o).requires_grad_(), torch.ones_like(state).requires_grad_())
    inputs = [x.detach().clone().requires_grad_() for x in (q, k, v)]
    saved = (o.detach(), g.detach(), *inputs, None, past[:1].detach().requires_grad_())
    torch.library.opcheck(ops.composite_backward.default, (*gradients, *saved))
    torch.library.opcheck(
        ops.composite_attention_weights.default, (q, k, make_weight(1, 9, torch.float32), torch.tensor([3, 1])), {"causal": True}
    )


def test_opcheck_of_a_plan_and_of_every_operator():
    """Those that take tensors are checked above and here; a new one is to join them."""
    q, k, v = make_inputs((2, 4, 2, 5, 5, 4, 3))
    torch.library.opcheck(ops.plan.default, (q, k, v), {"p": 1}, test_utils=("test_schema", "test_faketensor"))
    names = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith("fastmax::")}
    of_tensors = {"forward", "backward", "step", "attention_weights", "plan"}
    of_tensors |= {f"composite_{name}" for name in ("forward", "backward", "attention_weights")}
    assert names == {f"fastmax::{name}" for name in of_tensors | {"build", "targets"}}


def test_the_library_calls_nothing_of_torch_but_its_stable_abi():
    """One file for every PyTorch from 2.10 on: C functions, whose names are promised, and no C++ of torch's."""
    listing = subprocess.run(["nm", "-D", "-C", "--undefined-only", _find_library()], capture_output=True, text=True, check=True)
    names = [line.split(None, 1)[1] for line in listing.stdout.splitlines()]
    torchs = [name for name in names if re.search("torch|c10|at::|caffe", name)]
    assert len(torchs) > 10
    assert not [name for name in torchs if not re.match("(aoti_)?torch_[a-z0-9_]+$", name)]


def test_outputs_lie_in_memory_as_q_does():
    qkv = torch.randn(2, 10, 3, 4, 8)
    q, k, v = (x.transpose(1, 2) for x in qkv.unbind(2))
    o, *_ = ops.forward(q, k, v)
    assert o.transpose(1, 2).is_contiguous()
    torch.testing.assert_close(o, ops.forward(*(x.contiguous() for x in (q, k, v)))[0], rtol=0, atol=0)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("method", ["direct", "factorised"])
def test_numbers_do_not_depend_on_the_number_of_threads(method, causal):
    inputs = make_inputs((2, 3, 3, 300, 300, 16, 16), torch.float32, requires_grad=True)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            o, *_ = ops.forward(*inputs, causal=causal, method=method)
            results.append((o, *torch.autograd.grad(o.sin().sum(), inputs)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for x, y in zip(results[0], other):
            assert torch.equal(x, y)


def test_compiles_whole_and_differentiates():
    def loss(q, k, v):
        return ops.forward(q, k, v, causal=True)[0].sin().sum()

    # aot_eager traces shapes, strides and gradients as the default back end does, without a compiler.
    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    for N in (6, 11):
        inputs = make_inputs((2, 2, 2, N, N, 4, 4), requires_grad=True)
        expected = torch.autograd.grad(loss(*inputs), inputs)
        for x, y in zip(torch.autograd.grad(compiled(*inputs), inputs), expected):
            torch.testing.assert_close(x, y)


def test_autocast_gives_its_type_and_keeps_that_of_weights_and_states():
    q, k, v = make_inputs((1, 2, 2, 8, 8, 4, 4), torch.float32)
    weight = make_weight(1, 8, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        o, g, state, _ = ops.forward(q, k.bfloat16(), v, weight, causal=True, return_state=True)
        doubles, *_ = ops.forward(q.double(), k.double(), v.double())
    assert (o.dtype, g.dtype, state.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    assert doubles.dtype == torch.float64
    rounded = ops.forward(*(x.bfloat16() for x in (q, k, v)), weight, causal=True)[0]
    assert torch.equal(o, rounded)


def test_empty_sizes_are_legal():
    shape = {"B": (0, 2, 2, 5, 5, 4, 4), "N": (1, 2, 2, 0, 5, 4, 4), "M": (1, 2, 2, 5, 0, 4, 4)}
    for inputs in (make_inputs(s, requires_grad=True) for s in shape.values()):
        o, *_ = ops.forward(*inputs)
        assert o.shape == inputs[0].shape and not o.any()
        assert not any(x.any() for x in torch.autograd.grad(o.sum(), inputs))


@pytest.mark.parametrize("dropout", ["quadratic", "standard", "token"])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_weights_with_dropout_are_what_forward_applies(dropout, causal):
    q, k, v = make_inputs((2, 4, 2, 9, 12, 4, 3))
    weight, seed = make_weight(2, 12), torch.tensor(11)
    options = {"dropout_p": 0.4, "dropout": dropout, "causal": causal}
    a = ops.attention_weights(q, k, weight, None, seed, **options)
    o, *_ = ops.forward(q, k, v, weight, None, None, None, seed, **options)
    torch.testing.assert_close(a @ v.repeat_interleave(2, 1), o, rtol=0, atol=1e-13)


def test_what_nobody_asked_for_is_none():
    inputs = make_inputs((1, 1, 1, 5, 5, 4, 4))
    o, g, final_state, smallest = ops.forward(*inputs)
    assert final_state is None and smallest is None
    assert ops.backward(o, None, o, g, *inputs)[3] is None
    *_, final_state, smallest = ops.forward(*inputs, p=1, return_state=True)
    assert final_state.shape == (1, 1, 5, 5) and smallest > 0


def test_plan_says_why_and_targets_are_named():
    q, k, v = make_inputs((1, 1, 1, 64, 64, 8, 8), torch.float32)
    for backward in (False, True):
        assert ops.plan(q, k, v, method="direct", backward=backward).startswith("direct: ")
        assert ops.plan(q, k, v, method="factorised", backward=backward).startswith("factorised: ")
        assert ops.plan(q[:, :, :8], k, v, backward=backward).startswith("direct: few")
    assert ops.targets().split()


def change(**arguments):
    return arguments


Q = torch.zeros(2, 4, 5, 8)
BAD = [
    (change(q=Q[0]), "q of 4 dimensions [B, H, N, D], got 3"),
    (change(q=Q.int()), "q of float32, float64, bfloat16 or float16, got Int"),
    (change(k=Q.double()), "k of dtype Float, got Double"),
    (change(k=Q[..., :4]), "k.D == q.D, got 4 and 8"),
    (change(v=Q[:, :, :3]), "v.N == k.N, got 3 and 5"),
    (change(k=Q[:1]), "k.B == q.B, got 1 and 2"),
    (change(k=Q[:, :3], v=Q[:, :3]), "q.H a multiple of k.H, got 4 and 3"),
    (change(key_weight=torch.ones(2, 5).bool()), "key_weight of dtype Float, got Bool"),
    (change(key_weight=torch.ones(5)), "key_weight of 2 dimensions [B, M], got 1"),
    (change(key_weight=torch.ones(2, 4)), "key_weight.N == k.N, got 4 and 5"),
    (change(key_weight=torch.full((2, 5), -0.5)), "2^-60 .. 2^40, got -0.5"),
    (change(key_weight=torch.full((2, 5), torch.nan)), "2^-60 .. 2^40, got nan"),
    (change(p=0), "p in 1..4, got 0"),
    (change(p=2**32 + 2), "p in 1..4, got 4294967298"),
    (change(method="fast"), "method 'auto', 'direct' or 'factorised', got 'fast'"),
    (change(k=Q[:, :, :3], v=Q[:, :, :3], causal=True), "q.N <= k.N when causal"),
    (change(q=Q[..., :0], k=Q[..., :0]), "q.D >= 1, got 0"),
    (change(scale=-1.0), "scale > 0 and finite, got -1"),
    (change(chunk=63), "chunk a multiple of 64 (0: planned), got 63"),
    (change(chunk=-64), "0 <= chunk < 2^30, got -64"),
    (change(cu_k=torch.zeros(2).int()), "cu_q with cu_k, got cu_k alone"),
    (change(cu_q=torch.zeros(2)), "cu_q of dtype Int, got Float"),
    (change(dropout_p=0.1), "a seed with dropout_p 0.1, got none"),
    (change(dropout_p=0.1, seed=torch.zeros(1)), "seed an int64 tensor of one element, got Float of 1"),
    (change(dropout_p=0.1, seed=torch.zeros(2).long()), "seed an int64 tensor of one element, got Long of 2"),
    (change(dropout_p=0.1, seed=torch.tensor(3, device="meta")), "seed on the CPU or q's device cpu, got meta"),
    (change(initial_state=Q), "initial_state.F == C(D + p, p) = 45, got 5"),
]


@pytest.mark.parametrize("name", ["forward", "composite_forward"])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_seed_is_on_the_cpu_or_with_the_tokens(device, name):
    tokens = [Q.to(device)] * 3
    forward = getattr(ops, name)
    for seed in (torch.tensor(3), torch.tensor(3, device=device)):
        assert forward(*tokens, seed=seed, dropout_p=0.1)[0].device.type == device
    o, g, *_ = forward(*tokens)
    with pytest.raises(ValueError, match="d_o on q's device"):
        getattr(ops, name.replace("for", "back"))(Q.to("meta" if device == "cpu" else "cpu"), None, o, g, *tokens)


@pytest.mark.parametrize("arguments, text", BAD, ids=[text for _, text in BAD])
def test_bad_input_is_one_line_that_says_what_came(arguments, text):
    with pytest.raises(ValueError) as error:
        ops.forward(**{"q": Q, "k": Q, "v": Q, **arguments})
    message = str(error.value)
    assert message.startswith("fastmax: need ") and "\n" not in message
    assert text in message


def test_a_state_to_write_to_has_no_gaps():
    state = torch.zeros(2, 4, 45, 18)[..., ::2]
    with pytest.raises(ValueError, match="a contiguous state, got one with gaps"):
        ops.step(Q[:, :, :1], Q[:, :, :1], Q[:, :, :1], state)


def test_autograd_knows_that_a_step_wrote_to_the_state():
    state = torch.ones(2, 4, 45, 9)
    needs_old_state = (state * torch.ones((), requires_grad=True)).sum()
    ops.step(Q[:, :, :1], Q[:, :, :1], Q[:, :, :1], state)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        needs_old_state.backward()


def test_a_plan_is_of_one_sequence():
    with pytest.raises(ValueError, match="a plan of one sequence, got cu_q"):
        ops.plan(Q[:1], Q[:1], Q[:1], None, None, torch.tensor([0, 5], dtype=torch.int32))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_second_gradient(causal, weighted):
    """Also through both states."""
    q, k, v = make_inputs((1, 4, 2, 5, 7, 3, 2), requires_grad=True)
    weight = make_weight(1, 7) if weighted else None
    state = torch.randn(1, 2, 10, 3, dtype=torch.float64)
    state[:, :, 0, -1] = 50  # the weight of the past: denominators stay away from zero
    state.requires_grad_()

    def without(q, k, v):
        return ops.forward(q, k, v, weight, causal=causal)[0]

    def with_states(q, k, v, state):
        o, _, final_state, _ = ops.forward(q, k, v, weight, state, causal=causal, return_state=True)
        return o, final_state

    assert torch.autograd.gradgradcheck(without, (q, k, v), fast_mode=True)
    assert torch.autograd.gradcheck(with_states, (q, k, v, state), fast_mode=True)
    assert torch.autograd.gradgradcheck(with_states, (q, k, v, state), fast_mode=True)


MORE = [
    {"dropout_p": 0.3},
    {"dropout_p": 0.3, "dropout": "standard", "causal": True},
    {"dropout_p": 0.3, "dropout": "token", "causal": True},
    {"normalize": "max_norm"},
    {"coefficients": [1.0, 0.5, 0.4], "causal": True},
    {"p": 4, "causal": True},
    {"packed": True, "causal": True},
    {"packed": True, "normalize": "max_norm"},
]


@pytest.mark.parametrize("name", ["forward", "composite_forward"])
@pytest.mark.parametrize("options", MORE, ids=str)
def test_second_gradient_of_more_options(options, name):
    options = {**options, "floor": "clamp"}
    q, k, v = make_inputs((1, 4, 2, 5, 5, 3, 2), requires_grad=True)
    cu = torch.tensor([0, 2, 5], dtype=torch.int32) if options.pop("packed", False) else None
    seed = torch.tensor(3) if "dropout_p" in options else None

    def function(q, k, v):
        return getattr(ops, name)(q, k, v, None, None, cu, cu, seed, **options)[0]

    assert torch.autograd.gradcheck(function, (q, k, v), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (q, k, v), fast_mode=True)
