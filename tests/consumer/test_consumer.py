"""Installs the core, static and shared, and builds somebody else's program on it, two ways."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = Path(os.environ.get("FASTMAX_BUILD", ROOT / "build"))


def execute(*command, **options):
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


def run(*command, **options):
    """The output of a command that has to succeed."""
    done = execute(*command, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


def configured(name):
    """What `BUILD` was configured with."""
    cache = (BUILD / "CMakeCache.txt").read_text()
    found = re.search(rf"^{name}:\w+=(.*)$", cache, re.MULTILINE)
    return f"-D{name}={found[1] if found else ''}"


def build_shared():
    """The core once more, shared. Its objects are those of `BUILD`, which ccache has."""
    folder = BUILD / "shared"
    names = ("CMAKE_BUILD_TYPE", "CMAKE_CXX_COMPILER", "CMAKE_CXX_COMPILER_LAUNCHER")
    same = map(configured, names)
    other = ("-DBUILD_SHARED_LIBS=ON", "-DFASTMAX_BUILD_OPS=OFF", "-DFASTMAX_BUILD_TESTS=OFF")
    run("cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", *same, *other)
    run("cmake", "--build", folder)
    return folder


@pytest.fixture(scope="module", params=["static", "shared"])
def installed(request, tmp_path_factory):
    """The core, installed and then moved: an installed tree names no place."""
    build = BUILD if request.param == "static" else build_shared()
    folder = tmp_path_factory.mktemp(request.param)
    run("cmake", "--install", build, "--prefix", folder / "first", "--component", "core")
    prefix = (folder / "first").rename(folder / "moved")
    libraries = {path.name for path in prefix.rglob("libfastmax*")}
    assert ("libfastmax.a" in libraries) == (request.param == "static"), libraries
    assert ("libfastmax.so" in libraries) == (request.param == "shared"), libraries
    return prefix


def configure_consumer(installed, folder, version):
    return execute(
        *("cmake", "-S", HERE, "-B", folder, "-G", "Ninja"),
        *(f"-Dfastmax_ROOT={installed}", f"-DWANTED_VERSION={version}"),
    )


def check_program(program, installed, environment=None):
    """It runs, without torch, and on the library that was installed."""
    output = run(program, env=environment)
    assert "difference" in output and "fastmax: need an explicit scale" in output
    libraries = run("ldd", program, env=environment)
    assert "torch" not in libraries
    shared = any(installed.rglob("libfastmax.so"))
    assert (f"{installed}/" in libraries) == shared, libraries


def test_find_package(installed, tmp_path):
    done = configure_consumer(installed, tmp_path, "0.1")
    assert done.returncode == 0, done.stdout
    run("cmake", "--build", tmp_path)
    check_program(tmp_path / "consumer", installed)


@pytest.mark.parametrize("version", ["0.1.1", "0.2", "1.0"])
def test_another_version_is_refused(installed, tmp_path, version):
    done = configure_consumer(installed, tmp_path, version)
    assert done.returncode != 0
    assert f'compatible with requested version "{version}"' in " ".join(done.stdout.split())
    assert "version: 0.1.0" in done.stdout


@pytest.mark.skipif(not shutil.which("pkg-config"), reason="pkg-config is not installed")
def test_pkg_config(installed, tmp_path):
    (package,) = installed.glob("lib*/**/fastmax.pc")
    environment = os.environ | {"PKG_CONFIG_PATH": str(package.parent)}
    assert run("pkg-config", "--modversion", "fastmax", env=environment) == "0.1.0\n"
    flags = run("pkg-config", "--cflags", "--libs", "fastmax", env=environment).split()
    shared = any(installed.rglob("libfastmax.so"))
    assert ("-lhwy" in flags) != shared, flags  # a shared library brings what it uses
    run("c++", "-std=c++20", HERE / "main.cc", "-o", tmp_path / "consumer", *flags)
    environment["LD_LIBRARY_PATH"] = str(package.parents[1])
    check_program(tmp_path / "consumer", installed, environment)


def test_install_brings_the_core_alone(installed):
    files = {path.name for path in installed.rglob("*") if path.is_file()}
    assert {"fastmax.h", "state.h", "fastmaxConfig.cmake", "fastmaxConfigVersion.cmake"} <= files
    assert not any("torch" in name or "hwy" in name for name in files)
    headers = "".join(path.read_text() for path in installed.rglob("*.h"))
    includes = re.findall(r"#include [<\"](\S+)[>\"]", headers)
    assert not any(name.startswith(("torch", "ATen", "hwy")) for name in includes)
