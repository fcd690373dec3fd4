"""What several files of tests need: a finished run and a small data set. Who spoils them copies them first."""

import random

import pytest
from program import document, run

RECIPE = """
task = "textfile"
model = {layers = 1, heads = 2, dim = 16, mlp = 16, dropout = 0.1}
train = {steps = 60, batch = 4, warmup = 5, evaluate_every = 20, log_every = 5, threads = 1}
data = {path = "PATH", length = 32}
"""


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with a text, a recipe for it, and a finished run of that recipe."""
    place = tmp_path_factory.mktemp("cli")
    words = ["to be", " or not", " to be,", " that is", " the question", ".\n"]
    random.seed(0)
    (place / "text.txt").write_text("".join(random.choice(words) for _ in range(2000)))
    (place / "recipe.toml").write_text(RECIPE.replace("PATH", str(place / "text.txt")))
    run("train", place / "recipe.toml", "--out", place / "run")
    return place


@pytest.fixture(scope="session")
def listops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    made = document(
        "data", "make", "listops", "--short", "--train", 400, "--val", 60, "--test", 60,
        "--data-dir", folder,
    )  # fmt: skip
    assert made["folder"] == str(folder / "listops_short")
    assert made["statistics"]["examples"] == 520
    return folder
