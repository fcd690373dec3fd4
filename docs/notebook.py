"""The notebook as a page of the site: its text, code and stored outputs, with nothing run when the site is built."""

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_NOTEBOOK = Path(__file__).parents[1] / "examples" / "tour.ipynb"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by mkdocs with what it found in docs/."""
    cells = json.loads(_NOTEBOOK.read_text())["cells"]
    files.append(File.generated(config, "tour.md", content="\n\n".join(map(_markdown, cells))))
    return files


def _markdown(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    return "\n\n".join([f"```python\n{source}\n```", *map(_output, cell["outputs"])])


def _output(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return f"```text\n{''.join(output['text'])}```"
    image = re.sub(r"\s", "", "".join(output["data"]["image/png"]))
    return f"![figure](data:image/png;base64,{image})"
