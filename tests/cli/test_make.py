"""Data sets by the built-in generators, and the tasks that make their own: `fastmax data make`, mqar, needle."""

import json
import subprocess
import time

import pytest
from test_cli import PROGRAM, ROOT, document, error, run

SMALL = ["--set", "train.steps=6", "--set", "train.evaluate_every=3", "--set", "train.evaluate_examples=8",
         "--set", "train.batch=4", "--set", "train.threads=1", "--set", "model.dim=16", "--set", "model.mlp=16"]  # fmt: skip


def test_sequences_that_a_run_sees(tmp_path):
    made = document(
        "data", "make", "mqar", "--pairs", 3, "--keys", 5, "--length", 10, "--train", 4, "--val", 2, "--test", 50,
        "--seed", 1, "--data-dir", tmp_path,
    )  # fmt: skip
    assert made["options"] == {"length": 10, "pairs": 3, "keys": 5, "train": 4, "val": 2, "test": 50, "seed": 1}
    assert made["statistics"]["vocabulary"] == 133
    assert 0.3 < made["statistics"]["any value of the sequence"] < 0.4
    assert made["folder"] == str(tmp_path / "mqar")
    header, *lines = (tmp_path / "mqar" / "train.tsv").read_text().splitlines()
    assert header == "Tokens\tTargets" and len(lines) == 4
    for line in lines:
        tokens, targets = (field.split(" ") for field in line.split("\t"))
        values = dict(zip(tokens[:6:2], tokens[1:6:2]))
        assert len(values) == 3 and targets == ["-"] * 6 + [values[key] for key in tokens[6:]]

    run("data", "make", "needle", "--length", 6, "--train", 2, "--val", 1, "--test", 1, "--data-dir", tmp_path)
    tokens, targets = (tmp_path / "needle" / "val.tsv").read_text().splitlines()[1].split("\t")
    tokens = tokens.split(" ")
    assert tokens[-1] == "17" and targets == "- - - - - " + tokens[tokens.index("16") + 1]
    sets = {s["task"]: s for s in document("data", "list", "--data-dir", tmp_path)["sets"]}
    assert sets["mqar"]["there"] and sets["needle"]["there"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["mqar", "--pairs", 9, "--keys", 8], "--keys: expected at least as many as pairs = 9, got 8"),
        (["mqar", "--length", 16], "--length: expected more than the 16 tokens of the pairs, got 16"),
        (["needle", "--pairs", 2], "--pairs: expected with mqar, got needle"),
        (["listops", "--length", 20], "--length: expected with mqar, needle, got listops"),
        (["mqar", "--short"], "--short: expected with listops, got mqar"),
        (["mqar", "--train", 0], "--train"),
        (["chess"], "mqar, needle, got \"chess\""),
    ],
)  # fmt: skip
def test_wrong_options(arguments, words, tmp_path):
    assert words in error("data", "make", *arguments, "--data-dir", tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("task", ["mqar", "needle"])
def test_a_task_without_files(task, tmp_path):
    recipe = ROOT / "recipes" / f"{task}.toml"
    pairs = ["--set", "data.pairs=4"] if task == "mqar" else []
    arguments = [recipe, *SMALL, *pairs, "--set", "data.length=24", "--data-dir", tmp_path / "data", "--out"]
    run("train", *arguments, tmp_path / "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["test"]["examples"] == 1000 and 0 <= result["test"]["accuracy"] < 0.5
    assert "perplexity" not in result["test"]
    chance = {"mqar": 1 / 128, "needle": 1 / 16}[task]
    assert min(result["baselines"].values()) == chance and len(result["baselines"]) == 2
    score = document("eval", tmp_path / "run", "--split", "test")
    assert score["accuracy"] == result["test"]["accuracy"]
    assert "learnt text" in error("generate", tmp_path / "run", "--prompt", "x")
    assert "informer" in error("train", *arguments, tmp_path / "no", "--set", "model.attention=informer")
    table = document("compare", *arguments, tmp_path / "compare", "--attention", "softmax,fastmax1")
    assert table["baselines"] == result["baselines"]
    assert "| test accuracy |" in (tmp_path / "compare" / "table.md").read_text()


@pytest.mark.slow
def test_recall_is_learnt(tmp_path):
    arguments = ["train", ROOT / "recipes" / "mqar.toml", "--set", "data.pairs=4", "--set", "data.keys=16", "--set",
                 "data.length=24", "--set", "train.steps=250", "--set", "train.threads=1", "--out"]  # fmt: skip
    accuracies = {}
    for attention in ("fastmax2", "softmax"):
        result = document(*arguments, tmp_path / attention, "--set", f"model.attention={attention}")
        accuracies[attention] = result["test"]["accuracy"]
    assert min(accuracies.values()) > 0.98, accuracies


def test_one_process_makes_a_set(tmp_path):
    """A second one is refused while the first makes it; nothing is left of one that is killed."""
    command = ["data", "make", "listops", "--data-dir", str(tmp_path)]
    first = subprocess.Popen([PROGRAM, *command], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not list(tmp_path.glob("listops.tmp-*")):
        assert first.poll() is None
        time.sleep(0.001)
    assert "another process holds" in error(*command)
    assert first.poll() is None
    first.kill()
    first.wait()
    assert list(tmp_path.glob("listops.tmp-*")) and not (tmp_path / "listops").exists()
    small = ["data", "make", "listops", "--short", "--train", "50", "--val", "5", "--test", "5"]
    run(*small, "--data-dir", tmp_path)
    assert list(tmp_path.glob("listops.tmp-*"))  # another set's
    run("data", "make", "listops", "--train", "20", "--val", "5", "--test", "5", "--data-dir", tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".listops.lock", ".listops_short.lock", "listops", "listops_short"]
