"""The recipes: every one can be read, every number of the paper's has its source, every key is documented."""

import re

import pytest
from program import ROOT, error, run

RECIPES = sorted(ROOT.glob("recipes/**/*.toml"))
MADE = {"mqar", "needle"}  # while they train


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_recipe_is_read(recipe, tmp_path):
    line = error("train", recipe, "--data-dir", tmp_path / "none", "--set", "train.steps=1", "--set", "train.batch=1",
                 "--set", f"data.path={tmp_path / 'none'}", "--out", tmp_path / "run")  # fmt: skip
    wanted = "made while it trains" if recipe.stem.split("_")[0] in MADE else str(tmp_path / "none")
    assert wanted in line, line


@pytest.mark.parametrize("recipe", sorted(ROOT.glob("recipes/paper/*.toml")), ids=lambda path: path.stem)
def test_every_number_of_the_paper_has_its_source(recipe):
    lines = [line for line in recipe.read_text().splitlines() if re.match(r"\w+ *=", line)]
    assert len(lines) > 20
    for line in lines:
        assert re.search(r" # \S", line), line


def test_every_key_is_documented(tmp_path):
    (tmp_path / "text").write_text("Some text. " * 40)
    (tmp_path / "recipe.toml").write_text('task = "textfile"\n')
    settings = [f"data.path={tmp_path / 'text'}", "data.length=8", "train.steps=1", "train.batch=1", "model.dim=8"]
    out = tmp_path / "run"
    run("train", tmp_path / "recipe.toml", *settings, "--out", out)
    group, keys = "", []
    for line in (out / "recipe.toml").read_text().splitlines():
        if line.startswith("["):
            group = line[1:-1]
        elif match := re.match(r"(\w+) = ", line):
            keys.append((group, match[1]))
    assert len(keys) > 40
    tables = {"model": (ROOT / "README.md").read_text(), "": (ROOT / "docs" / "command_line.md").read_text()}
    for group, key in keys:
        rows = [row.split("|")[1] for row in tables.get(group, tables[""]).splitlines() if row.startswith("| `")]
        assert any(f"`{key}`" in cell for cell in rows), f"{group}.{key}"
