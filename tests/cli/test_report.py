"""`fastmax report`: what is published follows from what is committed ($FASTMAX_PROGRAM)."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("FASTMAX_PROGRAM", str(ROOT / "build" / "fastmax"))

RECIPE = """
task = "textfile"
model = {layers = 1, heads = 2, dim = 16, mlp = 16}
train = {steps = 20, batch = 4, warmup = 5, evaluate_every = 10, log_every = 5}
data = {path = "text.txt", length = 16}
"""
PLAN = """
[[runs]]
folder = "plays"
recipe = "recipe.toml"
attention = ["softmax", "fastmax2"]
seeds = [1, 2]
set = ["model.scale=1/sqrt(D)"]
"""


def run(folder, *arguments, code=0):
    done = subprocess.run(
        [PROGRAM, *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def todo(folder):
    return run(folder, "report", "--todo", "--results", "results").stdout.splitlines()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a plan whose runs are made."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "results").mkdir()
    (folder / "text.txt").write_text("to be or not to be, that is the question.\n" * 50)
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "results" / "runs.toml").write_text(PLAN)
    commands = todo(folder)
    names = ["softmax-seed1", "fastmax2-seed1", "softmax-seed2", "fastmax2-seed2"]
    assert [pathlib.Path(command.split()[-1]).name for command in commands] == names
    for command in commands:
        subprocess.run(["sh", "-c", command], cwd=folder, check=True, capture_output=True, timeout=300)
    return folder


@pytest.fixture
def place(made, tmp_path):
    """The same to be spoilt."""
    shutil.copytree(made, tmp_path / "place")
    return tmp_path / "place"


def test_todo_lists_what_is_missing(place):
    assert todo(place) == []
    runs = place / "results" / "runs" / "plays"
    result = json.loads((runs / "softmax-seed2" / "result.json").read_text())
    assert (result["attention"], result["seed"], result["threads"]) == ("softmax", 2, 1)
    assert 'scale = "1/sqrt(D)"' in (runs / "fastmax2-seed1" / "recipe.toml").read_text()
    (runs / "softmax-seed2" / "result.json").unlink()
    (command,) = todo(place)
    assert "--resume" in command and command.endswith("results/runs/plays/softmax-seed2")


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ('"softmax"', '"hardmax"', ["runs.toml:2: attention", "fastmax4", "hardmax"]),
        ("seeds = [1, 2]", "", ["runs.toml:2: seeds", "whole numbers"]),
        ("seeds = [1, 2]", "seeds = [1, 1]", ["runs.toml:2: plays/softmax-seed1", "twice"]),
        ("folder", "folders", ["runs.toml:3: folders"]),
        ("[[runs]]", "[[runs]", ["runs.toml:2: expected TOML"]),
    ],
)
def test_a_wrong_plan_is_named(tmp_path, right, wrong, words):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "runs.toml").write_text(PLAN.replace(right, wrong))
    done = run(tmp_path, "report", "--todo", "--results", "results", code=2)
    (line,) = done.stderr.splitlines()
    assert line.startswith("fastmax: error: ") and all(word in line for word in words), line
