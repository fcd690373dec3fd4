"""The program as scripts use it: exit codes, one-line errors ($FASTMAX_PROGRAM)."""

import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("FASTMAX_PROGRAM", str(ROOT / "build" / "fastmax"))


def run(*arguments, code=0, **options):
    done = subprocess.run(
        [PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def error(*arguments, code=2, **options):
    """The one line that a failure prints, and nothing else."""
    done = run(*arguments, code=code, **options)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("fastmax: error: "), done.stderr
    return lines[0]


def document(*arguments):
    """What --json prints: one document and nothing else."""
    return json.loads(run(*arguments, "--json").stdout)


def listops_training(data_dir, *settings):
    """The arguments of a train that takes eight steps on the short ListOps in `data_dir`."""
    recipe = ROOT / "recipes" / "listops_short.toml"
    keys = ["train.steps=8", "train.evaluate_every=4", "train.batch=8", "train.threads=1", *settings]
    return [recipe, "--data-dir", data_dir, *(word for key in keys for word in ("--set", key))]
