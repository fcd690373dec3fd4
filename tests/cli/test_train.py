"""Runs: their files, killed and resumed, evaluated, and text from them."""

import json
import random
import shlex
import signal
import subprocess
import time

import pytest
from program import PROGRAM, document, error, listops_training, run
from safetensors import safe_open


def metrics(folder):
    """metrics.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        for key in ("seconds", "steps_per_second", "tokens_per_second"):
            del line[key]
    return lines


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


def test_logits_come_in_order_of_length(listops, tmp_path):
    run("train", *listops_training(listops), "--out", tmp_path / "run")
    file = tmp_path / "logits.safetensors"
    score = document("eval", tmp_path / "run", "--split", "val", "--logits", file)
    with safe_open(file, "numpy") as answers:
        logits, targets = (answers.get_tensor(name) for name in ("logits", "targets"))
    lines = (listops / "listops_short" / "basic_val.tsv").read_text().splitlines()[1:]
    examples = [(len([word for word in line.split() if word not in "()"]), int(line[-1])) for line in lines]
    assert [*targets] == [label for _, label in sorted(examples, key=lambda example: example[0])]
    assert logits.shape == (60, 10) and (logits.argmax(-1) == targets).mean() == score["accuracy"]


def test_a_run_folder_may_have_a_slash_behind_it_an_equals_sign_in_it_and_any_seed(place, tmp_path):
    short = ["--set", "train.steps=2"]
    folder = tmp_path / "lr=0.1"
    run("train", place / "recipe.toml", *short, "seed=9000000000000000", "--out", f"{folder}/")
    run("train", folder / "recipe.toml", "--out", folder, "--resume")
    assert document("eval", folder)["split"] == "test"


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
