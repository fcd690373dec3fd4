"""The wheel as a user gets it: built from the source distribution, installed where there is no compiler, and used."""

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
BUILD = Path(os.environ.get("FASTMAX_BUILD", ROOT / "build"))


def run(*command, **options) -> str:
    """The output of a command that has to succeed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


def readme_example() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return code


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of the source distribution, by the compiler of ``BUILD``.

    Seen from build/sdist/fastmax-X.Y.Z/build the sources lie where ``BUILD`` sees them, so that a compiler cache has what
    it compiled for ``BUILD``.
    """
    pytest.importorskip("scikit_build_core")
    folder = BUILD / "sdist"
    shutil.rmtree(folder, ignore_errors=True)
    hook = f"from scikit_build_core.build import build_sdist; build_sdist({str(folder)!r})"
    run(sys.executable, "-c", hook, cwd=ROOT)
    (archive,) = folder.iterdir()
    shutil.unpack_archive(archive, folder)
    source = folder / archive.name.removesuffix(".tar.gz")

    settings = ["--config-settings=build-dir=build"]  # which Debian 12's pip has; its short form -C came later
    cache = (BUILD / "CMakeCache.txt").read_text()
    for name in ("CMAKE_CXX_COMPILER", "CMAKE_CXX_COMPILER_LAUNCHER"):
        if found := re.search(rf"^{name}:\w+=(.+)$", cache, re.MULTILINE):
            settings.append(f"--config-settings=cmake.define.{name}={found[1]}")
    environment = {**os.environ, "CCACHE_BASEDIR": str(source), "CCACHE_NOHASHDIR": "true"}
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", *settings, "-w", out, "."]
    run(*command, cwd=source, env=environment)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The Python of a new environment that has the wheel and, from this one, torch. Without an index, without a compiler."""
    place = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", place)
    python = place / "bin" / "python"
    # A folder on the path, whose own .pth files (one may lead to these sources) are then not read.
    (site,) = place.glob("lib/python*/site-packages")
    (site / "torch.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-index", wheel]
    run(*pip, env={"PATH": "", "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    return python


@pytest.mark.slow
def test_name_and_content(wheel):
    version = re.search(r"project\(fastmax VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text())[1]
    assert wheel.name == f"fastmax-{version}-py3-none-linux_{platform.machine()}.whl"
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        metadata = file.read(f"fastmax-{version}.dist-info/METADATA").decode()
        library = file.read("fastmax/libfastmax_ops.so")
    sources = {str(path.relative_to(ROOT / "python")) for path in (ROOT / "python").rglob("*.py")}
    about = {f"fastmax-{version}.dist-info/{name}" for name in ("METADATA", "WHEEL", "RECORD", "licenses/LICENSE")}
    carried = {"fastmax/py.typed", "fastmax/libfastmax_ops.so", "fastmax/libhwy.so.1"}
    assert names == sources | about | carried
    assert "Requires-Dist: torch>=2.10\n" in metadata and f"Version: {version}\n" in metadata
    for path in (BUILD, ROOT, Path(torch.__file__).parent):
        assert str(path).encode() not in library, f"the library names {path}"


@pytest.mark.slow
def test_the_readmes_example_runs_from_the_wheel(installed, tmp_path):
    check = "assert o.shape == (2, 8, 64) and state.count == 4097 and q.grad is not None\nprint(fastmax.__file__)"
    environment = {"PATH": "", "HOME": str(tmp_path)}
    where = run(installed, "-c", f"{readme_example()}\n{check}", cwd=tmp_path, env=environment)
    assert Path(where.strip()).is_relative_to(installed.parents[1])
    info = run(installed, "-c", "import fastmax; print(fastmax.info())", cwd=tmp_path, env=environment)
    assert "'commit': 'unknown'" in info  # that of no checkout


def test_import_brings_only_the_package():
    """What takes long to import, or is not installed everywhere, waits for its first use: with torch there, `import
    fastmax` takes 30 ms of a CPU."""
    code = "import sys, torch; had = set(sys.modules); import fastmax; print(*set(sys.modules) - had)"
    found = run(sys.executable, "-c", code, env={**os.environ, "PYTHONPATH": str(ROOT / "python")}).split()
    others = sorted(name for name in found if name.split(".")[0] != "fastmax")
    assert not others
    assert not {"fastmax.hf", "fastmax.distributed", "fastmax.bench"} & set(found)
