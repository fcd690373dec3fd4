"""The examples run, at small sizes, and print what they promise."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, *arguments, processes: int = 0) -> str:
    """What the example prints; with ``processes``, under torchrun and without GPUs, of which there may be fewer."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    if processes:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes else []
    command = [sys.executable, *torchrun, str(EXAMPLES / name), *map(str, arguments)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def errors(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"\d\.\de-\d+", text)]


def losses(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"loss (\d+\.\d+)", text)]


def test_drop_in():
    lines = run("drop_in.py", "--lengths", "64,128", "--dim", 32, "--heads", 2).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["64", "128"]


def test_decoder_block():
    text = run("decoder_block.py", "--tokens", 32, "--steps", 41)
    found = losses(text)
    assert found[-1] < found[0] and errors(text)[-1] < 1e-4


def test_streaming():
    text = run("streaming.py", "--tokens", 600, "--piece", 200)
    sizes = re.findall(r"state (.*) MiB", text)
    assert len(sizes) == 3 and len(set(sizes)) == 1
    assert "601 tokens each" in text and errors(text)[-1] < 1e-5


def test_train_long_context(tmp_path):
    (tmp_path / "text").write_bytes(b"the cat sat on the mat. " * 40)
    text = run("train_long_context.py", tmp_path / "text", "--context", 96, "--steps", 40, "--write", 10)
    found = losses(text)
    assert found[-1] < 0.5 * found[0] and "The attention" in text


def test_attention_maps(tmp_path):
    pytest.importorskip("matplotlib")
    text = run("attention_maps.py", "--out", tmp_path / "maps.png", "--steps", 30)
    assert len(losses(text)) == 3
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_sequence_parallel():
    lines = run("sequence_parallel.py", "--lengths", "65,130", processes=4).splitlines()
    assert lines[0] == "4 ranks, gloo"
    rows = [line.split() for line in lines[2:]]
    assert [row[:2] for row in rows] == [[name, N] for name in ("unmasked", "causal") for N in ("65", "130")]
    state = 4 * 561 * 33 * 4  # H, C(32 + 2, 2), E + 1, float32
    # Forward and backward: an all-reduce by each of four; a scan by three in its first round, by two in its second.
    unmasked, causal = 2 * 4 * state, 2 * (3 + 2) * state
    assert [int(row[2]) for row in rows] == [unmasked] * 2 + [causal] * 2
    page = (EXAMPLES.parent / "docs" / "distributed.md").read_text()
    assert f"sends {unmasked} bytes unmasked and {causal} causal" in page
    assert all(float(x) < 1e-5 for row in rows for x in row[3:])


@pytest.mark.parametrize("name", ["ddp.py", "fsdp.py", "sequence_parallel.py"])
def test_without_torchrun_they_say_how_to_run_them(name):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("RANK", None)
    done = subprocess.run([sys.executable, str(EXAMPLES / name)], env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == f"need ranks, got a lone process: torchrun --nproc-per-node 4 examples/{name}\n"


@pytest.mark.slow
def test_ddp_and_fsdp():
    small = ("--tokens", 32, "--batch", 4, "--steps", 21)
    one = losses(run("ddp.py", *small, processes=1))
    assert len(one) == 3 and one[-1] < 0.9 * one[0]
    assert losses(run("ddp.py", *small, processes=2)) == pytest.approx(one, abs=5e-4)
    text = run("fsdp.py", *small, processes=2)
    held, total = map(int, re.search(r"holds (\d+) of (\d+) parameters", text).groups())
    assert held <= 0.51 * total
    assert losses(text) == pytest.approx(one, abs=5e-4)


def test_hf_generate():
    text = run("hf_generate.py", "--short", 16, "--long", 300, "--new", 6, "--dim", 32)
    rows = [re.split(r"  +", line.strip()) for line in text.splitlines()[1:]]
    size = {(row[0], row[1]): int(row[2]) for row in rows if len(row) == 4}
    assert size["16", "fastmax.hf.cache"] == size["300", "fastmax.hf.cache"] > 0
    assert size["300", "keys and values"] > 10 * size["16", "keys and values"] > 0
    assert text.count("the same 6 tokens each time") == 2


def test_hf_finetune():
    text = run("hf_finetune.py", "--pretrain", 60, "--finetune", 20, "--length", 64, "--dim", 32)
    table = [[float(x) for x in line.split()] for line in text.splitlines()[1:]]
    assert [row[0] for row in table] == [0, 1, 4, 10, 20]
    softmax, swapped, tuned = table[0][1], table[0][2], table[-1][2]
    assert swapped > 1.1 * softmax and tuned < softmax


def test_hf_finetune_reads_a_file(tmp_path):
    (tmp_path / "text").write_bytes(b"aaaaaaab" * 100)
    text = run("hf_finetune.py", tmp_path / "text", "--pretrain", 90, "--finetune", 4, "--length", 32, "--dim", 16)
    assert float(text.split()[-1]) < 1.2  # nats a byte; ln 256 = 5.5 before training
