"""What is refused: one line that says what was expected and what came, and nothing is left behind."""

import resource
import shutil
import signal
import subprocess

import pytest
from program import PROGRAM, ROOT, error, listops_training, run


def test_help_lists_the_commands():
    text = run("--help").stdout
    for command in "info data train compare eval generate bench demo".split():
        assert f"\n  {command} " in text
        assert "--help" in run(command, "--help").stdout
    assert run("--version").stdout.startswith("fastmax 0.")


def test_wrong_usage_is_one_line_and_exit_code_2(place):
    for arguments in (
        [],
        ["fly"],
        ["train"],
        ["train", "r.toml", "--fast"],
        ["train", "r.toml", "--threads", "0"],
        ["eval"],
        ["generate", place / "run"],
        ["data", "make"],
        ["report", "--speed", "--seconds", "0"],
    ):
        error(*arguments)
    assert "got 'fly'" in error("fly") and "got 'fly'" in error("data", "fly")


@pytest.mark.parametrize("value", ["nan", "-1", "1e6", "fast"])
@pytest.mark.parametrize("option", ["generate --temperature", "bench --seconds", "bench --limit", "scaling --seconds", "report --seconds"])
def test_numbers_of_options_have_a_range(place, tmp_path, option, value):
    command, name = option.split()
    needed = {"generate": [place / "run", "--prompt", "x"], "scaling": ["--out", tmp_path], "report": ["--speed"]}
    line = error(command, *needed.get(command, []), name, value)
    least = "0.001" if command == "report" else "0"
    assert f"{name}: expected a number from {least} to " in line and f"got '{value}'" in line


def test_wrong_input_is_named(place):
    recipe = place / "recipe.toml"
    out = ["--out", place / "never"]
    for arguments, words in (
        (["train", place / "absent.toml"], ["absent.toml"]),
        (["train", recipe, "--set", "model.heds=2", *out], ["model.heds", "model.heads"]),
        (["train", recipe, "--set", "train.steps=many", *out], ["train.steps", "integer", "many"]),
        (["train", recipe, "--set", "task=chess", *out], ["task", "listops, text,", "chess"]),
        (["train", recipe, "--set", "model.attention=max", *out], ["softmax", "fastmax4", '"max"']),
        (["train", recipe, "--set", "model.attention=fastmax2", "--set", "model.p=3", *out],
         ["model.p", '"fastmax2"', "got 3"]),
        (["train", recipe, "--set", "model.normalize=max_norm", *out],
         ["model.normalize", "language model", "tokens to come"]),
        (["train", recipe, "--set", "model.positions=spiral", *out],
         ["learned, sinusoidal, rotary, none", "spiral"]),
        (["compare", recipe, "--attention", "softmax,fastmax1", "--set", "model.normalize=none", *out],
         ["--attention fastmax1", "model.scale"]),
        (["train", recipe, "--set", "data.path=/nowhere", *out], ["/nowhere", "No such file"]),
        (["train", recipe, *out, "--set"], ["--set"]),
        (["compare", recipe, "--attention", "softmax,hardmax", *out], ["fastmax2", "hardmax"]),
        (["compare", recipe, "--attention", "softmax,softmax", *out], ["softmax twice"]),
        (["eval", place.parent], ["recipe.toml"]),
        (["eval", place / "run", "--split", "train"], ["val or test", "train"]),
        (["eval", place / "run", "--logits", place / "logits.npy"], ["--logits", "FILE.safetensors", "logits.npy"]),
        (["eval", place / "run", "--logits", place / "no" / "l.safetensors"], ["--logits", "folder that exists", "no/l"]),
        (["eval", place / "run", "--logits", place / "run" / "model.safetensors"], ["--logits", "weights", "run/model"]),
        (["generate", place / "run", "--prompt", "x", "--top-k", "-1"], ["--top-k"]),
        (["generate", place / "nowhere", "--prompt", "x"], ["nowhere"]),
        (["data", "make", "mnist"], ["data fetch mnist"]),
        (["data", "fetch", "listops"], ["nothing to fetch"]),
        (["data", "make", "textfile"], ["data.path=FILE"]),
    ):
        line = error(*arguments)
        assert all(word in line for word in words), line
    assert not (place / "never").exists()


def test_a_line_of_a_broken_recipe_is_named(place, tmp_path):
    recipe = tmp_path / "broken.toml"
    recipe.write_text('task = "textfile"\n\n[model]\nlayers = "two"\n')
    line = error("train", recipe, "--out", tmp_path / "run")
    assert f"{recipe}:4: model.layers: expected an integer from 1 to 1000, got \"two\"" in line
    assert not (tmp_path / "run").exists()


def test_a_path_that_a_recipe_cannot_hold_is_refused(place, tmp_path):
    """Recipes are TOML, which is UTF-8."""
    data_dir = ["--data-dir", tmp_path / "\udcff"]
    for arguments in (
        ["train", place / "recipe.toml", "--set", "data.path=\udcff.txt", "--out", tmp_path / "run"],
        ["train", ROOT / "recipes" / "listops_short.toml", *data_dir, "--out", tmp_path / "run"],
        ["data", "list", "--json", *data_dir],
    ):
        line = error(*arguments, errors="surrogateescape")
        assert "UTF-8, got " in line and "\udcff" in line
    assert not list(tmp_path.iterdir())


def test_missing_and_damaged_data(listops, tmp_path):
    line = error("train", *listops_training(tmp_path), "--out", tmp_path / "run")
    assert "fastmax data make listops --short" in line
    subprocess.run(["cp", "-r", listops, tmp_path / "data"], check=True)
    file = tmp_path / "data" / "listops_short" / "basic_val.tsv"
    file.write_bytes(file.read_bytes()[:-3])
    line = error("train", *listops_training(tmp_path / "data"), "--out", tmp_path / "run")
    assert f"{file}:61: " in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "recipe.toml"])
def test_damaged_run(place, tmp_path, name):
    subprocess.run(["cp", "-r", place / "run", tmp_path / "run"], check=True)
    file = tmp_path / "run" / name
    file.write_bytes(file.read_bytes()[:-20])
    error("eval", tmp_path / "run")
    file.unlink()
    assert name in error("eval", tmp_path / "run")


def test_damaged_json_is_named(place, listops, tmp_path):
    """The file, what should be where in it, and what is."""

    def damaged(file, right, wrong, *arguments):
        kept = file.read_text()
        assert right in kept
        file.write_text(kept.replace(right, wrong, 1))
        line = error(*arguments)
        file.write_text(kept)
        assert line.startswith(f"fastmax: error: {file}:"), line
        return line.removeprefix(f"fastmax: error: {file}:").strip()

    shutil.copytree(place / "run", tmp_path / "run")
    shutil.copytree(listops, tmp_path / "data")
    plot = ["plot", tmp_path / "run", "--out", tmp_path / "loss.svg"]
    resume = ["train", tmp_path / "run" / "recipe.toml", "--out", tmp_path / "run", "--resume"]
    train = ["train", *listops_training(tmp_path / "data"), "--out", tmp_path / "new"]
    make = ["data", "make", "listops", "--short", "--train", 400, "--val", 60, "--test", 60, "--data-dir", tmp_path / "data"]
    lines, result = tmp_path / "run" / "metrics.jsonl", tmp_path / "run" / "result.json"
    about = tmp_path / "data" / "listops_short" / "dataset.json"
    assert damaged(lines, '"step":5', '"step":"5"', *plot) == '1: step: expected a whole number, got "5"'
    assert damaged(lines, '"step":5', '"step"5', *plot).startswith("1: expected JSON, got parse error at ")
    assert damaged(result, '"accuracy": ', '"accuracy": true, "was": ', *resume) == "val.accuracy: expected a number, got true"
    assert damaged(result, '"parameters"', '"weights"', *resume) == "parameters: expected a whole number, got nothing"
    assert damaged(about, '"train": 400', '"train": "400"', *train) == 'options.train: expected a whole number, got "400"'
    assert damaged(about, '"mean"', '"average"', *make) == "statistics.length.mean: expected a number, got nothing"
    (tmp_path / "scaling.md").write_text("")
    (tmp_path / "table.json").write_text("{}")
    assert damaged(tmp_path / "table.json", "{}", '{"task": 1}', "demo", "--out", tmp_path) == "task: expected a string, got 1"


def test_no_space_left(place, tmp_path):
    """A limit on the size of files stands in for a full disk: writes fail in the same place."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = run(
        "train", place / "recipe.toml", "--out", tmp_path / "run", code=1, preexec_fn=limit
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("fastmax: error: cannot write ") and "safetensors" in last
    assert not list(tmp_path.rglob("*.safetensors*"))
    line = error(
        "data", "make", "listops", "--short", "--data-dir", tmp_path / "data", code=1, preexec_fn=limit
    )
    assert "basic_train.tsv" in line
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".listops_short.lock"]
    line = error("eval", place / "run", "--logits", tmp_path / "l.safetensors", code=1, preexec_fn=limit)
    assert "l.safetensors" in line and not list(tmp_path.glob("l.*"))


def test_what_cannot_be_printed_is_a_failure():
    with open("/dev/full", "w") as full:
        for arguments in (["info"], ["info", "--json"]):
            done = subprocess.run([PROGRAM, *arguments], stdout=full, stderr=subprocess.PIPE, text=True)
            assert done.returncode == 1 and "cannot write to the standard output" in done.stderr
