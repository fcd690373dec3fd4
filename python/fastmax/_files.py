"""Files of tensors that are there whole or not at all."""

import os
import tempfile
from os import PathLike
from pathlib import Path

from torch import Tensor


def save_tensors(tensors: dict[str, Tensor], path: str | PathLike, metadata: dict[str, str]) -> None:
    """A safetensors file, written beside `path` and renamed: what stood there stays until all of the new one is written."""
    from safetensors.torch import save_file

    path = Path(path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{path.name}.tmp") as folder:
        whole = Path(folder) / path.name
        save_file({name: x.detach().cpu().contiguous() for name, x in tensors.items()}, whole, metadata)
        os.replace(whole, path)
