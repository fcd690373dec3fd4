"""`fastmax accuracy` through the program."""

import json

import pytest
from program import run as program

SMALL = ["--lengths", "200,400", "--dims", "8", "--orders", "2", "--threads", "1"]


def run(*arguments, code=0):
    return program("accuracy", *arguments, code=code)


def test_files_table_and_json_agree(tmp_path):
    out, page, plot = tmp_path / "a.json", tmp_path / "a.md", tmp_path / "a.svg"
    table = run(*SMALL, "--out", out, "--markdown", page, "--plot", plot).stdout
    figures = json.loads(out.read_text())["figures"]
    assert {f["N"] for f in figures} == {200, 400}
    assert {f["what"] for f in figures} == {
        "float64 output", "float32 output", "bfloat16 output", "float16 output", "float32 state", "float32 gradients"
    }  # fmt: skip
    assert not any(f["missed"] for f in figures)
    worst = max(f["error"] for f in figures if (f["what"], f["inputs"], f["N"]) == ("float32 output", "v + 10", 400))
    for text in (table, page.read_text()):
        line = next(line for line in text.splitlines() if "float32 output" in line and "v + 10" in line)
        assert f"{worst:.1e}" in line and "met" in line
    assert "--lengths 200,400" in page.read_text() and "(a.svg)" in page.read_text()
    assert "</svg>" in plot.read_text()
    assert {p.name for p in tmp_path.iterdir()} == {"a.json", "a.md", "a.svg", "a.csv"}


def test_json_is_the_only_thing_on_stdout():
    document = json.loads(run(*SMALL, "--json").stdout)
    assert document["machine"] and document["interrupted"] is False and document["figures"]


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--lengths", "10"], ["--lengths", "100", "10"]),
        (["--orders", "5"], ["--orders", "1 to 4", "5"]),
        (["--dims", "1"], ["--dims", "1"]),
        (["--threads", "-1"], ["--threads", "-1"]),
        (["--markdown", "/no/such/folder/a.md"], ["/no/such/folder"]),
        (["--plot", "a.pdf"], [".svg", "a.pdf"]),
    ],
)
def test_wrong_usage_is_one_line(arguments, expected):
    done = run(*arguments, code=2)
    lines = done.stderr.splitlines()
    assert done.stdout == "" and len(lines) == 1 and lines[0].startswith("fastmax: error: ")
    assert all(word in lines[0] for word in expected), lines[0]
