"""Installs the core into an empty folder and builds somebody else's program against it, two ways."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
BUILD = Path(os.environ.get("FASTMAX_BUILD", HERE.parents[1] / "build"))


def run(*command, **options):
    """The output of a command that has to succeed."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The core, installed and then moved: an installed tree names no place."""
    folder = tmp_path_factory.mktemp("install")
    run("cmake", "--install", BUILD, "--prefix", folder / "first", "--component", "core")
    return (folder / "first").rename(folder / "moved")


def check_program(program):
    assert "first row right" in run(program)
    assert "torch" not in run("ldd", program)


def test_find_package(installed, tmp_path):
    run("cmake", "-S", HERE, "-B", tmp_path, "-G", "Ninja", f"-Dfastmax_ROOT={installed}")
    run("cmake", "--build", tmp_path)
    check_program(tmp_path / "consumer")


@pytest.mark.skipif(not shutil.which("pkg-config"), reason="pkg-config is not installed")
def test_pkg_config(installed, tmp_path):
    (package,) = installed.glob("lib*/**/fastmax.pc")
    environment = os.environ | {"PKG_CONFIG_PATH": str(package.parent)}
    flags = run("pkg-config", "--cflags", "--libs", "fastmax", env=environment).split()
    run("c++", "-std=c++20", HERE / "main.cc", "-o", tmp_path / "consumer", *flags)
    check_program(tmp_path / "consumer")


def test_install_brings_the_core_alone(installed):
    files = {path.name for path in installed.rglob("*") if path.is_file()}
    assert {"libfastmax.a", "fastmax.h", "fastmaxConfig.cmake", "fastmax.pc"} <= files
    assert not any("torch" in name or "hwy" in name or name.endswith(".so") for name in files)
