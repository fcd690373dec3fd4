"""`fastmax maps` and `fastmax plot`: pictures of runs, with what they show as csv beside."""

import csv

import pytest
from program import error as refusal
from program import run as program

LENGTH = 24

RECIPE = """
task = "textfile"
model = {layers = 2, heads = 2, dim = 16, mlp = 16}
train = {steps = 20, batch = 4, warmup = 5, evaluate_every = 10, log_every = 5, threads = 1}
data = {path = "text.txt", length = LENGTH}
"""


def run(folder, *arguments, code=0):
    return program(*arguments, code=code, cwd=folder)


def error(folder, *arguments):
    return refusal(*arguments, cwd=folder)


def rows(file):
    return list(csv.reader(file.read_text().splitlines()))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Runs of softmax with two seeds and of fastmax2 with one."""
    place = tmp_path_factory.mktemp("pictures")
    (place / "text.txt").write_text("to be or not to be, that is the question.\n" * 50)
    (place / "recipe.toml").write_text(RECIPE.replace("LENGTH", str(LENGTH)))
    for attention, seed in (("softmax", 1), ("softmax", 2), ("fastmax2", 1)):
        keys = ["--set", f"model.attention={attention}", "--set", f"seed={seed}"]
        run(place, "train", "recipe.toml", *keys, "--out", f"{attention}{seed}")
    return place


@pytest.mark.parametrize("attention", ["softmax", "fastmax2"])
def test_maps(place, attention):
    run(place, "maps", f"{attention}1", "--out", "maps.svg")
    assert "layer 1, head 0" in (place / "maps.svg").read_text()
    head, *lines = rows(place / "maps.csv")
    assert head == ["layer", "head", "query", *map(str, range(LENGTH))]
    assert [line[:3] for line in lines] == [
        [str(layer), str(h), str(n)] for layer in (0, 1) for h in (0, 1) for n in range(LENGTH)
    ]
    for line in lines:
        query, weights = int(line[2]), [float(x) for x in line[3:]]
        assert sum(weights) == pytest.approx(1, abs=1e-4)
        assert all(x > 0 for x in weights[: query + 1]) and not any(weights[query + 1 :])  # causal
    # One map of another sequence, as a picture of another kind and as csv alone.
    chosen = ["--layer", 1, "--head", 0, "--example", 3, "--split", "val"]
    run(place, "maps", f"{attention}1", *chosen, "--out", "one.png")
    assert (place / "one.png").read_bytes().startswith(b"\x89PNG")
    run(place, "maps", f"{attention}1", *chosen, "--out", "alone.csv")
    assert (place / "alone.csv").read_text() == (place / "one.csv").read_text()
    assert {tuple(line[:2]) for line in rows(place / "one.csv")[1:]} == {("1", "0")}
    assert not (place / "alone.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["softmax1", "--layer", 2], ["--layer: expected 0 to 1", "got 2"]),
        (["softmax1", "--head", 9], ["--head: expected 0 to 1", "got 9"]),
        (["softmax1", "--example", 1000], ["--example: expected 0 to ", "got 1000"]),
        (["softmax1", "--split", "train"], ["--split", "train"]),
        (["nowhere"], ["run directory", "nowhere"]),
    ],
)
def test_maps_of_what_is_not_there(place, arguments, words):
    line = error(place, "maps", *arguments, "--out", "never.png")
    assert all(word in line for word in words), line
    assert not (place / "never.png").exists() and not (place / "never.csv").exists()
    assert "FILE.svg or FILE.png" in error(place, "maps", "softmax1", "--out", "never.pdf")


def test_plot(place):
    runs = ["softmax1", "softmax2", "fastmax21"]
    run(place, "plot", *runs, "--out", "loss.svg", "--y", "val_loss")
    picture = (place / "loss.svg").read_text()
    assert "softmax, 2 seeds" in picture and "fastmax2" in picture and "range over seeds" in picture
    head, *lines = rows(place / "loss.csv")
    assert head == ["panel", "series", "x_label", "x", "y_label", "y", "low", "high"]
    for _, name, _, step, _, y, low, high in lines:
        assert step in ("10", "20")
        if name == "fastmax2":
            assert (low, high) == ("", "")
        else:
            assert float(low) < float(y) < float(high)
    run(place, "plot", *runs, "--out", "seconds.png", "--x", "seconds")
    assert rows(place / "seconds.csv")[1][2] == "seconds of training"
    line = error(place, "plot", "softmax1", "nowhere", "--out", "never.svg")
    assert "nowhere" in line and not (place / "never.svg").exists()
