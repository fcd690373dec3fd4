"""fastmax.models against the program: the weights that one writes are the model that the other reads."""

import copy
import json
import os
import pickle
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from fastmax.models import Config, Transformer

PROGRAM = os.environ.get("FASTMAX_PROGRAM", str(Path(__file__).parents[2] / "build" / "fastmax"))
LENGTH = 24
ROUNDING = 2e-6  # of the largest logit; measured: 3e-7 at most, and mostly none


def program(*arguments) -> dict:
    result = subprocess.run([PROGRAM, *map(str, arguments), "--json"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "text"
    path.write_text("".join(f"{n} times {n + 1} is {n * (n + 1)}. " for n in range(150)))
    return path


def train(text: Path, out: Path, **model) -> Path:
    settings = {"attention": "fastmax2", "layers": 2, "heads": 2, "dim": 16, "mlp": 24, **model}
    keys = [f"model.{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in settings.items()]
    keys += [f"data.path={text}", f"data.length={LENGTH}", "train.steps=20", "train.batch=4", "train.warmup=2",
             "train.learning_rate=0.02", "train.evaluate_every=20", "train.threads=1"]  # fmt: skip
    recipe = out.parent / "recipe.toml"
    recipe.write_text('task = "textfile"\n')
    program("train", recipe, "--out", out, *(word for key in keys for word in ("--set", key)))
    return out


def evaluated(text: Path) -> tuple[Tensor, Tensor]:
    """What the program evaluates, tokens and targets: windows side by side over the last tenth."""
    data = torch.tensor([*text.read_bytes()])[len(text.read_bytes()) * 9 // 10 :]
    windows = (len(data) - 1) // LENGTH
    tokens, targets = (data[i : i + windows * LENGTH].view(windows, LENGTH) for i in (0, 1))
    return tokens, targets


def check_logits(run: Path, model: Transformer, targets: Tensor, *inputs: Tensor) -> float:
    """The program's logits and labels are those of the model in Python, and what the program's score is of: its loss."""
    file = run.parent / "logits.safetensors"
    score = program("eval", run, "--logits", file)
    theirs = load_file(file)
    with torch.no_grad():
        ours = model(*inputs)
    assert sorted(theirs) == ["logits", "targets"] and torch.equal(theirs["targets"], targets)
    torch.testing.assert_close(theirs["logits"], ours, rtol=0, atol=ROUNDING * ours.abs().max().item())
    losses = (F.cross_entropy(x.flatten(0, -2).double(), targets.flatten()).item() for x in (ours, theirs["logits"]))
    assert [*losses] == pytest.approx([score["loss"]] * 2, rel=2e-6)
    assert (theirs["logits"].argmax(-1) == targets).double().mean().item() == pytest.approx(score["accuracy"], rel=1e-12)
    return score["loss"]


KINDS = [
    {"convolution": 3, "scale": "1/sqrt(D)"},
    {"attention": "softmax", "positions": "sinusoidal", "embedding_std": 0.3},
    {"attention": "fastmax1", "positions": "rotary", "scale_learnable": True},
    {"attention": "fastmax4", "positions": "none", "normalize": "l2", "scale": "0.5", "convolution": 2},
    {"block": "authors", "dropout": 0.2},
    {"attention": "softmax", "scale": "0.6"},
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.get("attention", "fastmax2"))
def test_one_model_in_both_languages(kind, text, tmp_path):
    run = train(text, tmp_path / "run", **kind)
    model = Transformer.load(run)
    assert not model.training
    tokens, targets = evaluated(text)
    theirs = check_logits(run, model, targets, tokens)

    # The way back, of other weights.
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(0.9)
    model.save(run / "model.safetensors")
    assert sorted(path.name for path in run.iterdir()) == sorted(
        ["checkpoint", "metrics.jsonl", "model.safetensors", "recipe.toml", "result.json"]
    )
    assert abs(check_logits(run, model, targets, tokens) - theirs) > 1e-3

    if kind.get("attention") != "softmax":
        prompt = "12 times"
        written = program("generate", run, "--prompt", prompt, "--tokens", 12, "--temperature", 0)["text"]
        past = model.empty_past(1)
        tokens, out = torch.tensor([[*prompt.encode()]]), []
        for _ in range(12):
            tokens = model.next(tokens, past).argmax(-1, keepdim=True)
            out.append(tokens.item())
        assert written.encode()[-12:] == bytes(out)


@pytest.mark.parametrize(
    ("recipe", "words"), [("[model", "to be TOML, got "), ("[model]", "[model] and data.length in "), ("", "got nothing")]
)
def test_a_broken_recipe_is_named(tmp_path, recipe, words):
    save_file({"token.weight": torch.zeros(256, 16)}, tmp_path / "model.safetensors")
    (tmp_path / "recipe.toml").write_text(recipe)
    with pytest.raises(ValueError, match=r"fastmax: need .*/recipe\.toml") as raised:
        Transformer.load(tmp_path)
    assert words in str(raised.value)


def small(task: str, out: Path, data: Path, *settings: str) -> dict:
    recipe = out.parent / "recipe.toml"
    recipe.write_text(f'task = "{task}"\n')
    keys = ["model.dim=16", "model.mlp=24", "train.steps=12", "train.batch=4", "train.evaluate_every=12",
            "train.learning_rate=0.02", "train.warmup=2", "train.threads=1", f"data.path={data}", *settings]  # fmt: skip
    return program("train", recipe, "--out", out, *(word for key in keys for word in ("--set", key)))


@pytest.mark.parametrize("model", [{"pool": "padded", "classifier": "gelu"}, {"pool": "class", "block": "authors"}], ids=str)
def test_a_classifier_of_patches(model, tmp_path):
    """MNIST's files with a few images: pixel j of image i is i + 3 j."""
    files = {}
    for name, count in (("train", 40), ("t10k", 10)):
        number = count.to_bytes(4, "big")
        side = (28).to_bytes(4, "big")
        files[name] = [[(i + 3 * j) % 256 for j in range(784)] for i in range(count)]
        images = b"\0\0\x08\x03" + number + side + side + bytes(sum(files[name], []))
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(images)
        labels = bytes(i % 10 for i in range(count))
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + number + labels)
    keys = [f"model.{name}={value}" for name, value in model.items()]
    result = small("mnist", tmp_path / "run", tmp_path, "data.patch=7", *keys)
    model = Transformer.load(tmp_path / "run")
    assert model.config.values == 49 and model.config.classes == 10
    images = torch.tensor(files["t10k"]).view(10, 4, 7, 4, 7).transpose(2, 3).reshape(10, 16, 49) / 255
    loss = check_logits(tmp_path / "run", model, torch.arange(10), images)
    assert loss == pytest.approx(result["test"]["loss"], rel=2e-6)
    with pytest.raises(ValueError, match=r"tokens \[B, N, 49\], got \[10, 16\]"):
        model(images[..., 0])


def test_a_classifier_of_pairs(tmp_path):
    papers = ["an alpha", "another beta paper", "gamma"]
    pairs = [(i, j, int((i + j) % 2)) for i in range(3) for j in range(3)]
    lines = [f"{label}.0\t{i}\t{j}\t{papers[i]}\t{papers[j]}\n" for i, j, label in pairs]
    for name in ("train", "eval", "test"):
        (tmp_path / f"new_aan_pairs.{name}.tsv").write_text("".join(lines))
    result = small("retrieval", tmp_path / "run", tmp_path, "data.length=24")
    model = Transformer.load(tmp_path / "run")
    assert model.config.pairs and model.config.vocabulary == 257
    texts = [papers[index].encode() for i, j, _ in pairs for index in (i, j)]
    tokens = torch.zeros(len(texts), 18, dtype=torch.long)
    for row, text in zip(tokens, texts):
        row[: len(text)] = torch.tensor([*text]) + 1
    labels = torch.tensor([label for *_, label in pairs])
    loss = check_logits(tmp_path / "run", model, labels, tokens, (tokens > 0).float())
    assert loss == pytest.approx(result["test"]["loss"], rel=2e-6)


@pytest.mark.parametrize("kind", [k for k in KINDS if k.get("attention") != "softmax"], ids=str)
def test_a_past_read_in_any_parts_is_the_whole(kind):
    torch.manual_seed(0)
    model = Transformer(Config(dim=16, length=30, **kind)).eval()
    tokens = torch.randint(256, (2, 30))
    whole, past, first = model(tokens), model.empty_past(2), 0
    for count in (7, 1, 1, 13, 8):
        logits = model.next(tokens[:, first : first + count], past)
        first += count
        torch.testing.assert_close(logits, whole[:, first - 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pool", ["tokens", "padded", "class"])
@pytest.mark.parametrize("attention", ["softmax", "fastmax1", "fastmax2"])
def test_padding_of_a_classifier_costs_nothing_but_time(attention, pool):
    torch.manual_seed(0)
    model = Transformer(Config(attention=attention, dim=16, length=20, classes=10, convolution=3, pool=pool)).eval()
    tokens = torch.randint(256, (2, 20))
    weight = (torch.arange(20) < torch.tensor([[20], [12]])).float()
    logits = model(tokens, weight)
    assert logits.shape == (2, 10)
    torch.testing.assert_close(logits[1:], model(tokens[1:, :12]), rtol=1e-4, atol=1e-6)


POOLS = [{"attention": "fastmax2", "pool": pool} for pool in ("tokens", "padded", "class")]
DTYPES = {torch.float64: 1e-6, torch.bfloat16: 0.1, torch.float16: 0.02}  # and how far from float32


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", [*POOLS, {"attention": "softmax"}], ids=str)
def test_weights_of_any_type_in_a_model_of_any_type(kind, dtype):
    torch.manual_seed(0)
    model = Transformer(Config(dim=16, length=20, classes=10, convolution=3, **kind)).eval()
    tokens, real = torch.randint(256, (2, 20)), torch.arange(20) < torch.tensor([[20], [12]])
    expected = model(tokens, real.float())
    model.to(dtype)
    for weight in (real.float(), real.to(dtype), real):
        logits = model(tokens, weight)
        assert logits.dtype == dtype
        torch.testing.assert_close(logits.float(), expected, rtol=0, atol=DTYPES[dtype])
    assert model(tokens, torch.zeros(2, 20)).isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS[::2], ids=str)
def test_a_past_of_any_type(kind, dtype):
    torch.manual_seed(0)
    model = Transformer(Config(dim=16, length=12, **kind)).eval()
    tokens = torch.randint(256, (2, 12))
    expected, past = model(tokens)[:, -1], model.to(dtype).empty_past(2)
    for part in tokens.split((5, 1, 5, 1), 1):
        logits = model.next(part, past)
    assert logits.dtype == dtype
    torch.testing.assert_close(logits.float(), expected, rtol=0, atol=DTYPES[dtype])


def test_a_padded_mean_is_over_the_length():
    torch.manual_seed(0)
    tokens_only, padded = (Transformer(Config(dim=16, length=20, classes=3, pool=pool)) for pool in ("tokens", "padded"))
    padded.load_state_dict(tokens_only.state_dict())
    tokens = torch.randint(256, (2, 20))
    torch.testing.assert_close(padded(tokens), tokens_only(tokens))
    assert not torch.allclose(padded(tokens[:, :9]), tokens_only(tokens[:, :9]))


def test_a_learnt_factor_stops_where_a_weight_could_be_negative():
    model = Transformer(Config("fastmax1", dim=16, length=20, scale_learnable=True))
    tokens = torch.randint(256, (2, 20))
    expected = model(tokens)
    with torch.no_grad():
        for layer in model.layers:
            layer.scale_factor.fill_(3)
    torch.testing.assert_close(model(tokens), expected)


def test_the_authors_block_begins_and_drops_as_theirs():
    torch.manual_seed(0)
    model = Transformer(Config(dim=32, mlp=64, length=20, classes=3, values=4, pool="class", block="authors", dropout=0.5))
    layer = model.layers[0]
    assert layer.qkv.bias is None and layer.mlp1.bias is not None
    bounds = {  # sqrt(6 / (inputs + outputs))
        layer.qkv.weight: (6 / 64) ** 0.5, layer.mlp1.weight: (6 / 96) ** 0.5, model.position.weight: (6 / 53) ** 0.5,
        model.token.weight: (6 / (4 + 4 * 32)) ** 0.5, model.head.weight: (6 / 35) ** 0.5,
    }  # fmt: skip
    for weight, bound in bounds.items():
        assert 0.9 * bound < weight.abs().max() <= bound
    # Dropout is at the end of attention and MLP: without what they add, there is none.
    images = torch.rand(2, 20, 4)
    with torch.no_grad():
        assert not torch.equal(model(images), model(images))
        for layer in model.layers:
            for last in (layer.out, layer.mlp2):
                last.weight.zero_(), last.bias.zero_()
        assert torch.equal(model(images), model(images))


def test_copies_compiles_and_trains():
    torch.manual_seed(0)
    model = Transformer(Config(dim=16, length=20, convolution=2, dropout=0.1, attention_dropout=0.1, layers=1))
    tokens = torch.randint(256, (2, 20))
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    expected = model(tokens)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(tokens), expected)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(tokens), expected, rtol=1e-4, atol=1e-6)
    expected.sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())


MODEL = Transformer(Config())


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: Config(attention="performer"), "attention one of softmax, fastmax1"),
        (lambda: Config(dim=10, heads=3), "dim a multiple of heads = 3, got 10"),
        (lambda: Config(layers=0), "layers >= 1, got 0"),
        (lambda: Config(convolution=-1), "convolution >= 0, got -1"),
        (lambda: Config(dropout=1.0), "dropout in [0, 1), got 1.0"),
        (lambda: Config(attention_dropout=-0.1), "attention_dropout in [0, 1), got -0.1"),
        (lambda: Config(attention_dropout_mode="cubic"), "attention_dropout_mode one of quadratic, standard, token, got 'cubic'"),
        (lambda: Config(normalize="layer"), "normalize one of standardize, l2, none, max_norm, got 'layer'"),
        (lambda: Config(pool="max"), "pool one of tokens, padded, class, got 'max'"),
        (lambda: Config(pool="class"), "classes > 0 with pool 'class', got 0"),
        (lambda: Config(block="post"), "block one of usual, authors, got 'post'"),
        (lambda: Config(scale="-1"), "scale 'default', '1/sqrt(D)', '1/D' or a number > 0, got '-1'"),
        (lambda: Config(scale="wide"), "scale 'default', '1/sqrt(D)', '1/D' or a number > 0, got 'wide'"),
        (lambda: Transformer(Config())(torch.zeros(1, 5)), "tokens of int64 or int32, ids, got torch.float32"),
        (lambda: Config(pairs=True), "classes > 0 with pairs, got 0"),
        (lambda: Config(positions="none of them"), "positions one of"),
        (lambda: Config(dim=6, heads=2, positions="rotary"), "an even head size dim / heads for rotary"),
        (lambda: Transformer(Config(length=4))(torch.zeros(1, 5).long()), "at most length = 4 tokens, got 5"),
        (lambda: Transformer(Config(length=4))(torch.zeros(5).long()), "tokens of 2 dimensions [B, N], got 1"),
        (lambda: Transformer(Config())(torch.zeros(1, 5).long(), torch.ones(1, 4)), "key_weight of shape [1, 5], got [1, 4]"),
        (lambda: Transformer(Config(values=3))(torch.zeros(1, 5, 3).long()), "tokens of the model's torch.float32, got torch.int64"),
        (lambda: Transformer(Config(classes=2, pairs=True))(torch.zeros(3, 5).long()), "tokens of an even number of sequences, got 3"),
        (lambda: MODEL.next(torch.zeros(1, 0).long(), MODEL.empty_past(1)), "at least one token, got 0"),
        (lambda: MODEL.next(torch.zeros(2, 1).long(), MODEL.empty_past(1)), "tokens of the past's 1 sequences, got 2"),
        (lambda: Transformer(Config(attention="softmax")).empty_past(1), "a causal model with Fastmax for a past"),
    ],
)
def test_wrong_calls(call, text):
    with pytest.raises(ValueError) as caught:
        call()
    assert text in str(caught.value) and "\n" not in str(caught.value)
