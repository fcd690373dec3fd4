"""Data sets by the built-in generators, and the tasks that make their own: `fastmax data make`, mqar, needle."""

import json
import signal
import subprocess
import time

import pytest
from program import PROGRAM, ROOT, document, error, run

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
        (["pathfinder", "--train", 9], "--train: expected with listops, mqar, needle, got pathfinder"),
        (["pathfinder", "--inter", "--easy"], "expected --inter or --easy, got both"),
        (["pathfinder", "--pictures", 0], "--pictures"),
        (["listops", "--pictures", 9], "--pictures: expected with pathfinder, got listops"),
        (["needle", "--easy"], "--easy: expected with pathfinder, got needle"),
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


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_making_pictures_is_stopped(stop, tmp_path):
    command = ["data", "make", "pathfinder", "--easy", "--data-dir", str(tmp_path)]
    making = subprocess.Popen([PROGRAM, *command], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while not list(tmp_path.glob("pathfinder_easy.tmp-*/*/imgs/0/sample_9.png")):
        assert making.poll() is None
        time.sleep(0.001)
    assert "another process holds" in error(*command)
    making.send_signal(stop)
    assert making.wait(20) == (128 + stop if stop == signal.SIGINT else -stop)
    left = list(tmp_path.glob("pathfinder_easy*"))
    assert bool(left) == (stop == signal.SIGKILL)
    if stop == signal.SIGINT:
        assert "stopped, nothing is left" in making.stderr.read().splitlines()[-1]
    making.stderr.close()
    run(*command, "--pictures", 20)
    assert [path.name for path in tmp_path.glob("pathfinder_easy*")] == ["pathfinder_easy"]


@pytest.mark.slow
def test_recall_is_learnt(tmp_path):
    arguments = ["train", ROOT / "recipes" / "mqar.toml", "--set", "data.pairs=4", "--set", "data.keys=16", "--set",
                 "data.length=24", "--set", "train.steps=250", "--set", "train.threads=1", "--out"]  # fmt: skip
    accuracies = {}
    for attention in ("fastmax2", "softmax"):
        result = document(*arguments, tmp_path / attention, "--set", f"model.attention={attention}")
        accuracies[attention] = result["test"]["accuracy"]
    assert min(accuracies.values()) > 0.98, accuracies


def test_pathfinder(tmp_path):
    made = document("data", "make", "pathfinder", "--inter", "--pictures", 60, "--seed", 3, "--data-dir", tmp_path)
    assert made["options"] == {"variant": "inter", "pictures": 60, "seed": 3}
    assert made["folder"] == str(tmp_path / "pathfinder_inter")
    figures = made["statistics"]
    assert 14 < figures["mean"] < 17 and 43 < figures["deviation"] < 49 and 0.72 < figures["black"] < 0.75
    assert 0.01 < figures["accepted"] < 0.025 and 0.3 < figures["connected"] < 0.7
    inside = tmp_path / "pathfinder_inter" / "curv_contour_length_9"
    lines = [line.split(" ") for line in (inside / "metadata" / "0.npy").read_text().splitlines()]
    assert [line[:3] for line in lines] == [["imgs/0", f"sample_{n}.png", str(n)] for n in range(60)]
    assert all(line[4:] == ["1.0", "9", "3", "2", "0.5", "1", "1"] for line in lines)
    pictures = [inside / folder / name for folder, name, *_ in lines]
    # width, height, 8 bits of grey
    assert all(p.read_bytes()[:26] == b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x20\0\0\0\x20\x08\0" for p in pictures)
    sets = {s.get("variant"): s for s in document("data", "list", "--data-dir", tmp_path)["sets"]}
    assert sets["inter"]["there"] and not sets["hard"]["there"] and not sets["easy"]["there"]
    assert sets["easy"]["from"] == "fastmax data make pathfinder --easy"

    again = ["data", "make", "pathfinder", "--inter", "--pictures", 60, "--data-dir", tmp_path, "--seed"]
    assert document(*again, 3)["statistics"] == figures
    assert "other options" in error(*again, 4)

    arguments = [ROOT / "recipes" / "paper" / "image.toml", *SMALL, "--set", "task=pathfinder", "--data-dir", tmp_path,
                 "--set", "data.patch=4", "--set", "data.mask_zero_pixels=false", "--out"]  # fmt: skip
    assert "data make pathfinder`" in error("train", *arguments, tmp_path / "run")
    arguments[1:1] = ["--set", "data.variant=inter"]
    result = document("train", *arguments, tmp_path / "run")
    assert result["test"]["examples"] == 6
    assert document("eval", tmp_path / "run", "--split", "test")["accuracy"] == result["test"]["accuracy"]
    pictures[7].write_bytes(pictures[7].read_bytes()[:100])
    assert f"{pictures[7]}: byte 100: " in error("train", *arguments, tmp_path / "damaged")


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


def test_data(listops):
    text = (listops / "listops_short" / "basic_train.tsv").read_bytes()
    assert text.startswith(b"Source\tTarget\r\n") and text.count(b"\r\n") == 401
    sets = {s.get("variant"): s for s in document("data", "list", "--data-dir", listops)["sets"]}
    assert sets["short"]["there"] and not sets["lra"]["there"]
    line = error("data", "make", "listops", "--short", "--data-dir", listops)
    assert "other options" in line
