"""FastmaxState and step: any split of a sequence is the whole."""

import copy
import pickle
from pathlib import Path

import pytest
import torch

import fastmax
from fastmax import FastmaxState, reference
from fastmax.models import Config, Transformer

sdpa = fastmax.scaled_dot_product_attention


def make_tokens(N=12, B=2, H=4, Hkv=2, D=4, E=3, dtype=torch.float64, requires_grad=False):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(size, dtype=dtype, generator=generator).requires_grad_(requires_grad)
        for size in ((B, H, N, D), (B, Hkv, N, D), (B, Hkv, N, E))
    ]


def part(tokens, n, n_end):
    return [x[:, :, n:n_end] for x in tokens]


FUNCTIONS = [{}, {"p": 1}, {"p": 3}, {"normalize": "l2", "p": 1}, {"normalize": "none", "scale": 0.2}, {"coefficients": [1, 1, 1]}]  # fmt: skip


@pytest.mark.parametrize("method", ["auto", "composite"])
@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
def test_any_split_is_the_whole_with_its_gradient(function, method):
    tokens = make_tokens(requires_grad=True)
    options = {"is_causal": True, "enable_gqa": True, "method": method, "floor": "clamp", **function}
    whole, end = sdpa(*tokens, return_state=True, **options)
    state, parts = None, []
    for n, n_end in ((0, 5), (5, 6), (6, 12)):
        o, state = sdpa(*part(tokens, n, n_end), initial_state=state, return_state=True, **options)
        parts.append(o)
    o = torch.cat(parts, 2)
    assert state.count == 12
    torch.testing.assert_close(o, whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(state.tensor, end.tensor, rtol=0, atol=1e-12)
    loss = o.sin().sum() + state.tensor.cos().sum()
    expected = whole.sin().sum() + end.tensor.cos().sum()
    for ours, true in zip(torch.autograd.grad(loss, tokens), torch.autograd.grad(expected, tokens)):
        torch.testing.assert_close(ours, true, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
def test_steps_are_the_causal_pass(function):
    q, k, v = make_tokens()
    whole = reference.attention(q, k, v, is_causal=True, **function)
    state = FastmaxState.zeros(2, 2, 4, 3, dtype=torch.float64, **function)
    for n in range(12):
        before = state.tensor._version
        o = fastmax.step(q[:, :, n], k[:, :, n], v[:, :, n], state)
        torch.testing.assert_close(o, whole[:, :, n], rtol=0, atol=1e-11)
        assert state.tensor._version > before  # autograd knows that it was written to
    assert state.count == 12


def test_a_step_with_weights_and_of_16_bits():
    q, k, v = make_tokens(N=2)
    weight = torch.tensor([[1, 0], [0.5, 2]], dtype=torch.float64)
    state = FastmaxState.zeros(2, 2, 4, 3, dtype=torch.float64)
    for n in range(2):
        o = fastmax.step(q[:, :, n], k[:, :, n], v[:, :, n], state, weight[:, n])
    expected = reference.attention(q, k, v, key_weight=weight, is_causal=True)
    torch.testing.assert_close(o, expected[:, :, 1], rtol=0, atol=1e-12)
    half = FastmaxState.zeros(2, 2, 4, 3)
    o = fastmax.step(*(x[:, :, 0].bfloat16() for x in (q, k, v)), half)
    assert o.dtype == torch.bfloat16 and half.tensor.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        tokens = [x[:, :, 0].float() for x in (q, k, v)]
        o = fastmax.step(*tokens, FastmaxState.zeros(2, 2, 4, 3))
        states = FastmaxState.zeros(2, 2, 4, 3).tensor[None]
        step = torch.func.vmap(lambda q, k, v, state: fastmax.step(q, k, v, FastmaxState(state, D=4)))
        in_vmap = step(*(x[None] for x in tokens), states)
    assert o.dtype == in_vmap.dtype == torch.bfloat16
    torch.testing.assert_close(in_vmap[0], o)
    with torch.inference_mode():
        fastmax.step(*(x[:, :, 0].bfloat16() for x in (q, k, v)), FastmaxState.zeros(2, 2, 4, 3))


def test_states_add_in_any_order_and_answer_queries():
    q, k, v = make_tokens()
    expected = reference.attention(q, k, v)
    parts = [
        FastmaxState.zeros(2, 2, 4, 3, dtype=torch.float64).update(k[:, :, n:n_end], v[:, :, n:n_end])
        for n, n_end in ((0, 3), (3, 10), (10, 12))
    ]
    for order in ((0, 1, 2), (2, 0, 1)):
        merged = parts[order[0]] + parts[order[1]] + parts[order[2]]
        assert merged.count == 12
        torch.testing.assert_close(merged.query(q), expected, rtol=0, atol=1e-12)
    weight = (torch.arange(12) < 5).to(torch.float64).expand(2, 12)
    weighted = FastmaxState.zeros(2, 2, 4, 3, dtype=torch.float64).update(k, v, weight)
    torch.testing.assert_close(
        weighted.query(q), reference.attention(q, k[:, :, :5], v[:, :, :5]), rtol=0, atol=1e-12
    )


def test_a_query_opposite_to_every_key_is_clamped_at_the_default_scale_only():
    x = 100 * torch.randn(1, 1, 1, 8, generator=torch.Generator().manual_seed(1))
    assert FastmaxState.zeros(1, 1, 8, 8, p=1).update(x, x).query(-x).isfinite().all()
    own = FastmaxState.zeros(1, 1, 8, 8, p=1, scale=0.2).update(x, x)
    with pytest.raises(ValueError, match="denominators above"):
        own.query(-x)


def test_queries_and_updates_are_differentiable():
    q, k, v = make_tokens(N=5, requires_grad=True)
    o = FastmaxState.zeros(2, 2, 4, 3, dtype=torch.float64).update(k, v).query(q)
    expected = reference.attention(q, k, v)
    for ours, true in zip(torch.autograd.grad(o.sin().sum(), (q, k, v)), torch.autograd.grad(expected.sin().sum(), (q, k, v))):  # fmt: skip
        torch.testing.assert_close(ours, true, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
def test_a_state_is_copied_pickled_saved_and_loaded(function, tmp_path):
    q, k, v = make_tokens()
    state = FastmaxState.zeros(2, 2, 4, 3, dtype=torch.float64, **function).update(k, v)
    state.save(tmp_path / "state.safetensors")
    loaded = FastmaxState.zeros(1, 1, 1, 1)
    loaded.load_state_dict(state.state_dict())
    others = [
        loaded,
        FastmaxState.load(tmp_path / "state.safetensors"),
        pickle.loads(pickle.dumps(state)),
        copy.deepcopy(state),
        state.clone(),
        state.detach(),
        state.to(torch.float64),
    ]
    for other in others:
        assert torch.equal(other.tensor, state.tensor)
        assert (other.function, other.D, other.E, other.count) == (state.function, 4, 3, 12)
        assert torch.equal(other.query(q), state.query(q))
    for other in (loaded, state.clone()):
        other.tensor.zero_()
    assert state.tensor.any()


def test_a_state_is_a_value_to_torch(tmp_path):
    """In checkpoints of the safe kind, through torch.export and its files, and out of vmap."""
    q, k, v = make_tokens(H=2)
    options = {"p": 3, "scale": 0.3, "coefficients": [1, 1, 1, 0.5], "floor": "clamp"}
    function = {name: x for name, x in options.items() if name != "floor"}
    state = FastmaxState.zeros(2, 2, 4, 3, dtype=torch.float64, **function).update(k, v)
    torch.save({"model": {"state": state}}, tmp_path / "checkpoint.pt")
    loaded = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"]["state"]
    assert vars(loaded).keys() == vars(state).keys() and torch.equal(loaded.query(q), state.query(q))

    class Attention(torch.nn.Module):
        def forward(self, q, k, v, state):
            return sdpa(q, k, v, is_causal=True, initial_state=state, return_state=True, **options)

    o, end = Attention()(q, k, v, state)
    for strict in (False, True):
        program = torch.export.export(Attention(), (q, k, v, state), strict=strict)
        torch.export.save(program, tmp_path / "program.pt2")
        for again in (program, torch.export.load(tmp_path / "program.pt2")):
            ours, ended = again.module()(q, k, v, state)
            assert torch.equal(ours, o) and torch.equal(ended.tensor, end.tensor)
            assert (ended.function, ended.D, ended.E, ended.count) == (end.function, 4, 3, 24)

    states = torch.func.vmap(lambda k, v: FastmaxState.zeros(1, 2, 4, 3, dtype=k.dtype).update(k[None], v[None]))(k, v)
    for i in range(2):
        one = FastmaxState.zeros(1, 2, 4, 3, dtype=k.dtype).update(k[i : i + 1], v[i : i + 1])
        torch.testing.assert_close(states.tensor[i], one.tensor)


def test_the_file_is_that_of_the_core(tmp_path):
    from safetensors import safe_open

    FastmaxState.zeros(1, 2, 4, 3, p=1).save(tmp_path / "state.safetensors")
    with safe_open(tmp_path / "state.safetensors", framework="pt") as file:
        assert [*file.keys()] == ["state"] and file.get_tensor("state").shape == (1, 2, 5, 4)
        assert file.metadata() == {
            "order": "1", "D": "4", "E": "3", "count": "0", "scale": "0.25", "normalize": "standardize",
        }  # fmt: skip


DAMAGE = [
    ({"order": "two"}, "order an int in {}, got 'two'"),
    ({"count": "1.5"}, "count an int in {}, got '1.5'"),
    ({"count": "-1"}, "count >= 0, got -1 in {}"),
    ({"scale": ""}, "scale a number in {}, got ''"),
    ({"normalize": "max"}, "normalize 'standardize', 'l2' or 'none' in a state, got max in {}"),
    ({"coefficients": "1 x"}, "coefficients numbers in {}, got '1 x'"),
    ({"E": "4"}, "E = 3 as in state, got 4 in {}"),
    ({"D": "9"}, "a state of shape [B, Hkv, 10, E + 1] for p = 1 and D = 9, got [1, 2, 5, 4] in {}"),
    ({"D": None}, "the entries state, order, D, E, count, scale, normalize, got none of D in {}"),
]


@pytest.mark.parametrize("damage, text", DAMAGE, ids=[text for _, text in DAMAGE])
def test_a_damaged_file_is_named(damage, text, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = tmp_path / "state.safetensors"
    FastmaxState.zeros(1, 2, 4, 3, p=1).save(path)
    with safe_open(path, framework="pt") as file:
        metadata, tensor = {**file.metadata(), **damage}, file.get_tensor("state")
    save_file({"state": tensor}, path, {name: x for name, x in metadata.items() if x is not None})
    with pytest.raises(ValueError) as error:
        FastmaxState.load(path)
    assert str(error.value) == f"fastmax: need {text.format(path)}"


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    FastmaxState.zeros(1, 2, 4, 3).save(path)
    old = path.read_bytes()

    def interrupted(tensors, file, metadata):
        Path(file).write_bytes(old[:20])
        raise KeyboardInterrupt

    monkeypatch.setattr("safetensors.torch.save_file", interrupted)
    for save in (FastmaxState.zeros(1, 2, 8, 3).save, Transformer(Config("fastmax2", vocabulary=4, length=4)).save):
        with pytest.raises(KeyboardInterrupt):
            save(path)
        assert path.read_bytes() == old and [*tmp_path.iterdir()] == [path]


def test_steps_compile():
    q, k, v = make_tokens(dtype=torch.float32)
    state, expected = FastmaxState.zeros(2, 2, 4, 3), FastmaxState.zeros(2, 2, 4, 3)

    def step(q, k, v):
        return fastmax.step(q, k, v, state)

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for n in range(3):
        token = [x[:, :, n] for x in (q, k, v)]
        torch.testing.assert_close(compiled(*token), fastmax.step(*token, expected))
    torch.testing.assert_close(state.tensor, expected.tensor)


def test_repr_says_what_it_is():
    text = repr(FastmaxState.zeros(1, 2, 4, 3, p=1))
    assert "D=4" in text and "p=1" in text and "float32" in text
