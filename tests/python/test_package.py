"""What `import fastmax` brings, and what it says of itself."""

import inspect
import os
import subprocess
import sys
import typing

import pytest
import torch

import fastmax


def test_the_import_brings_no_compiler():
    """torch._dynamo alone takes more than a second."""
    program = "import sys, torch, fastmax; print('torch._dynamo' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                            capture_output=True, text=True, check=True)  # fmt: skip
    assert result.stdout.strip() == "False"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="typing.get_overloads is of Python 3.11")
def test_type_checkers_are_told_what_comes_back():
    overloads = [inspect.signature(x) for x in typing.get_overloads(fastmax.scaled_dot_product_attention)]
    assert [x.return_annotation for x in overloads[:2]] == [torch.Tensor, tuple[torch.Tensor, fastmax.FastmaxState]]
    for signature in overloads:
        for name, ours in inspect.signature(fastmax.scaled_dot_product_attention).parameters.items():
            theirs = signature.parameters[name]
            assert theirs.kind == ours.kind
            assert name == "return_state" or theirs.annotation == ours.annotation
        assert [*signature.parameters] == [*inspect.signature(fastmax.scaled_dot_product_attention).parameters]


def test_modules_come_by_name():
    pytest.importorskip("transformers")
    assert {"distributed", "hf", "nn", "step"} <= {*dir(fastmax)}
    program = (
        "import sys, fastmax; assert 'transformers' not in sys.modules; "
        "print(fastmax.hf.register, fastmax.distributed.sequence_parallel_attention, fastmax.nn.MultiheadAttention)"
    )
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=True)
    with pytest.raises(AttributeError, match="no attribute 'cuda'"):
        fastmax.cuda


def test_info_names_what_runs():
    info = fastmax.info()
    assert [*info] == [
        "version",
        "commit",
        "compiler",
        "cpu",
        "targets",
        "target",
        "amx",
        "threads",
        "torch",
        "cuda",
    ]
    assert info["target"] in info["targets"] and info["threads"] == torch.get_num_threads()
