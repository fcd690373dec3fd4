"""`fastmax compare`: tables of runs side by side, and which data they are of."""

import json

import pytest
from program import document, error, listops_training, run


def test_compare_keeps_finished_runs(listops, tmp_path):
    out = tmp_path / "compare"
    arguments = ["compare", *listops_training(listops), "--out", out, "--seeds", "1,2", "--attention"]
    run(*arguments, "fastmax2")
    kept = (out / "fastmax2-seed1" / "result.json").stat().st_mtime_ns
    table = document(*arguments, "softmax,fastmax2,fastmax1")
    assert (out / "fastmax2-seed1" / "result.json").stat().st_mtime_ns == kept
    assert table == json.loads((out / "table.json").read_text())
    assert [row["attention"] for row in table["rows"]] == ["softmax", "fastmax2", "fastmax1"]
    for row in table["rows"]:
        assert {
            "seeds", "accuracy_mean", "accuracy_std", "steps_per_second", "peak_memory_bytes",
            "speedup_over_softmax",
        } <= set(row)  # fmt: skip
        assert row["seeds"] == [1, 2]
        files = [out / f"{row['attention']}-seed{seed}" / "result.json" for seed in (1, 2)]
        runs = [json.loads(file.read_text()) for file in files]
        accuracies = [result["test"]["accuracy"] for result in runs]
        assert row["accuracy_mean"] == pytest.approx(sum(accuracies) / 2)
        assert row["accuracy_std"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / 2**0.5)
    assert table["rows"][0]["speedup_over_softmax"] == 1
    markdown = (out / "table.md").read_text()
    assert "| softmax |" in markdown and "majority class" in markdown
    assert "<svg" in (out / "loss.svg").read_text()
    score = document("eval", out / "softmax-seed2")
    assert set(score) == {"task", "split", "examples", "loss", "accuracy"}
    assert "learnt text" in error("generate", out / "softmax-seed2", "--prompt", "x")


def test_another_set_of_papers_is_named_in_all_that_is_said_of_it(tmp_path):
    data = tmp_path / "data" / "retrieval"
    data.mkdir(parents=True)
    pairs = "".join(f"{i % 2}\tA{i}\tB{i}\tpaper {i}\tanother {i}\n" for i in range(8))
    for part in ("train", "eval", "test"):
        (data / f"new_aan_pairs.{part}.tsv").write_text(pairs)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'task = "retrieval"\n[model]\nlayers = 1\nheads = 2\ndim = 8\nmlp = 8\n'
        f'[train]\nsteps = 4\nbatch = 2\nevaluate_every = 2\nlog_every = 1\nthreads = 1\n'
        f'[data]\nlength = 16\npath = "{data}"\n'
    )
    out = tmp_path / "out"
    assert "attention (AAN-proxy)" in run("compare", recipe, "--attention", "softmax", "--out", out).stdout
    assert "attention (AAN-proxy)" in (out / "table.md").read_text()
    assert json.loads((out / "table.json").read_text())["data"] == "AAN-proxy"
    assert "retrieval (AAN-proxy): training" in (out / "loss.svg").read_text()
    folder = out / "softmax-seed1"
    assert document("eval", folder)["data"] == "AAN-proxy"
    assert "AAN-proxy" in run("eval", folder).stdout
    assert "AAN-proxy" in run("train", recipe, "--out", tmp_path / "run").stdout
    assert json.loads((tmp_path / "run" / "result.json").read_text())["train_examples"] == 8
    run("plot", folder, "--out", tmp_path / "loss.svg")
    assert "retrieval (AAN-proxy): training" in (tmp_path / "loss.svg").read_text()
