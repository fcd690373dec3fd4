"""`python -m fastmax.bench`: what Fastmax costs in PyTorch beside what else one would use, in one run.

Every row compares two contenders on the same inputs in turns, and prints both times, their ratio and, beside it, the ratio
that this project wants to reach. A block is GPT-2 small's: width 768, 12 heads of D = 64, MLP 3072, causal.
"""

import argparse
import dataclasses
import functools
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fastmax._attention import scaled_dot_product_attention
from fastmax._info import info
from fastmax._state import FastmaxState
from fastmax.models import Config, Layer

_GPT2 = Config(heads=12, dim=768, mlp=3072, positions="none")
_TYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def seconds(*contenders: Callable[[], object], repeat: int, clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Median time of each, by the wall clock or another, after one untimed call; they take turns, so that what slows the machine slows all."""
    times: list[list[float]] = [[] for _ in contenders]
    for run in range(repeat + 1):
        for contender, spent in zip(contenders, times):
            start = clock()
            contender()
            if run > 0:
                spent.append(clock() - start)
    return [statistics.median(spent) for spent in times]


def row(name: str, ours: float, theirs: float, goal: float | None, unit: str = "s", **sizes: Any) -> dict:
    """Times and bytes are better small, rates (unit "x/s") large; the ratio says how many times better ours is."""
    ratio = ours / theirs if unit.endswith("/s") else theirs / ours
    return {"row": name, "ours": ours, "theirs": theirs, "unit": unit, "ratio": ratio, "goal": goal, **sizes}


def layer(attention: str, dtype: torch.dtype) -> Layer:
    torch.manual_seed(0)
    return Layer(dataclasses.replace(_GPT2, attention=attention)).to(dtype)


def train_step(N: int, dtype: str, goal: float | None, repeat: int) -> list[dict]:
    """Forward and backward of a block, batch 1, against the same block with scaled_dot_product_attention."""
    x = torch.randn(1, N, _GPT2.dim, dtype=_TYPES[dtype]).requires_grad_()

    def step(block: Layer) -> None:
        block.zero_grad()
        block(x).sum().backward()

    calls = (functools.partial(step, layer(name, x.dtype)) for name in ("fastmax2", "softmax"))
    ours, theirs = seconds(*calls, repeat=repeat)
    return [row("train-step", ours, theirs, goal, N=N, dtype=dtype, against="SDPA")]


class _Writer:
    """A block that writes token after token behind a context of N: with a state, or with a cache of keys and values."""

    def __init__(self, attention: str, context: int, tokens: int):
        self.block, self.n = layer(attention, torch.float32).eval(), context
        k, v = (torch.randn(1, _GPT2.heads, context, 64) for _ in range(2))
        if attention == "softmax":
            room = torch.zeros(1, _GPT2.heads, tokens, 64)
            self.k, self.v = torch.cat([k, room], 2), torch.cat([v, room], 2)
        else:
            self.state = FastmaxState.zeros(1, _GPT2.heads, 64, 64).update(k, v)

    @torch.inference_mode()
    def write(self, x: Tensor, tokens: int) -> None:
        for _ in range(tokens):
            x = self._cached(x) if self.block.attention.order == 0 else self._extended(x)

    def _extended(self, x: Tensor) -> Tensor:
        x, self.state, _ = self.block.extend(x, 0, self.state, None)
        return x

    def _cached(self, x: Tensor) -> Tensor:
        block, n = self.block, self.n
        q, k, v = block.qkv(block.norm1(x)).unflatten(-1, (3, 12, 64)).transpose(1, 3).unbind(2)
        self.k[:, :, n : n + 1], self.v[:, :, n : n + 1] = k, v
        self.n = n + 1
        o = F.scaled_dot_product_attention(q, self.k[:, :, : self.n], self.v[:, :, : self.n])
        x = x + block.out(o.transpose(1, 2).flatten(2))
        return x + block.mlp2(F.gelu(block.mlp1(block.norm2(x))))


def generate(context: int, short: int, tokens: int, repeat: int) -> list[dict]:
    """Tokens a second of a block behind a long context: over a short one's, and over a cache's of keys and values."""
    x = torch.randn(1, 1, _GPT2.dim)
    room = tokens * (repeat + 1)
    writers = (("fastmax2", context), ("fastmax2", short), ("softmax", context))
    calls = [functools.partial(_Writer(name, N, room).write, x, tokens) for name, N in writers]
    far, near, cache = (tokens / spent for spent in seconds(*calls, repeat=repeat))
    return [
        row("generate", far, near, 0.95, "tokens/s", N=context, dtype="f32", against=f"itself at N = {short}"),
        row("generate", far, cache, 5, "tokens/s", N=context, dtype="f32", against="SDPA, KV cache"),
    ]


def by_hand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """What one writes first: all monomials by einsum, phi(x) = [1, x, x x^T / sqrt 2], then two products."""

    def phi(x: Tensor) -> Tensor:
        x = F.layer_norm(x, x.shape[-1:], eps=1e-6)
        squares = torch.einsum("bhni,bhnj->bhnij", x, x).flatten(-2) / math.sqrt(2)
        return torch.cat([torch.ones_like(x[..., :1]), x, squares], -1)

    phi_q, phi_k = phi(q), phi(k)
    numerator = torch.einsum("bhnf,bhfe->bhne", phi_q, torch.einsum("bhmf,bhme->bhfe", phi_k, v))
    return numerator / torch.einsum("bhnf,bhf->bhn", phi_q, phi_k.sum(2))[..., None]


def _measured(which: str, N: int, heads: int, repeat: int) -> dict:
    """One contender in a process of its own: seconds of forward and backward, and by how much memory grew for them."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, heads, N, 64, requires_grad=True) for _ in range(3))
    attend = by_hand if which == "hand" else scaled_dot_product_attention

    def step(n: int = N) -> None:
        attend(q[:, :, :n], k[:, :, :n], v[:, :, :n]).sum().backward()

    def peak() -> int:
        """Not getrusage's, which begins at the peak of the process that started this one."""
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])

    step(16)  # what a first call loads is nobody's
    for x in (q, k, v):
        assert x.grad is not None
        x.grad.zero_()
    before = peak()
    (spent,) = seconds(step, repeat=repeat)
    return {"seconds": spent, "bytes": max(peak() - before, 1)}


def hand_written(N: int, heads: int, repeat: int) -> list[dict]:
    """Against features by einsum, unmasked, forward and backward: time, and memory beyond the inputs."""
    found = []
    for which in ("ours", "hand"):
        measure = f"_measured({which!r}, {N}, {heads}, {repeat})"
        call = f"import json; from fastmax.bench import _measured; print(json.dumps({measure}))"
        command = [sys.executable, "-c", call]
        found.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    ours, hand = found
    sizes: dict[str, Any] = {"N": N, "dtype": "f32", "against": f"einsum by hand, {heads} heads"}
    return [
        row("by-hand", ours["seconds"], hand["seconds"], 10, **sizes),
        row("by-hand", ours["bytes"], hand["bytes"], 20, "bytes", **sizes),
    ]


def composite(N: int, dtype: str, repeat: int) -> list[dict]:
    """The kernels against the path of torch operations, causal, forward and backward."""
    q, k, v = (torch.randn(1, 12, N, 64, dtype=_TYPES[dtype], requires_grad=True) for _ in range(3))

    def step(method: str) -> None:
        scaled_dot_product_attention(q, k, v, is_causal=True, method=method).sum().backward()

    calls = [functools.partial(step, method) for method in ("auto", "composite")]
    ours, theirs = seconds(*calls, repeat=repeat)
    return [row("composite", ours, theirs, None, N=N, dtype=dtype, against="method='composite'")]


def overhead(calls: int, repeat: int) -> list[dict]:
    """One call on four tokens, where all that counts is what stands around the arithmetic: at most twice as much as around
    PyTorch's function, without gradients; and with them, forward and backward. In CPU time: microseconds are lost at once to
    whatever else runs."""
    tokens = [torch.randn(1, 1, 4, 8) for _ in range(3)]
    leaves = [x.clone().requires_grad_() for x in tokens]

    def forward(attend: Callable) -> None:
        for _ in range(calls):
            attend(*tokens)

    def backward(attend: Callable) -> None:
        for _ in range(calls):
            attend(*leaves).sum().backward()

    rows = []
    for step, goal, against in ((forward, 0.5, "SDPA, a call"), (backward, None, "SDPA, with backward")):
        both = (functools.partial(step, f) for f in (scaled_dot_product_attention, F.scaled_dot_product_attention))
        ours, theirs = (x / calls for x in seconds(*both, repeat=repeat, clock=time.process_time))
        rows.append(row("overhead", ours, theirs, goal, N=4, dtype="f32", against=against))
    return rows


def imports(repeat: int) -> list[dict]:
    """`import fastmax` beyond torch's own, in a new process each time; CPU time, as above."""
    clock = "time.process_time()"
    program = f"import time; a = {clock}; import torch; b = {clock}; import fastmax; print(b - a, {clock} - b)"
    runs = (subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True) for _ in range(repeat))
    torchs, ours = (min(x) for x in zip(*(map(float, done.stdout.split()) for done in runs)))
    return [row("import", ours, torchs, None, N=0, dtype="", against="import torch")]


def plan(quick: bool) -> list[tuple[str, Callable[[], list[dict]]]]:
    """The rows, by name. Quick: short sequences, which show that it works and not what it is worth."""
    lengths = ((512, None), (2048, None)) if quick else ((8192, 1.5), (32768, 4.0))
    rows: list[tuple[str, Callable[[], list[dict]]]] = []
    for N, goal in lengths:
        for dtype in _TYPES:
            rows.append(("train-step", functools.partial(train_step, N, dtype, goal, 1 if quick else 2)))
    context, tokens = (2048, 8) if quick else (65536, 64)
    rows.append(("generate", functools.partial(generate, context, 1024, tokens, 3)))
    rows.append(("by-hand", functools.partial(hand_written, 1024 if quick else 16384, 2, 1 if quick else 3)))
    rows.append(("overhead", functools.partial(overhead, 20 if quick else 500, 1 if quick else 9)))
    rows.append(("import", functools.partial(imports, 1 if quick else 5)))
    for dtype in _TYPES:
        rows.append(("composite", functools.partial(composite, 512 if quick else 8192, dtype, 2)))
    return rows


def _figure(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{value / 2**20:.1f} MiB"
    return f"{value:.3g} {unit}" if unit.endswith("/s") else f"{1e3 * value:.4g} ms"


def _line(r: dict) -> str:
    goal = "" if r["goal"] is None else f"{r['goal']:g}"
    ours, theirs = (_figure(r[side], r["unit"]) for side in ("ours", "theirs"))
    return f"{r['row']:<11}{r['N']:>7}  {r['dtype']:<5}{ours:>16}{theirs:>16}{r['ratio']:>9.2f}{goal:>7}  {r['against']}"


def main(arguments: list[str] | None = None) -> None:
    names = list(dict.fromkeys(name for name, _ in plan(quick=True)))
    parser = argparse.ArgumentParser(prog="python -m fastmax.bench", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="short sequences: a look in seconds")
    parser.add_argument("--only", choices=names, action="append", help="these rows only; may be repeated")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout, and nothing else")
    options = parser.parse_args(arguments)
    machine = info()
    if not options.json:
        print(f"{machine['cpu']}, {machine['target']}, {machine['threads']} threads, torch {machine['torch']}")
        print(f"{'row':<11}{'N':>7}  {'type':<5}{'ours':>16}{'theirs':>16}{'ratio':>9}{'goal':>7}  against")
    rows = []
    for name, measure in plan(options.quick):
        if options.only is None or name in options.only:
            for r in measure():
                rows.append(r)
                if not options.json:
                    print(_line(r), flush=True)
    if options.json:
        print(json.dumps({"machine": machine, "quick": options.quick, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
