"""The program as scripts use it: files, exit codes, one-line errors ($FASTMAX_PROGRAM)."""

import json
import os
import pathlib
import random
import resource
import shlex
import shutil
import signal
import subprocess
import time

import pytest
from safetensors import safe_open

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("FASTMAX_PROGRAM", str(ROOT / "build" / "fastmax"))

RECIPE = """
task = "textfile"
model = {layers = 1, heads = 2, dim = 16, mlp = 16, dropout = 0.1}
train = {steps = 60, batch = 4, warmup = 5, evaluate_every = 20, log_every = 5, threads = 1}
data = {path = "PATH", length = 32}
"""


def run(*arguments, code=0, **options):
    done = subprocess.run(
        [PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def error(*arguments, code=2, **options):
    done = run(*arguments, code=code, **options)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("fastmax: error: "), done.stderr
    return lines[0]


def document(*arguments):
    """What --json prints: one document and nothing else."""
    return json.loads(run(*arguments, "--json").stdout)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a text, a recipe for it, and a finished run of that recipe."""
    place = tmp_path_factory.mktemp("cli")
    words = ["to be", " or not", " to be,", " that is", " the question", ".\n"]
    random.seed(0)
    (place / "text.txt").write_text("".join(random.choice(words) for _ in range(2000)))
    (place / "recipe.toml").write_text(RECIPE.replace("PATH", str(place / "text.txt")))
    run("train", place / "recipe.toml", "--out", place / "run")
    return place


def metrics(folder):
    """metrics.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        for key in ("seconds", "steps_per_second", "tokens_per_second"):
            del line[key]
    return lines


# ---- help and errors --------------------------------------------------------------------------------


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


# ---- runs ---------------------------------------------------------------------------------------------


def test_run_directory(place):
    folder = place / "run"
    result = json.loads((folder / "result.json").read_text())
    assert {
        "task", "attention", "seed", "steps", "val", "test", "steps_per_second",
        "peak_memory_bytes", "parameters", "threads", "machine", "version", "commit",
    } <= set(result)  # fmt: skip
    assert result["attention"] == "fastmax2" and result["steps"] == 60
    lines = metrics(folder)
    assert [line["step"] for line in lines] == list(range(5, 61, 5))
    assert [line["step"] for line in lines if "val_loss" in line] == [20, 40, 60]
    assert "val_accuracy" in lines[-1]
    assert not list(folder.rglob("*.tmp-*"))


def test_existing_run_is_refused_and_a_finished_one_kept(place):
    before = (place / "run" / "result.json").read_bytes()
    assert "--resume" in error("train", place / "recipe.toml", "--out", place / "run")
    run("train", place / "recipe.toml", "--out", place / "run", "--resume")
    assert (place / "run" / "result.json").read_bytes() == before
    line = error(
        "train", place / "recipe.toml", "--set", "train.batch=5", "--out", place / "run", "--resume"
    )
    assert "train.batch is 4 there and 5 here" in line


def test_kept_recipe_trains_the_same_again(place, tmp_path):
    run("train", place / "run" / "recipe.toml", "--out", tmp_path / "again")
    assert metrics(tmp_path / "again") == metrics(place / "run")
    name = "model.safetensors"
    assert (tmp_path / "again" / name).read_bytes() == (place / "run" / name).read_bytes()


def test_killed_anywhere_and_resumed_is_the_same(place, tmp_path):
    # A checkpoint after every step, so that kills fall into every part of the work.
    arguments = [
        "train", place / "recipe.toml", "--set", "train.steps=400", "--set",
        "train.checkpoint_seconds=0", "--resume", "--out",
    ]  # fmt: skip
    run(*arguments, tmp_path / "whole")
    killed = tmp_path / "killed"
    kills = 0
    random.seed(1)
    while not (killed / "result.json").exists():
        process = subprocess.Popen([PROGRAM, *map(str, arguments), str(killed)], stderr=subprocess.PIPE)
        lines = (killed / "metrics.jsonl").read_text().count("\n") if killed.exists() else 0
        while kills < 8 and process.poll() is None:
            file = killed / "metrics.jsonl"
            if file.exists() and file.read_text().count("\n") > lines + 3:
                time.sleep(random.uniform(0, 0.02))
                process.kill()
                kills += 1
                break
            time.sleep(0.001)
        code = process.wait(timeout=120)
        assert code in (0, -signal.SIGKILL), process.stderr.read()
    assert kills >= 3
    assert metrics(killed) == metrics(tmp_path / "whole")
    name = "model.safetensors"
    assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    test = [json.loads((f / "result.json").read_text())["test"] for f in (killed, tmp_path / "whole")]
    assert test[0] == test[1]


def test_interrupt_leaves_a_resumable_run(place, tmp_path):
    arguments = ["train", place / "recipe.toml", "--set", "train.steps=100000", "--out"]
    folder = tmp_path / "a run"
    command = [PROGRAM, *map(str, arguments), str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (folder / "metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    hint = shlex.split(errors.splitlines()[-1].partition("go on with: ")[2])
    assert hint == ["fastmax", "train", str(folder / "recipe.toml"), "--out", str(folder), "--resume"]
    assert (folder / "checkpoint" / "last.safetensors").exists()


def test_eval_generate_and_json(place):
    for split in ("val", "test"):
        score = document("eval", place / "run", "--split", split)
        assert {"task", "split", "examples", "loss", "perplexity", "bits_per_byte"} <= set(score)
        assert score["split"] == split
    result = json.loads((place / "run" / "result.json").read_text())
    assert score["loss"] == pytest.approx(result["test"]["loss"], rel=1e-5)

    arguments = ["generate", place / "run", "--prompt", "to be", "--tokens", "40"]
    first = run(*arguments, "--seed", "5").stdout
    assert first.startswith("to be")
    assert first == run(*arguments, "--seed", "5").stdout
    assert first != run(*arguments, "--seed", "6").stdout
    greedy = document(*arguments, "--temperature", "0")
    assert greedy["text"] == document(*arguments, "--temperature", "0", "--seed", "9")["text"]
    assert greedy["text"] == document(*arguments, "--top-k", "1")["text"]
    assert greedy["tokens"] == 40
    # Longer than the context, and with nothing to begin from.
    assert len(document("generate", place / "run", "--prompt", "x" * 100)["text"]) >= 150
    document("generate", place / "run", "--prompt", "", "--tokens", "2")


@pytest.mark.parametrize(
    "settings",
    [
        ("model.attention=fastmax2", "model.convolution=3"),
        ("model.p=1", "model.positions=rotary", "model.scale_learnable=true"),
        ("model.attention=softmax", "model.positions=sinusoidal"),
    ],
    ids=lambda settings: settings[0],
)
def test_generate_with_a_state_and_without_is_the_same(place, tmp_path, settings):
    """Also where the context (32 tokens) is full, several times, and where characters are cut."""
    sets = [word for setting in settings for word in ("--set", setting)]
    run("train", place / "recipe.toml", *sets, "--out", tmp_path / "run")
    attention = json.loads((tmp_path / "run" / "result.json").read_text())["attention"]
    for prompt, temperature in (("to be, " * 12, 0), ("Señor, ćevapčići — 東京か", 1), ("t", 1)):
        arguments = [
            "generate", tmp_path / "run", "--prompt", prompt, "--tokens", 90, "--seed", 3,
            "--temperature", temperature,
        ]  # fmt: skip
        kept, reread = document(*arguments), document(*arguments, "--no-state")
        assert kept["text"] == reread["text"] and kept["tokens"] == 90
        assert kept["state"] is (attention != "softmax") and reread["state"] is False
        assert kept["tokens_per_second"] > 0 and kept["prompt_seconds"] > 0
    assert document(*arguments[:4], "--tokens", 1)["tokens_per_second"] is None


def test_weights_are_plain_safetensors(place):
    result = json.loads((place / "run" / "result.json").read_text())
    with safe_open(place / "run" / "model.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        assert file.metadata()["step"] == str(result["best_step"])
    assert tensors["token.weight"].shape == (256, 16)
    assert sum(tensor.numel() for tensor in tensors.values()) == result["parameters"]
    with safe_open(place / "run" / "checkpoint" / "last.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["state"])["step"] == 60
        assert (file.get_tensor("second.token.weight") >= 0).all()


def test_profile_accounts_for_every_step(place, tmp_path):
    arguments = ["train", place / "recipe.toml", "--set", "train.steps=5", "--set"]
    convolution = "model.convolution=2"
    result = document(*arguments, convolution, "--out", tmp_path / "run", "--profile")
    profile = result["profile"]
    assert profile["steps"] == 5 and profile["milliseconds"] > 0
    parts = profile["parts"]
    assert sum(parts.values()) == pytest.approx(1) and min(parts.values()) >= 0
    for part in "attention projections norms dropout activations convolution optimiser data".split():
        assert parts[part] > 0, part
    assert "profile" not in json.loads((tmp_path / "run" / "result.json").read_text())
    # Nothing is left to do, so there is nothing to say.
    again = document(*arguments, convolution, "--out", tmp_path / "run", "--resume", "--profile")
    assert "profile" not in again


@pytest.mark.parametrize("name", ["model.safetensors", "recipe.toml"])
def test_damaged_run(place, tmp_path, name):
    subprocess.run(["cp", "-r", place / "run", tmp_path / "run"], check=True)
    file = tmp_path / "run" / name
    file.write_bytes(file.read_bytes()[:-20])
    error("eval", tmp_path / "run")
    file.unlink()
    assert name in error("eval", tmp_path / "run")


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


# ---- data and comparison ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def listops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    made = document(
        "data", "make", "listops", "--short", "--train", 400, "--val", 60, "--test", 60,
        "--data-dir", folder,
    )  # fmt: skip
    assert made["folder"] == str(folder / "listops_short")
    assert made["statistics"]["examples"] == 520
    return folder


def test_data(listops):
    text = (listops / "listops_short" / "basic_train.tsv").read_bytes()
    assert text.startswith(b"Source\tTarget\r\n") and text.count(b"\r\n") == 401
    sets = {s.get("variant"): s for s in document("data", "list", "--data-dir", listops)["sets"]}
    assert sets["short"]["there"] and not sets["lra"]["there"]
    line = error("data", "make", "listops", "--short", "--data-dir", listops)
    assert "other options" in line


def small_listops(listops, *settings):
    recipe = ROOT / "recipes" / "listops_short.toml"
    keys = ["train.steps=8", "train.evaluate_every=4", "train.batch=8", "train.threads=1", *settings]
    return [recipe, "--data-dir", listops, *(word for key in keys for word in ("--set", key))]


def test_logits_come_in_order_of_length(listops, tmp_path):
    run("train", *small_listops(listops), "--out", tmp_path / "run")
    file = tmp_path / "logits.safetensors"
    score = document("eval", tmp_path / "run", "--split", "val", "--logits", file)
    with safe_open(file, "numpy") as answers:
        logits, targets = (answers.get_tensor(name) for name in ("logits", "targets"))
    lines = (listops / "listops_short" / "basic_val.tsv").read_text().splitlines()[1:]
    examples = [(len([word for word in line.split() if word not in "()"]), int(line[-1])) for line in lines]
    assert [*targets] == [label for _, label in sorted(examples, key=lambda example: example[0])]
    assert logits.shape == (60, 10) and (logits.argmax(-1) == targets).mean() == score["accuracy"]


def test_missing_and_damaged_data(listops, tmp_path):
    line = error("train", *small_listops(tmp_path), "--out", tmp_path / "run")
    assert "fastmax data make listops --short" in line
    subprocess.run(["cp", "-r", listops, tmp_path / "data"], check=True)
    file = tmp_path / "data" / "listops_short" / "basic_val.tsv"
    file.write_bytes(file.read_bytes()[:-3])
    line = error("train", *small_listops(tmp_path / "data"), "--out", tmp_path / "run")
    assert f"{file}:61: " in line
    assert not (tmp_path / "run").exists()


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
    train = ["train", *small_listops(tmp_path / "data"), "--out", tmp_path / "new"]
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


def test_compare_keeps_finished_runs(listops, tmp_path):
    out = tmp_path / "compare"
    arguments = ["compare", *small_listops(listops), "--out", out, "--seeds", "1,2", "--attention"]
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


def test_every_recipe_reads(place):
    """The recipes of the repository are complete: each fails only for want of data, if at all."""
    for recipe in sorted((ROOT / "recipes").rglob("*.toml")):
        line = error("train", recipe, "--set", "data.path=/nowhere", "--out", place / "never")
        assert "/nowhere" in line, line


def test_a_run_folder_may_have_a_slash_behind_it_an_equals_sign_in_it_and_any_seed(place, tmp_path):
    short = ["--set", "train.steps=2"]
    folder = tmp_path / "lr=0.1"
    run("train", place / "recipe.toml", *short, "seed=9000000000000000", "--out", f"{folder}/")
    run("train", folder / "recipe.toml", "--out", folder, "--resume")
    assert document("eval", folder)["split"] == "test"


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


def test_what_cannot_be_printed_is_a_failure():
    with open("/dev/full", "w") as full:
        for arguments in (["info"], ["info", "--json"]):
            done = subprocess.run([PROGRAM, *arguments], stdout=full, stderr=subprocess.PIPE, text=True)
            assert done.returncode == 1 and "cannot write to the standard output" in done.stderr


def test_a_run_that_ended_early_has_its_curve(tmp_path):
    """Fewer lines than the recipe's steps would have: what is there is drawn."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'task = "mqar"\nmodel = {layers = 1, heads = 2, dim = 8, mlp = 8}\ndata = {length = 20, pairs = 2}\n'
        "train = {steps = 100000, batch = 4, log_every = 1, evaluate_every = 5, until_accuracy = 0.0001, threads = 1}\n"
    )
    run("train", recipe, "--out", tmp_path / "run")
    run("plot", tmp_path / "run", "--out", tmp_path / "loss.svg")
    assert len((tmp_path / "loss.csv").read_text().splitlines()) > 2
