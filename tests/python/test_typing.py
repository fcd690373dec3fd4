"""The annotations, which py.typed shows to users' type checkers: the package keeps them, and a user's program is judged by them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = Path(os.environ.get("FASTMAX_BUILD", ROOT / "build"))

pytestmark = pytest.mark.slow
pytest.importorskip("mypy")

# Lines that say "error: CODE" are wrong, and mypy says why by that code; the others are right.
PROGRAM = """
import torch
from torch import Tensor
from typing_extensions import assert_type

import fastmax
import fastmax.distributed
import fastmax.hf
from fastmax import FastmaxState, attention_weights, scaled_dot_product_attention, step
from fastmax.models import Config, Past, Transformer
from fastmax.nn import MultiheadAttention
from fastmax.ops import chunk_fastmax

q, k, v = torch.randn(1, 2, 8, 4), torch.randn(1, 2, 8, 4), torch.randn(1, 2, 8, 4)
asks = bool(q.numel())

assert_type(scaled_dot_product_attention(q, k, v), Tensor)
assert_type(scaled_dot_product_attention(q, k, v, None, 0.1, True, scale=0.5, p=1, coefficients=[1, 1]), Tensor)
assert_type(scaled_dot_product_attention(q, k, v, return_state=False), Tensor)
o, state = scaled_dot_product_attention(q, k, v, is_causal=True, return_state=True)
assert_type(o, Tensor)
assert_type(state, FastmaxState)
assert_type(scaled_dot_product_attention(q, k, v, return_state=asks), Tensor | tuple[Tensor, FastmaxState])
assert_type(scaled_dot_product_attention(q, k, v, initial_state=state, cu_seqlens=(q, k)), Tensor)
scaled_dot_product_attention(q, k)  # error: call-overload
scaled_dot_product_attention(q, k, v, p="2")  # error: call-overload
scaled_dot_product_attention(q, k, v, initial_state=q)  # error: call-overload
text: str = scaled_dot_product_attention(q, k, v)  # error: assignment

state = FastmaxState.zeros(1, 2, 4, 4, p=2, dtype=torch.float64, device="cpu")
assert_type(state.update(k, v).query(q), Tensor)
assert_type(state + state.clone().detach().to("cpu"), FastmaxState)
assert_type(FastmaxState.load("state.safetensors").tensor, Tensor)
assert_type(step(q[:, :, 0], k[:, :, 0], v[:, :, 0], state, floor="clamp"), Tensor)
step(q, k, v, state.tensor)  # error: arg-type
state.udpate(k, v)  # error: attr-defined
state + 1  # error: operator

attention = MultiheadAttention(8, 2, p=1, batch_first=False)
assert_type(attention.forward(q, k, v, need_weights=False), tuple[Tensor, Tensor | None])
MultiheadAttention("8", 2)  # error: arg-type
MultiheadAttention(8, 2, heads=2)  # error: call-arg

assert_type(attention_weights(q, k, rows=[0, 1]), Tensor)
assert_type(chunk_fastmax(q, k, v, output_final_state=True), tuple[Tensor, Tensor | None])
model = Transformer(Config(attention="fastmax1", layers=1))
assert_type(model.forward(torch.zeros(1, 8, dtype=torch.int64)), Tensor)
assert_type(model.empty_past(1), Past)
assert_type(model.next(q, model.empty_past(1)), Tensor)
Config(layers="1")  # error: arg-type
assert_type(fastmax.distributed.sequence_parallel_attention(q, k, v), Tensor)
fastmax.hf.register()
fastmax.scaled_dot_product(q, k, v)  # error: attr-defined
"""


def mypy(*arguments: str | Path, cache: str, **environment: str) -> str:
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--cache-dir", BUILD / cache, *arguments]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode in (0, 1) and not done.stderr, done.stderr + done.stdout
    return done.stdout


def test_the_package_keeps_its_annotations():
    pytest.importorskip("transformers")  # without it what is made of its classes has no types
    assert mypy(cache=".mypy_cache") == ""


def test_a_strict_program_is_told_of_its_wrong_calls_and_of_no_others(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    # As if the package were installed: by its annotations alone, whatever strict mypy would say of its own lines.
    settings = tmp_path / "mypy.ini"
    settings.write_text("[mypy]\nstrict = True\nfollow_imports = silent\n")
    said = mypy("--config-file", settings, path, cache=".mypy_cache_of_users", MYPYPATH=str(ROOT / "python"))
    found = re.findall(r"^\S*program\.py:(\d+): error: .*\[([\w-]+)\]$", said, re.MULTILINE)
    lines = enumerate(PROGRAM.splitlines(), 1)
    wanted = [(str(number), line.split("# error: ")[1]) for number, line in lines if "# error: " in line]
    assert found == wanted, said
