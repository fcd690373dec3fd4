"""The commands that measure: info, bench and scaling, through the program."""

import json
import signal
import subprocess
import time

import pytest
from program import PROGRAM, error, run

ROW_KEYS = {
    "method", "path", "order", "causal", "B", "H", "N", "M", "D", "E", "dtype", "direction",
    "threads", "ms", "ms_min", "useful_flops", "gflops", "gemm_gflops", "fraction_of_gemm",
    "workspace_bytes", "saved_bytes", "max_error", "why",
}  # fmt: skip
QUICK = ["--repeat", "2", "--seconds", "0.05", "--heads", "1"]


def bench(*arguments, code=0):
    return json.loads(run("bench", "--json", *QUICK, *arguments, code=code).stdout)


def test_info_has_exactly_the_keys_of_the_contract():
    info = json.loads(run("info", "--json").stdout)
    assert set(info) == {
        "version", "commit", "compiler", "cpu", "targets", "target", "amx", "threads", "torch", "cuda"
    }  # fmt: skip
    assert info["target"] in info["targets"] and isinstance(info["amx"], bool)
    assert info["threads"] >= 1
    assert info["version"] in run("info").stdout


def test_rows_of_every_method_and_direction():
    document = bench("--dims", 16, "--lengths", "100,256", "--backward")
    rows = document["rows"]
    assert document["skipped"] == [] and document["interrupted"] is False and document["machine"]
    assert all(set(row) == ROW_KEYS for row in rows)
    # Five methods, three of them at two orders: eight contenders at two lengths, two masks, two directions.
    assert len(rows) == 8 * 2 * 2 * 2
    for row in rows:
        assert row["ms"] >= row["ms_min"] > 0
        assert row["max_error"] < 1e-3
        assert row["gflops"] == pytest.approx(row["useful_flops"] / row["ms"] / 1e6)
        assert (row["saved_bytes"] > 0) == (row["direction"] == "backward")
        assert row["N"] == row["M"] and row["D"] == row["E"] == 16
        assert row["why"]


def test_useful_flops_are_those_of_the_contract():
    rows = bench("--dims", 8, "--lengths", 128, "--orders", 2, "--methods", "direct,factorised", "--backward")["rows"]
    N, D, F = 128, 8, 45  # F = C(8 + 2, 2)
    for row in rows:
        forward = 4 * N * F * (D + 1) if row["path"] == "factorised" else 2 * N * N * 2 * D / (1 + row["causal"])
        assert row["useful_flops"] == forward * (2.5 if row["direction"] == "backward" else 1)
        assert row["path"] == row["method"]


def test_double_and_two_threads():
    rows = bench("--dims", 16, "--lengths", 64, "--dtype", "f64", "--threads", "1,2", "--methods", "fastmax,sdpa")["rows"]
    assert {row["threads"] for row in rows} == {1, 2}
    assert all(row["max_error"] < 1e-10 and row["dtype"] == "f64" for row in rows)


@pytest.mark.parametrize("dtype, allowed", [("bf16", 2e-2), ("f16", 1e-2)])
def test_sixteen_bits(dtype, allowed):
    rows = bench("--dims", 16, "--lengths", 200, "--dtype", dtype, "--backward")["rows"]
    assert {row["method"] for row in rows} == {"fastmax", "direct", "factorised", "sdpa", "softmax"}
    assert all(row["dtype"] == dtype and 0 < row["max_error"] < allowed for row in rows)


def test_tokens_before_heads_and_all_orders():
    quick = ["--repeat", 2, "--seconds", "0.05", "--json", "--batch", 2, "--heads", 3]
    done = run("bench", *quick, "--dims", 6, "--lengths", 100, "--orders", "1,2,3,4", "--layout", "bnhd", "--backward")
    rows = json.loads(done.stdout)["rows"]
    assert {row["order"] for row in rows} == {0, 1, 2, 3, 4}
    assert all(row["max_error"] < 1e-4 and row["B"] == 2 and row["H"] == 3 for row in rows)


@pytest.mark.parametrize("mode", ["token", "standard", "quadratic"])
def test_dropout_is_checked_against_the_mask_that_was_drawn(mode):
    document = bench("--dims", 12, "--lengths", 150, "--orders", "1,2", "--backward", "--dropout", f"0.3,{mode}")
    fast = [row for row in document["rows"] if row["order"]]
    assert all(row["max_error"] < 1e-4 for row in fast)
    assert {row["method"] for row in fast} == {"fastmax", "factorised"} | ({"direct"} if mode == "token" else set())
    assert all("dropout" in skip["why"] for skip in document["skipped"])


def test_out_file_is_the_document_and_the_table_goes_to_stdout(tmp_path):
    out, plot = tmp_path / "b.json", tmp_path / "b.svg"
    table = run("bench", *QUICK, "--dims", 8, "--lengths", "64,128", "--orders", 2, "--causal", 1, "--out", out, "--plot", plot).stdout
    rows = json.loads(out.read_text())["rows"]
    assert {row["method"] for row in rows} == {"fastmax", "direct", "factorised", "sdpa", "softmax"}
    assert "factorised2" in table and "sdpa" in table
    assert "</svg>" in plot.read_text() and "factorised2" in plot.with_suffix(".csv").read_text()
    assert {p.name for p in tmp_path.iterdir()} == {"b.json", "b.svg", "b.csv"}


def test_measurements_are_printed_where_their_file_cannot_be_written():
    done = run("bench", *QUICK, "--dims", 8, "--lengths", 64, "--methods", "fastmax", "--causal", 0, "--out", "/dev/full", code=1)
    assert "cannot write /dev/full" in done.stderr and "fastmax1" in done.stdout


def test_lengths_go_on_with_their_ratio():
    rows = bench("--dims", 8, "--lengths", "64,128,..1k", "--methods", "fastmax", "--orders", 1, "--causal", 0)["rows"]
    assert [row["N"] for row in rows] == [64, 128, 256, 512, 1024]


def test_calls_that_would_take_too_long_are_skipped_and_say_so():
    document = bench("--dims", 8, "--lengths", "64k", "--orders", 1, "--causal", 0, "--limit", "0.001")
    assert {row["method"] for row in document["rows"]} == {"fastmax", "factorised"}
    reasons = {skip["method"]: skip["why"] for skip in document["skipped"]}
    assert set(reasons) == {"direct", "sdpa", "softmax"}
    assert all("--limit" in why or "memory" in why for why in reasons.values()), reasons


def test_a_length_that_has_no_room_is_skipped_and_the_others_are_kept(tmp_path):
    document = bench("--dims", 8, "--lengths", "64,65536M", "--orders", 1, "--causal", 0, "--backward")
    assert {row["N"] for row in document["rows"]} == {64} and len(document["rows"]) == 10
    assert {skip["N"] for skip in document["skipped"]} == {2**36} and len(document["skipped"]) == 10
    assert all(skip["why"].startswith("needs ") for skip in document["skipped"])
    run("bench", "--lengths", "65536M", "--dims", 8, "--plot", tmp_path / "none.svg")
    assert "no data" in (tmp_path / "none.svg").read_text()


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--methods", "flash"], ["fastmax, direct, factorised, sdpa, softmax", "'flash'"]),
        (["--orders", "5"], ["--orders", "1 to 4", "5"]),
        (["--orders", "two"], ["--orders", "two"]),
        (["--dims", "0"], ["--dims", "0"]),
        (["--lengths", "12q"], ["--lengths", "'12q'"]),
        (["--lengths", "256,..1k"], ["--lengths", "two lengths"]),
        (["--causal", "yes"], ["0, 1 or both", "'yes'"]),
        (["--dtype", "f8"], ["f32, bf16, f16 or f64", "'f8'"]),
        (["--layout", "nbhd"], ["bhnd or bnhd", "'nbhd'"]),
        (["--dropout", "1"], ["0 <= RATE < 1", "'1'"]),
        (["--dropout", "0.1,row"], ["quadratic, standard and token", "'0.1,row'"]),
        (["--threads", "0"], ["--threads", "0"]),
        (["--repeat", "0"], ["--repeat", "0"]),
        (["--plot", "a.pdf"], [".svg", "a.pdf"]),
        (["--out", "/no/such/folder/b.json"], ["/no/such/folder"]),
        (["--out", "/tmp"], ["--out", "a file in a folder that exists", "'/tmp'"]),
        (["--suite", "gpu"], ["--suite", "cpu", "'gpu'"]),
        (["--suite", "cpu", "--threads", "1,2"], ["--threads", "1, 2"]),
        (["--suite", "cpu", "--only", "no such row"], ["--only", "no such row"]),
        (["--quick"], ["--quick", "--suite"]),
        (["--nonsense"], ["--nonsense"]),
    ],
)
def test_wrong_usage_is_one_line(arguments, expected):
    line = error("bench", *arguments)
    assert all(word in line for word in expected), line


def test_suite_judges_each_figure(tmp_path):
    out = tmp_path / "suite.json"
    table = run("bench", "--suite", "cpu", "--quick", "--only", "MiB", "--out", out).stdout
    document = json.loads(out.read_text())
    assert document["suite"] == "cpu" and document["quick"] is True and len(document["rows"]) == 2
    for row in document["rows"]:
        assert row["verdict"] == ("miss" if row["measured"] > row["must"] else "pass")
        assert row["figure"] in table
    (row,) = json.loads(run("bench", "--suite", "cpu", "--quick", "--only", "AMX bf16 against f32, speed, D=32", "--json").stdout)["rows"]
    if json.loads(run("info", "--json").stdout)["amx"]:
        assert row["verdict"] in ("miss", "pass", "aim") and row["measured"] > 1
    else:
        assert row["verdict"] == "not run" and row["measured"] is None and row["note"]


def test_interruption_keeps_what_was_measured(tmp_path):
    out = tmp_path / "b.json"
    child = subprocess.Popen(
        [PROGRAM, "bench", "--dims", "32", "--lengths", "64,128,..64k", "--repeat", "1000", "--seconds", "1", "--out", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(6)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=120)
    assert child.returncode == 130 and "stopped after" in errors
    document = json.loads(out.read_text())
    assert document["interrupted"] is True and document["rows"]


def test_scaling_writes_table_json_and_plot(tmp_path):
    table = run("scaling", "--lengths", "64,256", "--attention", "softmax,fastmax2", "--seconds", "0.1", "--out", tmp_path).stdout
    assert "fastmax2" in table
    rows = json.loads((tmp_path / "scaling.json").read_text())["rows"]
    assert [(row["attention"], row["N"]) for row in rows] == [
        (name, n) for n in (64, 256) for name in ("softmax", "fastmax2")
    ]
    assert all(row["steps_per_second"] > 0 and row["peak_memory_bytes"] > 0 for row in rows)
    assert {p.name for p in tmp_path.iterdir()} == {"scaling.json", "scaling.svg", "scaling.csv"}


def test_scaling_measures_the_model_of_the_recipe(tmp_path):
    """Of pairs two sequences are read, of patches a token is numbers: both show in the memory."""
    small = "model = {layers = 1, heads = 1, dim = 8, mlp = 8}\n"

    def memory(task, *settings):
        (tmp_path / "recipe.toml").write_text(f'task = "{task}"\n{small}')
        sets = [word for setting in settings for word in ("--set", setting)]
        arguments = ["--attention", "fastmax1", "--lengths", "4k", "--seconds", 0, "--threads", 1, "--out", tmp_path]
        run("scaling", tmp_path / "recipe.toml", *sets, *arguments)
        (row,) = json.loads((tmp_path / "scaling.json").read_text())["rows"]
        return row["peak_memory_bytes"]

    assert memory("retrieval") > 1.5 * memory("text")
    assert memory("image", "data.patch=32") > 2 * memory("image")


def test_scaling_refuses_an_unknown_attention(tmp_path):
    line = error("scaling", "--attention", "flash", "--out", tmp_path / "new")
    assert "softmax" in line and '"flash"' in line
    assert not (tmp_path / "new").exists()
