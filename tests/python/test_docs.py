"""The documentation: the site builds without a warning, its links lead somewhere, its code runs, its commands exist."""

import functools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = Path(os.environ.get("FASTMAX_BUILD", ROOT / "build"))
PROGRAM = Path(os.environ.get("FASTMAX_PROGRAM", BUILD / "fastmax"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Of the headings, as the site and GitHub make them: small letters, and hyphens for spaces."""
    headings = re.findall(r"^#+ +(.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=quiet, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    reference = (tmp_path / "site" / "python" / "index.html").read_text()
    # What users call is there, with the words of its docstring, and no markup of docstrings is left over.
    for name in ("scaled_dot_product_attention", "FastmaxState", "nn.MultiheadAttention", "hf.cache", "ops.chunk_fastmax"):
        assert f'id="fastmax.{name}"' in reference, name
    assert "only a boolean key padding mask" in reference and ":::" not in reference
    mathematics = (tmp_path / "site" / "math" / "index.html").read_text()
    assert mathematics.count("<math") > 100 and "arithmatex" not in mathematics
    tour = (tmp_path / "site" / "tour" / "index.html").read_text()
    assert tour.count("data:image/png;base64,") == 5 and "largest error against the definition" in tour
    # It can be read where there is no network.
    fetched = re.findall(r'(?:<script[^>]*src|<link[^>]*rel="stylesheet"[^>]*href)="(https?:[^"]*)"', mathematics + reference)
    assert not fetched


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), f"{named(page)} links to {target}"
        assert not anchor or anchor in anchors(other), f"{named(page)} links to {target}"


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python") and p.name != "README.md"], ids=named)
def test_python_runs(page, tmp_path):
    """A page's blocks are one program, as one rank of one. (README's runs from the wheel.)"""
    code = tmp_path / f"{page.stem}_page.py"
    code.write_text("\n".join(blocks(page, "python")))
    path = os.pathsep.join([str(ROOT / "python"), *sys.path])
    rank = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    command = [sys.executable, code]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **rank, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # What a page says that its code prints.
    for line in done.stdout.splitlines() if page.name == "choosing.md" else ():
        p, scale, *figures = line.split()
        if p.isdigit():
            wanted = r"\| {} \| {}[^|]* \| {} \| {} \|".format(*map(re.escape, (p, scale, *figures)))
            assert re.search(wanted, page.read_text()), line


def test_what_the_results_say_is_in_their_tables():
    """`fastmax report --check` sees to the tables; the page in plain words takes its figures from them."""
    results = ROOT / "docs" / "results"
    tables = "".join(page.read_text() for page in results.glob("*.md") if page.name != "README.md")
    figures = re.findall(r"(?<![\w.])\d+\.\d+(?![\w.]*\w)", prose(results / "README.md"))
    assert len(figures) > 10
    missing = [figure for figure in figures if not re.search(rf"(?<![\d.]){re.escape(figure)}(?!\d)", tables)]
    assert not missing


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "cpp")], ids=named)
def test_cpp_compiles_and_runs(page, tmp_path):
    for i, code in enumerate(blocks(page, "cpp")):
        source = tmp_path / f"{i}.cc"
        source.write_text(code)
        library = BUILD / "src" / "libfastmax.a"
        options = ["-std=c++20", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'include'}"]
        command = ["c++", *options, source, library, "-lhwy", "-pthread"]
        done = subprocess.run([*command, "-o", tmp_path / "page"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert subprocess.run([tmp_path / "page"], cwd=tmp_path, stdout=subprocess.DEVNULL).returncode == 0


@functools.cache
def help_of(*command: str) -> str:
    done = subprocess.run([PROGRAM, *command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, command
    return done.stdout


def test_commands_and_their_options_exist():
    """Of every line `fastmax ...` in a page."""
    seen = 0
    for page in PAGES:
        for line in "".join(blocks(page, "sh")).splitlines():
            words = shlex.split(line, comments=True)
            if not words or Path(words[0]).name != "fastmax":
                continue
            known = help_of(*words[1 : 3 if words[1] in ("data", "export") else 2])
            for option in (word for word in words if word.startswith("--")):
                assert re.search(rf"(^|[\s,]){option}\b", known), f"{named(page)}: {line}: no {option}"
            recipes = [word for word in words if word.startswith("recipes/")]
            assert all((ROOT / recipe).is_file() for recipe in recipes), f"{named(page)}: {line}"
            seen += 1
    assert seen > 8
