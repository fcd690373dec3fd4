"""What this package is and what it runs on: what the program's `fastmax info --json` prints."""

import subprocess
from pathlib import Path
from typing import Any

import torch

from fastmax._operators import operators


def info() -> dict[str, Any]:
    """{"version", "commit", "compiler", "cpu", "targets", "target", "amx", "threads", "torch", "cuda"}.

    `targets` are the instruction sets that the kernels and this CPU share, best first, `target` the one in use. `commit`
    is that of the checkout that the package lies in, else "unknown". `cuda` is None, or what torch sees.
    """
    version, compiler = operators.build()
    targets = operators.targets().split()
    cuda = {"devices": torch.cuda.device_count()} if torch.cuda.is_available() else None
    return {
        "version": version,
        "commit": _commit(),
        "compiler": compiler,
        "cpu": _cpu(),
        "targets": targets,
        "target": targets[0],
        "amx": "amx_bf16" in _cpuinfo("flags").split(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cuda": cuda,
    }


def _commit() -> str:
    root = Path(__file__).parents[2]
    if not (root / "torch_ops").is_dir():  # installed, perhaps inside somebody else's repository
        return "unknown"
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _cpuinfo(key: str) -> str:
    """The value of the first line "KEY : VALUE"; "" where there is none, as on Arm."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == key), "")


def _cpu() -> str:
    """A hypervisor may hide the name; family, model and stepping still tell which processor it is."""
    name = _cpuinfo("model name")
    if not name:
        return "unknown"
    family, model, stepping = map(_cpuinfo, ("cpu family", "model", "stepping"))
    return f"{name} (family {family}, model {model}, stepping {stepping})"
