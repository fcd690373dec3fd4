"""Every wrong call: one line that names the argument, says what was needed and what came. Nothing is computed."""

import pytest
import torch

import fastmax
from fastmax import FastmaxState
from fastmax._errors import in_callers_words

X = torch.zeros(2, 4, 5, 8)
ONE = torch.zeros(2, 4, 8)
W = torch.ones(2, 5)
PACKED = X[:1]
NESTED = torch.nested.as_nested_tensor([X[0], X[1, :, :3]], layout=torch.strided)


def state(**options):
    return FastmaxState.zeros(2, 4, 8, 8, **options)


def offsets(*numbers, dtype=torch.int32):
    return torch.tensor(numbers, dtype=dtype)


# name of the test, arguments beside query = key = value = X, kind of error, what the message contains
CALLS = [
    # tensors
    ({"query": None}, TypeError, "query a Tensor, got NoneType"),
    ({"key": [1.0]}, TypeError, "key a Tensor, got list"),
    ({"value": 1.0}, TypeError, "value a Tensor, got float"),
    ({"query": X[0, 0]}, ValueError, "query of 3 dimensions or more [..., heads, tokens, channels], got 2"),
    ({"query": X[0]}, ValueError, "key of query's leading dimensions [], got [2]"),
    ({"value": X[:1]}, ValueError, "value.B == query.B, got 1 and 2"),
    ({"key": X[:1]}, ValueError, "key.B == query.B, got 1 and 2"),
    ({"query": X.int()}, ValueError, "query of float32, float64, bfloat16 or float16, got torch.int32"),
    ({"query": X.bool()}, ValueError, "query of float32, float64, bfloat16 or float16, got torch.bool"),
    ({"query": X.cfloat()}, ValueError, "query of float32, float64, bfloat16 or float16, got torch.complex64"),
    ({"key": X.double()}, ValueError, "key of dtype torch.float32, got torch.float64"),
    ({"value": X.bfloat16()}, ValueError, "value of dtype torch.float32, got torch.bfloat16"),
    ({"key": X[..., :4]}, ValueError, "key.D == query.D, got 4 and 8"),
    ({"value": X[:, :, :3]}, ValueError, "value.M == key.M, got 3 and 5"),
    ({"query": X[..., :0], "key": X[..., :0]}, ValueError, "query.D >= 1, got 0"),
    ({"value": X[..., :0]}, ValueError, "value.E >= 1, got 0"),
    # heads
    ({"key": X[:, :2], "value": X[:, :2]}, ValueError, "as many key heads as query heads, or enable_gqa=True, got 2 and 4"),
    ({"key": X[:, :3], "value": X[:, :3], "enable_gqa": True}, ValueError, "query.H a multiple of key.H, got 4 and 3"),
    ({"key": X[:, :2], "enable_gqa": True}, ValueError, "value.H == key.H, got 4 and 2"),
    ({"enable_gqa": 1}, TypeError, "enable_gqa a bool, got int"),
    # devices and layouts
    ({"query": X.to("meta")}, ValueError, "key on query's device meta, got cpu"),
    ({"key": X.to("meta")}, ValueError, "key on query's device cpu, got meta"),
    ({"value": X.to("meta")}, ValueError, "value on query's device cpu, got meta"),
    ({"key_weight": W.to("meta")}, ValueError, "key_weight on query's device cpu, got meta"),
    ({"attn_mask": torch.ones(5, device="meta").bool()}, ValueError, "key_weight on query's device cpu, got meta"),
    ({"initial_state": state(device="meta")}, ValueError, "initial_state on query's device cpu, got meta"),
    ({"query": X.to_sparse()}, ValueError, "query dense, got torch.sparse_coo"),
    ({"value": X.to_sparse()}, ValueError, "value dense, got torch.sparse_coo"),
    ({"query": NESTED, "key": NESTED, "value": NESTED}, ValueError, "query not nested"),
    ({"value": NESTED}, ValueError, "value not nested (sequences of several lengths are cu_seqlens or key_weight), got a nested"),
    # p, scale, normalize, coefficients, floor, method
    ({"p": 0}, ValueError, "p in 1..4, got 0"),
    ({"p": 5}, ValueError, "p in 1..4, got 5"),
    ({"p": 10**30}, ValueError, "p in 1..4, got 1000000000000000000000000000000"),
    ({"p": 2.0}, TypeError, "p an int, got float"),
    ({"p": True}, TypeError, "p an int, got bool"),
    ({"p": "2"}, TypeError, "p an int, got str"),
    ({"scale": 0.0}, ValueError, "scale > 0 and finite, got 0"),
    ({"scale": -1.0}, ValueError, "scale > 0 and finite, got -1"),
    ({"scale": float("nan")}, ValueError, "scale > 0 and finite, got nan"),
    ({"scale": float("inf")}, ValueError, "scale > 0 and finite, got inf"),
    ({"scale": "1"}, TypeError, "scale a number or None, got str"),
    ({"normalize": "softmax"}, ValueError, "normalize 'standardize', 'l2', 'none' or 'max_norm', got 'softmax'"),
    ({"normalize": None}, TypeError, "normalize a str, got NoneType"),
    ({"normalize": "max_norm", "is_causal": True}, ValueError, "normalize other than 'max_norm' when causal"),
    ({"normalize": "none", "p": 1}, ValueError, "an explicit scale for odd p"),
    ({"coefficients": [1, 1]}, ValueError, "coefficients c_0 .. c_p, p + 1 = 3 of them, got 2"),
    ({"coefficients": [1, 1, 0]}, ValueError, "coefficients[p] != 0, got 0"),
    ({"coefficients": [-1, 1, 1]}, ValueError, "coefficients[0] > 0, got -1"),
    ({"coefficients": [1, 1, float("nan")]}, ValueError, "coefficients finite, got nan"),
    ({"coefficients": 1.0}, TypeError, "coefficients a sequence of numbers or None, got float"),
    ({"coefficients": ["1", "1", "1"]}, TypeError, "coefficients a sequence of numbers or None, got str"),
    ({"floor": "none"}, ValueError, "floor 'auto', 'clamp' or 'error', got 'none'"),
    ({"floor": None}, TypeError, "floor a str, got NoneType"),
    ({"method": "fast"}, ValueError, "method 'auto', 'direct', 'factorised' or 'composite', got 'fast'"),
    ({"method": None}, TypeError, "method a str, got NoneType"),
    # causal
    ({"key": X[:, :, :3], "value": X[:, :, :3], "is_causal": True}, ValueError, "query.N <= key.M when causal"),
    ({"is_causal": "yes"}, TypeError, "is_causal a bool, got str"),
    ({"is_causal": 1}, TypeError, "is_causal a bool, got int"),
    # masks and weights
    ({"attn_mask": torch.zeros(5, 5)}, ValueError, "attn_mask a boolean key padding mask"),
    ({"attn_mask": torch.ones(5, 5).tril().bool()}, ValueError, "(for the causal mask is_causal=True"),
    ({"attn_mask": torch.ones(5, 5).tril().bool()}, ValueError, "for blocks of a sequence cu_seqlens"),
    ({"attn_mask": torch.zeros(5, 5)}, ValueError, "for an additive mask of 0 and -inf mask == 0)"),
    ({"query": X[0], "key": X[0], "value": X[0], "attn_mask": torch.eye(4, 5)[:, None].bool()}, ValueError,
     "a batch without heads is query.unsqueeze(1)), got [4, 1, 5]"),
    ({"attn_mask": torch.eye(2, 5).bool()}, ValueError, "broadcastable to [2, 1, 1, 5]"),
    ({"attn_mask": torch.ones(2, 1, 1, 4).bool()}, ValueError, "got [2, 1, 1, 4]"),
    ({"attn_mask": torch.ones(3, 1, 1, 5).bool()}, ValueError, "got [3, 1, 1, 5]"),
    ({"attn_mask": torch.ones(0, 5).bool()}, ValueError, "got [0, 5]"),
    ({"query": X[:, :, :0], "attn_mask": torch.ones(0, 4).bool()}, ValueError, "got [0, 4]"),
    ({"attn_mask": True}, TypeError, "attn_mask a Tensor, got bool"),
    ({"attn_mask": torch.ones(5).bool(), "key_weight": W}, ValueError, "attn_mask or key_weight, got both"),
    ({"key_weight": W.bool()}, ValueError, "key_weight of dtype torch.float32, got torch.bool"),
    ({"key_weight": W.double()}, ValueError, "key_weight of dtype torch.float32, got torch.float64"),
    ({"key_weight": W[0]}, ValueError, "key_weight of 2 dimensions [B, M], got 1"),
    ({"key_weight": W[:, :4]}, ValueError, "key_weight.M == key.M, got 4 and 5"),
    ({"key_weight": W[:1]}, ValueError, "key_weight.B == key.B, got 1 and 2"),
    ({"key_weight": -W}, ValueError, "key_weight 0 or in 2^-60 .. 2^40, got -1"),
    ({"key_weight": W * torch.nan}, ValueError, "key_weight 0 or in 2^-60 .. 2^40, got nan"),
    ({"key_weight": [1.0]}, TypeError, "key_weight a Tensor, got list"),
    ({"key_weight": W.clone().requires_grad_()}, ValueError, "key_weight without gradient"),
    # dropout
    ({"dropout_p": 1.0}, ValueError, "0 <= dropout_p < 1, got 1"),
    ({"dropout_p": -0.1}, ValueError, "0 <= dropout_p < 1, got -0.1"),
    ({"dropout_p": float("nan")}, ValueError, "0 <= dropout_p < 1, got nan"),
    ({"dropout_p": "0.1"}, TypeError, "dropout_p a number, got str"),
    ({"dropout_p": 0.1, "dropout": "cubic"}, ValueError, "dropout 'quadratic', 'standard' or 'token', got 'cubic'"),
    ({"dropout": "cubic"}, ValueError, "dropout 'quadratic', 'standard' or 'token', got 'cubic'"),
    ({"dropout": 1}, TypeError, "dropout a str, got int"),
    ({"dropout_p": 0.1, "method": "direct"}, ValueError, "method other than 'direct' with dropout of features"),
    ({"dropout_p": 0.1, "return_state": True}, ValueError, "no dropout of features with a state"),
    # packed sequences
    ({"cu_seqlens": offsets(0, 5)}, ValueError, "B == 1 for packed sequences, got 2"),
    ({"cu_seqlens": [0, 5]}, TypeError, "cu_seqlens a Tensor or a pair of them, got list"),
    ({"cu_seqlens": (offsets(0, 5),) * 3}, ValueError, "cu_seqlens a Tensor or a pair of them, for queries and for keys, got 3"),
    ({"cu_seqlens": offsets(0, 5, dtype=torch.int64)}, ValueError, "cu_seqlens int32 [S + 1], got torch.int64"),
    ({"cu_seqlens": offsets(0, 5)[None]}, ValueError, "cu_seqlens int32 [S + 1]"),
    # states
    ({"initial_state": X}, TypeError, "initial_state a FastmaxState, got Tensor"),
    ({"initial_state": state(p=1)}, ValueError, "p 1, scale 0.125, normalize 'standardize' and coefficients None as in initial_state"),
    ({"initial_state": state(), "scale": 0.5}, ValueError, "as in initial_state, got p 2, scale 0.5"),
    ({"initial_state": state(dtype=torch.float64)}, ValueError, "initial_state of dtype torch.float32, got torch.float64"),
    ({"initial_state": FastmaxState.zeros(1, 4, 8, 8)}, ValueError, "initial_state.B == key.B"),
    ({"initial_state": FastmaxState.zeros(2, 2, 8, 8)}, ValueError, "initial_state.H == key.H, got 2 and 4"),
    ({"initial_state": FastmaxState.zeros(2, 4, 8, 3)}, ValueError, "initial_state.E == value.E, got 3 and 8"),
    ({"initial_state": FastmaxState.zeros(2, 4, 7, 8)}, ValueError, "initial_state.F == C(D + p, p) = 45, got 36"),
    ({"initial_state": state(), "method": "direct"}, ValueError, "method other than 'direct' with a state"),
    ({"return_state": True, "normalize": "max_norm"}, ValueError, "normalize other than 'max_norm' with a state"),
    ({"return_state": 1}, TypeError, "return_state a bool, got int"),
]  # fmt: skip


def check(call, kind, text):
    with pytest.raises((ValueError, TypeError)) as error:
        call()
    message = str(error.value)
    assert message.startswith("fastmax: need ") and "\n" not in message, message
    assert text in message
    assert error.type is kind


# The path of torch operations refuses the same in the same words, but for gradients of weights, which it has.
COMPOSITE = [({**a, "method": "composite"}, kind, text) for a, kind, text in CALLS
             if "method" not in a and "without gradient" not in text]  # fmt: skip


@pytest.mark.parametrize("arguments, kind, text", CALLS + COMPOSITE, ids=[f"{[*a]}: {t}" for a, _, t in CALLS + COMPOSITE])
def test_wrong_calls(arguments, kind, text):
    arguments = {"query": X, "key": X, "value": X, **arguments}
    check(lambda: fastmax.scaled_dot_product_attention(**arguments), kind, text)


# Sparse and nested tensors are PyTorch's to refuse there.
COMPILED = [(a, kind, text) for a, kind, text in CALLS + COMPOSITE if not ("dense" in text or "nested" in text)]


@pytest.mark.parametrize("arguments, kind, text", COMPILED, ids=[f"{[*a]}: {t}" for a, _, t in COMPILED])
def test_wrong_calls_under_compile(arguments, kind, text):
    """The operators check as the graph runs, and their words are those of the core."""
    torch._dynamo.reset()
    compiled = torch.compile(fastmax.scaled_dot_product_attention, backend="eager")
    arguments = {"query": X, "key": X, "value": X, **arguments}

    def call():
        try:
            compiled(**arguments)
        except ValueError as wrong:
            raise in_callers_words(wrong, {"q": "query", "k": "key", "v": "value"}) from None

    check(call, kind, text)


TRANSFORMED = [
    ({"scale": -1.0}, "scale > 0 and finite, got -1"),
    ({"normalize": "standardise"}, "normalize 'standardize', 'l2', 'none' or 'max_norm', got 'standardise'"),
    ({"normalize": "max_norm", "is_causal": True}, "normalize other than 'max_norm' when causal"),
    ({"coefficients": [1, 1, 0]}, "coefficients[p] != 0, got 0"),
    ({"dropout_p": 2.0}, "0 <= dropout_p < 1, got 2"),
    ({"floor": "none"}, "floor 'auto', 'clamp' or 'error', got 'none'"),
    ({"key": X[:, :, :3]}, "value.M == key.M, got 5 and 3"),
    ({"key_weight": torch.ones(2, 4)}, "key_weight.M == key.M, got 4 and 5"),
]


@pytest.mark.parametrize("arguments, text", TRANSFORMED, ids=[t for _, t in TRANSFORMED])
def test_wrong_calls_under_transforms(arguments, text):
    """Also inside of compile, where the compiler sees through to torch operations."""
    arguments = {"key": X, "value": X, **arguments}
    gradient = torch.func.grad(lambda x: fastmax.scaled_dot_product_attention(x, **arguments).sum())
    torch._dynamo.reset()
    for function in (gradient, torch.compile(gradient, backend="eager")):
        check(lambda: function(X), ValueError, text)


def moved(x):
    if isinstance(x, FastmaxState):
        return x.to("meta")
    return tuple(map(moved, x)) if isinstance(x, tuple) else x.to("meta") if isinstance(x, torch.Tensor) else x


# Without data there are no weights to judge, and sparse tensors and those of other devices are told apart elsewhere.
ON_META = [(a, kind, text) for a, kind, text in CALLS + COMPOSITE
           if not any(word in text for word in ("dense", "nested", "device", "2^40"))]  # fmt: skip


@pytest.mark.parametrize("arguments, kind, text", ON_META, ids=[f"{[*a]}: {t}" for a, _, t in ON_META])
def test_wrong_calls_on_meta(arguments, kind, text):
    arguments = {name: moved(x) for name, x in {"query": X, "key": X, "value": X, **arguments}.items()}
    check(lambda: fastmax.scaled_dot_product_attention(**arguments), kind, text)


PACKED_CALLS = [
    ({"cu_seqlens": offsets(1, 5)}, "cu_seqlens to begin with 0"),
    ({"cu_seqlens": offsets(0, 3, 2, 5)}, "cu_seqlens not to decrease"),
    ({"cu_seqlens": offsets(0, 4)}, "cu_seqlens to end at"),
    ({"cu_seqlens": offsets()}, "cu_seqlens of at least 2 entries, got 0"),
    ({"cu_seqlens": (offsets(0, 2, 5), offsets(0, 5))}, "cu_seqlens of queries and of keys of one length, got 3 and 2"),
    ({"cu_seqlens": (offsets(0, 4, 5), offsets(0, 2, 5)), "is_causal": True}, "queries than keys"),
]


@pytest.mark.parametrize("method", ["auto", "composite"])
@pytest.mark.parametrize("arguments, text", PACKED_CALLS, ids=[t for _, t in PACKED_CALLS])
def test_wrong_packed_calls(arguments, text, method):
    check(
        lambda: fastmax.scaled_dot_product_attention(PACKED, PACKED, PACKED, method=method, **arguments),
        ValueError,
        text,
    )


OTHERS = [
    (lambda: fastmax.step(X, ONE, ONE, state()), ValueError, "q of 3 dimensions [B, heads, channels], got 4"),
    (lambda: fastmax.step(ONE, ONE, ONE, X), TypeError, "state a FastmaxState, got Tensor"),
    (lambda: fastmax.step(ONE, None, ONE, state()), TypeError, "k a Tensor, got NoneType"),
    (lambda: fastmax.step(NESTED, ONE, ONE, state()), ValueError, "q not nested"),
    (lambda: fastmax.step(ONE, ONE[:1], ONE, state()), ValueError, "k.B == q.B, got 1 and 2"),
    (lambda: fastmax.step(ONE, ONE[:, :2], ONE[:, :2], state()), ValueError, "state.H == k.H, got 4 and 2"),
    (lambda: fastmax.step(*(x.to("meta") for x in (ONE, ONE, ONE[..., :3])), state(device="meta")), ValueError, "state.E == v.E"),
    (lambda: fastmax.attention_weights(X.to("meta"), X[..., :3].to("meta")), ValueError, "key.D == query.D, got 3 and 8"),
    (lambda: fastmax.step(ONE, ONE, ONE[..., :3], state()), ValueError, "state.E == v.E, got 8 and 3"),
    (lambda: fastmax.step(ONE.double(), ONE, ONE, state()), ValueError, "k of dtype torch.float64, got torch.float32"),
    (lambda: fastmax.step(ONE, ONE, ONE, state(dtype=torch.float64)), ValueError, "state of dtype torch.float32, got torch.float64"),
    (lambda: fastmax.step(ONE, ONE, ONE, state(), W), ValueError, "key_weight of 1 dimension [B], got 2"),
    (lambda: fastmax.step(ONE, ONE, ONE, state(device="meta")), ValueError, "state on q's device cpu, got meta"),
    (lambda: fastmax.step(ONE, ONE.to_sparse(), ONE, state()), ValueError, "k dense, got torch.sparse_coo"),
    (lambda: fastmax.attention_weights(X, X.to("meta")), ValueError, "key on query's device cpu, got meta"),
    (lambda: fastmax.attention_weights(X, X, enable_gqa="x"), TypeError, "enable_gqa a bool, got str"),
    (lambda: fastmax.attention_weights(X, X, rows=[5]), ValueError, "rows in 0 .. query.N - 1, got 5 of 5"),
    (lambda: fastmax.attention_weights(X, X, rows=[-1]), ValueError, "rows in 0 .. query.N - 1, got -1 of 5"),
    (lambda: fastmax.attention_weights(X, X, rows=[0.5]), TypeError, "rows a sequence of ints or None, got float"),
    (lambda: fastmax.attention_weights(X, X, rows=X), ValueError, "rows of ints, of 1 dimension, got torch.float32 of 4"),
    (lambda: fastmax.attention_weights(X, X, attn_mask=torch.ones(4).bool()), ValueError, "attn_mask a boolean key padding mask"),
    (lambda: fastmax.attention_weights(X, X, attn_mask=torch.ones(5).bool(), key_weight=W), ValueError, "attn_mask or key_weight"),
    (lambda: fastmax.attention_weights(X, X, normalize="max_norm", is_causal=True), ValueError, "other than 'max_norm' when causal"),
    (lambda: fastmax.attention_weights(X, X[..., :3]), ValueError, "key.D == query.D, got 3 and 8"),
    (lambda: fastmax.attention_weights(X, X, key_weight=-W), ValueError, "key_weight 0 or in 2^-60 .. 2^40, got -1"),
    (lambda: FastmaxState.zeros(2, 4, 0, 8), ValueError, "D >= 1, got 0"),
    (lambda: FastmaxState.zeros(-1, 4, 8, 8), ValueError, "batch >= 0, got -1"),
    (lambda: FastmaxState.zeros(2, 4, 8.0, 8), TypeError, "D an int, got float"),
    (lambda: state(device="gpu"), ValueError, "device a name that torch.device knows, got 'gpu'"),
    (lambda: state(device=0.5), TypeError, "device a torch.device, its name or None, got float"),
    (lambda: FastmaxState(state().tensor, D=8, count="x"), TypeError, "count an int, got str"),
    (lambda: FastmaxState(state().tensor, D=8, count=-5), ValueError, "count >= 0, got -5"),
    (lambda: FastmaxState(state().tensor, D=8, count=1.5), TypeError, "count an int, got float"),
    (lambda: FastmaxState.zeros(2, 4, 8, 8, p=5), ValueError, "p in 1..4, got 5"),
    (lambda: state(dtype=torch.bfloat16), ValueError, "dtype float32 or float64"),
    (lambda: state(normalize="max_norm"), ValueError, "normalize 'standardize', 'l2' or 'none' in a state, got max_norm"),
    (lambda: state(normalize="none", p=1), ValueError, "an explicit scale for odd p"),
    (lambda: state(scale=-1.0), ValueError, "scale > 0 and finite, got -1"),
    (lambda: state(scale="1"), TypeError, "scale a number or None, got str"),
    (lambda: state(coefficients="111"), TypeError, "coefficients a sequence of numbers or None, got str"),
    (lambda: state(coefficients=[1]), ValueError, "coefficients c_0 .. c_p, p + 1 = 3 of them, got [1]"),
    (lambda: FastmaxState(None, D=8), TypeError, "state a Tensor, got NoneType"),
    (lambda: FastmaxState(X, D=8), ValueError, "a state of shape [B, Hkv, 45, E + 1] for p = 2 and D = 8, got [2, 4, 5, 8]"),
    (lambda: FastmaxState(X[0], D=8), ValueError, "a state of shape [B, Hkv, 45, E + 1] for p = 2 and D = 8, got [4, 5, 8]"),
    (lambda: FastmaxState(state().tensor, D=8, p=7), ValueError, "p in 1..4, got 7"),
    (lambda: FastmaxState(state().tensor, D="8"), TypeError, "D an int, got str"),
    (lambda: FastmaxState(state().tensor.half(), D=8), ValueError, "a state of float32 or float64, got torch.float16"),
    (lambda: state() + state(p=1), ValueError, "states of one p, scale, normalize and coefficients to add"),
    (lambda: state() + FastmaxState.zeros(1, 4, 8, 8), ValueError, "states of one size to add"),
    (lambda: state() + state(dtype=torch.float64), ValueError, "states of one dtype to add"),
    (lambda: state().update(X, None), TypeError, "v a Tensor, got NoneType"),
    (lambda: state().query([1.0]), TypeError, "q a Tensor, got list"),
    (lambda: state().update(X, X, W.clone().requires_grad_()), ValueError, "key_weight without gradient"),
    (lambda: state().update(X, X, [1.0]), TypeError, "key_weight a Tensor, got list"),
    (lambda: state().update(X[0], X), ValueError, "k of 4 dimensions [B, Hkv, M, D], got 3"),
    (lambda: state().update(X, X[..., :3]), ValueError, "state.E == v.E, got 8 and 3"),
    (lambda: state().update(X[:, :2], X[:, :2]), ValueError, "state.H == k.H, got 4 and 2"),
    (lambda: state().query(X[..., :3]), ValueError, "state.D == q.D, got 8 and 3"),
    (lambda: state().query(X.double()), ValueError, "state of dtype torch.float64, got torch.float32"),
    (lambda: state().load_state_dict({}), ValueError, "the entries state, order, D, E, count, scale, normalize"),
    (lambda: state().load_state_dict({**state().state_dict(), "order": 3}), ValueError, "a state of shape [B, Hkv, 165, E + 1]"),
    (lambda: state().load_state_dict({**state().state_dict(), "order": -1}), ValueError, "p in 1..4, got -1"),
    (lambda: state().load_state_dict({**state().state_dict(), "D": 8.0}), TypeError, "D an int, got float"),
    (lambda: state().load_state_dict({**state().state_dict(), "E": 7}), ValueError, "E = 8 as in state, got 7"),
    (lambda: state().load_state_dict({**state().state_dict(), "count": None}), TypeError, "count an int, got NoneType"),
    (lambda: state().load_state_dict({**state().state_dict(), "scale": "x"}), TypeError, "scale a number or None, got str"),
    (lambda: state().load_state_dict({**state().state_dict(), "normalize": "x"}), ValueError, "in a state, got x"),
    (lambda: state().load_state_dict(None), TypeError, "entries what state_dict() gives, got NoneType"),
    (lambda: FastmaxState.load(__file__), ValueError, "a safetensors file, got"),
]  # fmt: skip


@pytest.mark.parametrize("call, kind, text", OTHERS, ids=[t for _, _, t in OTHERS])
def test_wrong_states_steps_and_rows(call, kind, text):
    check(call, kind, text)


@pytest.mark.parametrize("n", [-1, 5])
def test_rows_that_are_not_there(n):
    """On every path: an index of -1 would be that of the last row."""

    def weights(x, rows=(0, n)):
        return fastmax.attention_weights(x, x, rows=rows)

    text = f"rows in 0 .. query.N - 1, got {n} of 5"
    for rows in ((0, n), torch.tensor([0, n])):
        for call in (weights, torch.func.vmap(weights, (0, None)), torch.func.jacrev(weights)):
            check(lambda: call(X[None], rows), ValueError, text)
    for call in (lambda: weights(X.to("meta")), lambda: torch.compile(weights, backend="eager")(X)):
        check(call, ValueError, text)
    for name in ("attention_weights", "composite_attention_weights"):
        check(lambda: getattr(torch.ops.fastmax, name)(X, X, None, torch.tensor([n])), ValueError, f"rows in 0 .. q.N - 1, got {n} of 5")


@pytest.mark.parametrize("method", ["auto", "composite"])
def test_denominators_near_zero(method):
    """At the paper's scale, p = 1 meets some; the default scale never does, and clamping is for who asks for it."""
    x = torch.randn(1, 1, 40, 16, generator=torch.Generator().manual_seed(0))
    options = {"p": 1, "is_causal": True, "method": method}
    with pytest.raises(ValueError, match="denominators above .* got -?[0-9.]+"):
        fastmax.scaled_dot_product_attention(x, -x, x, scale=1.0, **options)
    assert fastmax.scaled_dot_product_attention(x, -x, x, **options).isfinite().all()
    clamped = fastmax.scaled_dot_product_attention(x, -x, x, scale=1.0, floor="clamp", **options)
    assert clamped.isfinite().all()
    forward = fastmax._composite.attention if method == "composite" else torch.ops.fastmax.forward
    *_, smallest = forward(x, -x, x, p=1, causal=True, scale=1.0, floor="clamp")
    hat = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-6).sqrt()
    g = (1 - hat @ hat.mT).tril().sum(-1)  # before the floor
    torch.testing.assert_close(smallest.float(), (g / torch.arange(1, 41)).min(), rtol=1e-5, atol=0)
    assert smallest < 0
    safe = fastmax.FastmaxState.zeros(1, 1, 16, 16, p=1).scale
    assert fastmax.scaled_dot_product_attention(x, -x, x, scale=safe, **options).isfinite().all()
    for tokens in (x[:, :, :0], x):  # no query, no key
        *_, smallest = forward(tokens, x[:, :, : 40 - tokens.size(2)], x[:, :, : 40 - tokens.size(2)], p=1)
        assert smallest == torch.inf


@pytest.mark.parametrize("device", ["cpu", "composite"])
def test_denominators_near_zero_in_steps_queries_and_weights(device, monkeypatch):
    """What ends attention ends them, and leaves the state as it was; clamping is for who asks for it."""
    if device == "composite":
        monkeypatch.setattr("fastmax._call.is_transformed", lambda: True)
    x = torch.randn(1, 1, 2, 16, generator=torch.Generator().manual_seed(0))
    token = x[:, :, 0]
    state = fastmax.FastmaxState.zeros(1, 1, 16, 16, p=1, scale=1.0)
    fastmax.step(token, token, token, state)
    before = state.tensor.clone()
    for call in (
        lambda **floor: fastmax.step(-token, token, token, state, **floor),
        lambda **floor: state.query(-x[:, :, :1], **floor),
        lambda **floor: fastmax.attention_weights(x, -x, p=1, scale=1.0, **floor),
    ):
        for floor in ({}, {"floor": "error"}):
            with pytest.raises(ValueError, match="denominators above .* got -"):
                call(**floor)
            assert state.count == 1 and torch.equal(state.tensor, before)
    for call in (
        lambda: state.query(-x[:, :, :1], floor="clamp"),
        lambda: fastmax.attention_weights(x, -x, p=1, scale=1.0, floor="clamp"),
        lambda: fastmax.step(-token, token, token, state, floor="clamp"),
    ):
        assert call().isfinite().all()
    assert state.count == 2


@pytest.mark.parametrize("device", ["cpu", "composite"])
def test_states_whose_weights_add_up_to_too_much(device, monkeypatch):
    """Their values count, and never what the memory that a plan is made with held before."""
    if device == "composite":
        monkeypatch.setattr("fastmax._call.is_transformed", lambda: True)
    x = torch.randn(1, 1, 2, 16, generator=torch.Generator().manual_seed(0))
    light, heavy = (FastmaxState(torch.full((1, 1, 17, 17), sums), D=16, p=1) for sums in (1.0, 3e38))
    with pytest.raises(ValueError, match=r"denominators stay below 3.40282e\+38, got scale \S+ and denominators up to"):
        heavy.query(x)
    del heavy
    assert light.query(x).isfinite().all()
    torch.full((1, 1, 17, 17), 3e38)  # freed at once
    assert torch.func.vmap(light.query)(x[None]).isfinite().all()
