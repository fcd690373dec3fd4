"""The notebook: what is stored in it is small and of no particular machine, and it runs."""

import os
import re
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
NOTEBOOK = Path(__file__).parents[2] / "examples" / "tour.ipynb"


def results(notebook) -> list[tuple[str, int]]:
    """Of each code cell the words that it prints, without figures in them, and how many images."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            printed = "".join(o.text for o in cell.outputs if o.output_type == "stream")
            images = sum("image/png" in o.get("data", {}) for o in cell.outputs)
            found.append((re.sub(r"[\s\d.]+(e-\d+)?", " ", printed), images))
    return found


def test_what_is_stored():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert NOTEBOOK.stat().st_size < 400_000
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]  # of one run from the first to the last
    assert sum(images for _, images in results(notebook)) == 5
    for output in (o for cell in code for o in cell.outputs):
        words = output.get("text", "") + output.get("data", {}).get("text/plain", "")
        assert output.output_type != "error" and output.get("name") != "stderr", words
        assert not re.search(r"(^|\s|['\"])/\w+/", words), f"a path of a machine: {words}"


@pytest.mark.slow
def test_it_runs_and_prints_what_is_stored(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    for package in ("ipykernel", "matplotlib"):
        pytest.importorskip(package)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as the stored outputs were made; threads that wait for a busy CPU take minutes
    for folder in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(folder, str(tmp_path / folder))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    stored = results(notebook)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert results(notebook) == stored
