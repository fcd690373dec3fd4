"""`fastmax export tensorboard`: what TensorBoard's own reader finds in the files."""

import json
import os
import sys

import pytest
from program import ROOT
from program import error as refusal
from program import run as program

KEYS = {"train_loss", "learning_rate", "steps_per_second"}


def run(*arguments, code=0, expect=program, **variables):
    environment = {**os.environ, "FASTMAX_PYTHON": sys.executable, "PYTHONPATH": str(ROOT / "python"), **variables}
    return expect("export", "tensorboard", *arguments, code=code, env=environment)


def error(*arguments, code, **variables):
    return run(*arguments, code=code, expect=refusal, **variables)


@pytest.fixture
def runs(tmp_path):
    """Two run directories of the same name, of which one has an evaluation and a line that broke off."""
    runs = [tmp_path / "a" / "softmax", tmp_path / "b" / "softmax"]
    for scale, folder in enumerate(runs, 1):
        folder.mkdir(parents=True)
        (folder / "recipe.toml").write_text('task = "textfile"\n')
        lines = [
            {"step": 10 * i, "seconds": 0.5 * i, "train_loss": scale / i, "learning_rate": 1e-3, "steps_per_second": 20.0}
            for i in (1, 2, 3)
        ]
        lines[2] |= {"val_loss": 0.25, "val_accuracy": 0.5}
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "metrics.jsonl").write_text(text + '{"step": 4')
    return runs


def test_tensorboard_reads_the_metrics(runs, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for _ in range(2):  # the second export replaces the first
        run(*runs, "--out", tmp_path / "board")
    for scale, name in enumerate(("a/softmax", "b/softmax"), 1):
        folder = tmp_path / "board" / name
        assert len(list(folder.iterdir())) == 1
        events = accumulator.EventAccumulator(str(folder))
        events.Reload()
        assert set(events.Tags()["scalars"]) == KEYS | {"val_loss", "val_accuracy"}
        losses = events.Scalars("train_loss")
        assert [event.step for event in losses] == [10, 20, 30]
        assert [event.value for event in losses] == pytest.approx([scale, scale / 2, scale / 3])
        assert losses[2].wall_time - losses[0].wall_time == pytest.approx(1.0)
        (evaluation,) = events.Scalars("val_accuracy")
        assert (evaluation.step, evaluation.value) == (30, 0.5)


def test_what_is_missing_is_named(runs, tmp_path):
    assert "has no recipe.toml" in error(tmp_path, code=2)
    line = error(runs[0], code=1, FASTMAX_PYTHON="/nowhere/python")
    assert "/nowhere/python" in line
    # A Python without packages: -I and -S leave out where they are.
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    line = error(runs[0], code=1, FASTMAX_PYTHON=str(bare))
    assert "lacks: fastmax tensorboard" in line and "FASTMAX_PYTHON" in line
    assert not (tmp_path / "runs").exists()
