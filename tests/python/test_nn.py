"""fastmax.nn against torch.nn: the same constructor, parameters and call, and the definition between the projections."""

import copy
import inspect
import pickle

import pytest
import torch
from inputs import normal
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import fastmax
from fastmax import reference

MHA = fastmax.nn.MultiheadAttention


def defined(module, query, key, value, is_causal=False, key_weight=None, **options):
    """The module by the definition, from the weights that a torch.nn.MultiheadAttention of its kind has; [B, N, E]."""
    E, H = module.embed_dim, module.num_heads
    if module.in_proj_weight is None:
        weights = module.q_proj_weight, module.k_proj_weight, module.v_proj_weight
    else:
        weights = module.in_proj_weight.split(E)
    biases = [None] * 3 if module.in_proj_bias is None else module.in_proj_bias.split(E)
    q, k, v = (F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases))
    if module.bias_k is not None:
        B = k.size(0)
        k = torch.cat([module.bias_k.expand(B, 1, E), k], 1)
        v = torch.cat([module.bias_v.expand(B, 1, E), v], 1)
        if key_weight is not None:
            key_weight = F.pad(key_weight, (1, 0), value=1)
    q, k, v = (x.unflatten(-1, (H, E // H)).transpose(1, 2) for x in (q, k, v))
    o = reference.attention(q, k, v, is_causal=is_causal, key_weight=key_weight, **options)
    return module.out_proj(o.transpose(1, 2).flatten(2))


def test_constructor_and_call_are_pytorchs():
    for ours, theirs in ((MHA.__init__, nn.MultiheadAttention.__init__), (MHA.forward, nn.MultiheadAttention.forward)):
        ours, theirs = inspect.signature(ours).parameters, inspect.signature(theirs).parameters
        assert [*ours][: len(theirs)] == [*theirs]
        assert all(ours[name].default == theirs[name].default for name in theirs if name != "batch_first")
    assert inspect.signature(MHA).parameters["batch_first"].default is True


KINDS = [
    {},
    {"bias": False},
    {"kdim": 6, "vdim": 10},
    {"add_bias_kv": True},
    {"add_zero_attn": True},
    {"add_bias_kv": True, "add_zero_attn": True, "bias": False},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_parameters_are_pytorchs(kind):
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(8, 2, **kind)
    torch.manual_seed(0)
    ours = MHA(8, 2, **kind)
    assert [*ours.state_dict()] == [*theirs.state_dict()]
    assert all(ours.state_dict()[name].shape == x.shape for name, x in theirs.state_dict().items())
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", [{}, {"bias": False}, {"kdim": 6, "vdim": 10}, {"add_bias_kv": True}], ids=str)
@pytest.mark.parametrize("options", [{}, {"p": 1}, {"p": 4, "scale": 0.4, "normalize": "l2"}], ids=str)
def test_output_and_gradient_are_the_definitions(options, kind, causal):
    theirs = nn.MultiheadAttention(8, 2, dtype=torch.float64, **kind)
    module = MHA(8, 2, batch_first=True, dtype=torch.float64, **kind, **options)
    module.load_state_dict(theirs.state_dict())
    inputs = [normal(3, 5, 8), normal(3, 7, kind.get("kdim", 8), seed=1), normal(3, 7, kind.get("vdim", 8), seed=2)]
    padding = torch.zeros(3, 7, dtype=torch.bool)
    padding[1, 5:] = padding[2, :2] = True
    o, weights = module(*inputs, key_padding_mask=padding, is_causal=causal)
    truth = defined(theirs, *inputs, is_causal=causal, key_weight=(~padding).double(), **options)
    torch.testing.assert_close(o, truth, rtol=0, atol=1e-12)
    assert weights.shape == (3, 5, 7 + ("add_bias_kv" in kind))
    for ours, true in zip(torch.autograd.grad(o.square().sum(), [*module.parameters()]),
                          torch.autograd.grad(truth.square().sum(), [*theirs.parameters()])):  # fmt: skip
        torch.testing.assert_close(ours, true, rtol=1e-9, atol=1e-10)


def test_self_attention_is_one_product_with_the_same_numbers():
    module = MHA(8, 2, batch_first=True, dtype=torch.float64)
    x = normal(2, 6, 8)
    torch.testing.assert_close(module(x, x, x)[0], module(x, x.clone(), x.clone())[0], rtol=0, atol=1e-13)


def test_layouts():
    """Tokens first, batch first, and no batch."""
    module = MHA(8, 2, batch_first=False, dtype=torch.float64)
    x, padding = normal(6, 3, 8), torch.arange(6) > torch.tensor([[2], [4], [5]])
    o, weights = module(x, x, x, padding, is_causal=True)
    for b in range(3):
        single, a = module(x[:, b], x[:, b], x[:, b], padding[b], is_causal=True)
        torch.testing.assert_close(single, o[:, b])
        torch.testing.assert_close(a, weights[b])
    first = MHA(8, 2, dtype=torch.float64)
    first.load_state_dict(module.state_dict())
    swapped = x.transpose(0, 1)
    torch.testing.assert_close(first(swapped, swapped, swapped, padding, is_causal=True)[0], o.transpose(0, 1))


@pytest.mark.parametrize("kind", KINDS[:1] + KINDS[3:], ids=str)
def test_weights_are_what_is_applied(kind):
    """Each head's values are replaced by one-hot vectors: of seven keys, and the extra ones last, as in PyTorch."""
    torch.manual_seed(0)
    module = MHA(8, 2, batch_first=True, dtype=torch.float64, **kind)
    theirs = nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64, **kind)
    query, key = normal(2, 5, 8), normal(2, 7, 8, seed=1)
    o, mean = module(query, key, key)
    assert mean.shape == theirs(query, key, key)[1].shape and not mean.requires_grad
    each = module(query, key, key, average_attn_weights=False)[1]
    torch.testing.assert_close(each.mean(1), mean)
    torch.testing.assert_close(mean.sum(-1), torch.ones(2, 5, dtype=torch.float64))
    values = F.linear(key, module.in_proj_weight[16:], None if module.in_proj_bias is None else module.in_proj_bias[16:])
    if module.bias_v is not None:
        values = torch.cat([values, module.bias_v.expand(2, 1, 8)], 1)
    if module.add_zero_attn:
        values = F.pad(values, (0, 0, 0, 1))
    heads = each @ values.unflatten(-1, (2, 4)).transpose(1, 2)
    torch.testing.assert_close(module.out_proj(heads.transpose(1, 2).flatten(2)), o)
    assert module(query, key, key, need_weights=False)[1] is None


def test_masks():
    module = MHA(8, 2, batch_first=True, dtype=torch.float64)
    x = normal(2, 6, 8)
    causal = module(x, x, x, is_causal=True)[0]
    hidden = torch.ones(6, 6, dtype=torch.bool).triu(1)
    for mask in (hidden, nn.Transformer.generate_square_subsequent_mask(6)):
        for hint in (False, True):
            assert torch.equal(module(x, x, x, attn_mask=mask, is_causal=hint)[0], causal)
    assert torch.equal(module(x, x, x, attn_mask=torch.zeros(6, 6))[0], module(x, x, x)[0])
    last_two = module(x[:, 4:], x, x, attn_mask=hidden[4:])[0]  # of them, the last sees every key
    torch.testing.assert_close(last_two, causal[:, 4:])
    other = hidden.clone()
    other[2, 0] = True
    for mask in (other, ~hidden, torch.full((6, 6), 0.5), torch.zeros(12, 6, 6), hidden.int()):
        with pytest.raises(ValueError, match="need attn_mask the causal mask"):
            module(x, x, x, attn_mask=mask)
    padding = torch.zeros(2, 6, dtype=torch.bool)
    padding[:, 4:] = True
    dropped = module(x, x, x, padding)[0]
    logs = torch.zeros(2, 6).masked_fill(padding, -torch.inf)
    assert torch.equal(module(x, x, x, logs)[0], dropped)
    torch.testing.assert_close(module(x, x[:, :4], x[:, :4])[0], dropped)
    twice = torch.zeros(2, 6, dtype=torch.float64)
    twice[:, 0] = torch.tensor(2.0).log()
    doubled = torch.cat([x[:, :1], x], 1)
    torch.testing.assert_close(module(x, x, x, twice)[0], module(x, doubled, doubled)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [{}, {"add_bias_kv": True, "add_zero_attn": True}], ids=str)
def test_float_masks_may_be_of_any_size(kind):
    """exp of 900 is no number, of -900 nothing: only ratios of weights count, that of extra keys, whose mask is 0, among them."""
    module, x = MHA(8, 2, dtype=torch.float64, **kind), normal(2, 6, 8)
    mask = normal(2, 6, seed=1)
    o, a = module(x, x, x, mask)
    for size in (900, 30, -30, -900):
        shifted, weights = module(x, x, x, mask + size)
        if kind:
            assert weights.shape[-1] == 8 and ((weights[..., 6:] if size > 0 else weights[..., :6]) < 1e-11).all()
            torch.testing.assert_close(weights.sum(-1), torch.ones(2, 6, dtype=torch.float64))
        else:
            torch.testing.assert_close(shifted, o, rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(weights, a, rtol=1e-10, atol=1e-12)
    o, a = module(x, x, x, torch.full((2, 6), -torch.inf))
    assert o.isfinite().all() and (a[..., :6] == 0).all()
    rising = (8 * torch.arange(6.0)).expand(2, 6)
    o, a = module.float()(*[x.float()] * 3, rising, is_causal=True)  # the first queries see little of what counts
    assert o.isfinite().all() and a.isfinite().all() and (a[..., 1:6].sum(-1)[:, 2:] > 0.99).all()


def test_a_float_mask_may_have_a_gradient():
    module, x, mask = MHA(8, 2, dtype=torch.float64), normal(2, 6, 8), normal(2, 6, seed=1).requires_grad_()
    for causal in (False, True):
        o = module(x, x, x, mask, is_causal=causal)[0]
        truth = defined(module, x, x, x, is_causal=causal, key_weight=mask.exp())
        torch.testing.assert_close(o, truth, rtol=0, atol=1e-12)
        ours, true = (torch.autograd.grad(y.square().sum(), mask)[0] for y in (o, truth))
        torch.testing.assert_close(ours, true, rtol=1e-9, atol=1e-10)


def test_dropout_is_of_training_only():
    module = MHA(16, 2, dropout=0.5, batch_first=True, dropout_mode="token")
    x = normal(2, 6, 16, dtype=torch.float32)
    assert not torch.equal(module(x, x, x)[0], module(x, x, x)[0])
    module.eval()
    assert torch.equal(module(x, x, x)[0], module(x, x, x)[0])


def test_in_the_place_of_self_attn():
    """PyTorch's encoder layer has a shortcut for evaluation that would compute softmax from the weights alone."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0, batch_first=True)
    layer.self_attn = MHA(8, 2, batch_first=True)
    x, padding = normal(2, 6, 8, dtype=torch.float32), torch.arange(6) > torch.tensor([[2], [4]])
    expected = layer(x, src_key_padding_mask=padding)
    stack = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    earlier = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1).eval()
    earlier.layers[0].self_attn = MHA(8, 2)
    with torch.no_grad():
        with pytest.raises(ValueError, match="enable_nested_tensor=False"):
            earlier(x, src_key_padding_mask=padding)
        torch.testing.assert_close(layer.eval()(x, src_key_padding_mask=padding), expected)
        twice = layer(expected, src_key_padding_mask=padding)
        torch.testing.assert_close(stack(x, src_key_padding_mask=padding), twice)
        hidden = nn.Transformer.generate_square_subsequent_mask(6)
        first = stack(x, mask=hidden, is_causal=True)[:, :3]
        torch.testing.assert_close(stack(x[:, :3], mask=hidden[:3, :3], is_causal=True), first)


def test_copied_pickled_compiled_and_checkpointed():
    module = MHA(8, 2, batch_first=True, p=1, dtype=torch.float64)
    x = normal(2, 6, 8).requires_grad_()

    def call(module, x):
        return module(x, x, x, need_weights=False, is_causal=True)[0]

    expected = call(module, x)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(call(other, x), expected)
    torch._dynamo.reset()
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")(module, x)
    torch.testing.assert_close(compiled, expected)
    d_x = torch.autograd.grad(expected.sum(), x)[0]
    torch.testing.assert_close(torch.autograd.grad(compiled.sum(), x)[0], d_x)
    again = checkpoint(call, module, x, use_reentrant=False)
    assert torch.equal(torch.autograd.grad(again.sum(), x)[0], d_x)


def test_autocast_and_devices():
    module = MHA(8, 2, batch_first=True)
    x = normal(2, 6, 8, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        o, weights = module(x, x, x)
    assert o.dtype == torch.bfloat16
    torch.testing.assert_close(o.float(), module(x, x, x)[0], rtol=0.1, atol=0.05)
    meta = MHA(8, 2, batch_first=True, device="meta")(*[x.to("meta")] * 3, need_weights=False)[0]
    assert meta.is_meta and meta.shape == x.shape


X = normal(2, 6, 8)
F64 = MHA(8, 2, dtype=torch.float64)
TOKENS_FIRST = MHA(8, 2, batch_first=False, dtype=torch.float64)
BAD = [
    (lambda: MHA(8, 3), ValueError, "embed_dim a multiple of num_heads = 3, got 8"),
    (lambda: MHA(8.0, 2), TypeError, "embed_dim an int"),
    (lambda: MHA(8, 2, kdim=0), ValueError, "kdim >= 1, got 0"),
    (lambda: MHA(8, 2, vdim=4.0), TypeError, "vdim an int, got float"),
    (lambda: MHA(8, 2, scale=-1.0), ValueError, "scale > 0 and finite, got -1.0"),
    (lambda: MHA(8, 0), ValueError, "num_heads >= 1, got 0"),
    (lambda: MHA(8, 2, dropout=1.0), ValueError, "dropout in [0, 1), got 1.0"),
    (lambda: MHA(8, 2, p=5), ValueError, "p in 1..4, got 5"),
    (lambda: MHA(8, 2, p=1, normalize="none"), ValueError, "an explicit scale"),
    (lambda: MHA(8, 2, normalize="layer"), ValueError, "normalize one of"),
    (lambda: MHA(8, 2, bias="no"), TypeError, "bias a bool, got str"),
    (lambda: MHA(8, 2, batch_first=1), TypeError, "batch_first a bool, got int"),
    (lambda: MHA(8, 2, add_bias_kv=None), TypeError, "add_bias_kv a bool, got NoneType"),
    (lambda: MHA(8, 2, add_zero_attn="x"), TypeError, "add_zero_attn a bool, got str"),
    (lambda: MHA(8, 2)(X, X, X), ValueError, "query of the module's torch.float32, got torch.float64"),
    (lambda: F64(X, X.int(), X), ValueError, "key of the module's torch.float64, got torch.int32"),
    (lambda: F64(X, X, X, need_weights="x"), TypeError, "need_weights a bool, got str"),
    (lambda: F64(X, X, X, average_attn_weights=0), TypeError, "average_attn_weights a bool, got int"),
    (lambda: F64(X, X, X, torch.full((2, 6), torch.nan)), ValueError, "exp(key_padding_mask) 0 or in 2^-60 .. 2^40, got nan"),
    (lambda: F64(X, X, X, torch.full((2, 6), torch.inf)), ValueError, "exp(key_padding_mask) 0 or in 2^-60 .. 2^40"),
    (lambda: MHA(8, 2, normalize="max_norm", dtype=torch.float64)(X, X, X, is_causal=True), ValueError, "other than 'max_norm' when causal"),
    (lambda: MHA(8, 2, dropout_mode="weights"), ValueError, "dropout_mode one of"),
    (lambda: TOKENS_FIRST(X, None, None), TypeError, "key a Tensor, got NoneType"),
    (lambda: TOKENS_FIRST(X[0, 0], X, X), ValueError, "query of 3 dimensions, or 2 without a batch, got 1"),
    (lambda: TOKENS_FIRST(X, X[..., :4], X), ValueError, "key of 8 channels, got 4"),
    (lambda: TOKENS_FIRST(X, X[:, :3], X), ValueError, "key of query's batch size 6, got 3"),
    (lambda: TOKENS_FIRST(X, X, X[:1]), ValueError, "value of key's batch and tokens [6, 2], got [6, 1]"),
    (lambda: TOKENS_FIRST(X, X, X, torch.zeros(2, 6) > 0), ValueError, "key_padding_mask of shape [6, 2]"),
    (lambda: TOKENS_FIRST(X, X, X, torch.zeros(6, 2).int()), ValueError, "key_padding_mask boolean or float"),
    (lambda: TOKENS_FIRST(X, X[:1], X[:1], is_causal=True), ValueError, "at most as many queries as keys when causal"),
    (lambda: TOKENS_FIRST(X, X, X, is_causal=1), TypeError, "is_causal a bool, got int"),
]


@pytest.mark.parametrize("call, kind, text", BAD)
def test_wrong_calls(call, kind, text):
    with pytest.raises(kind) as caught:
        call()
    assert text in str(caught.value) and "\n" not in str(caught.value)
