"""python -m fastmax.bench: every row runs and is a ratio of two times that were measured."""

import json

import pytest
import torch

from fastmax import bench, reference


def test_quick_rows_as_json_and_as_a_table(capsys):
    bench.main(["--quick", "--json", "--only", "generate", "--only", "by-hand", "--only", "overhead",
                "--only", "import"])  # fmt: skip
    document = json.loads(capsys.readouterr().out)
    assert document["quick"] and document["machine"]["threads"] == torch.get_num_threads()
    rows = document["rows"]
    assert [(r["row"], r["unit"], r["goal"]) for r in rows] == [
        ("generate", "tokens/s", 0.95), ("generate", "tokens/s", 5), ("by-hand", "s", 10), ("by-hand", "bytes", 20),
        ("overhead", "s", 0.5), ("overhead", "s", None), ("import", "s", None),
    ]  # fmt: skip
    for r in rows:
        quotient = r["ours"] / r["theirs"] if r["unit"] == "tokens/s" else r["theirs"] / r["ours"]
        assert r["ours"] > 0 and r["theirs"] > 0 and r["ratio"] == quotient

    bench.main(["--quick", "--only", "composite"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and all(line.startswith("composite") for line in lines[2:])


def test_the_rows_of_a_training_step_have_their_goals():
    full = [call.args[:3] for name, call in bench.plan(quick=False) if name == "train-step"]
    assert full == [(N, dtype, goal) for N, goal in ((8192, 1.5), (32768, 4.0)) for dtype in ("f32", "bf16")]
    (r,) = bench.train_step(64, "bf16", 1.5, 1)
    assert r["N"] == 64 and r["goal"] == 1.5


def test_what_is_written_by_hand_is_the_same_attention():
    q, k, v = (torch.randn(1, 2, 9, 8, dtype=torch.float64) for _ in range(3))
    torch.testing.assert_close(bench.by_hand(q, k, v), reference.attention(q, k, v))


def test_both_writers_write_what_the_block_computes():
    """Behind a context of one token, they give what the block gives for all tokens at once."""
    x = torch.randn(1, 1, 768)
    for attention in ("fastmax2", "softmax"):
        writer = bench._Writer(attention, 1, 3)
        block = writer.block
        with torch.inference_mode():
            first = block.qkv(block.norm1(x)).unflatten(-1, (3, 12, 64)).transpose(1, 3).unbind(2)
            if attention == "softmax":
                writer.k[:, :, :1], writer.v[:, :, :1] = first[1:]
                second = writer._cached(x)
            else:
                writer.state = bench.FastmaxState.zeros(1, 12, 64, 64).update(*first[1:])
                second = writer._extended(x)
            torch.testing.assert_close(second, block(torch.cat([x, x], 1))[:, 1:], rtol=1e-4, atol=1e-5)


def test_wrong_arguments(capsys):
    with pytest.raises(SystemExit) as caught:
        bench.main(["--only", "everything"])
    assert caught.value.code == 2 and "invalid choice: 'everything'" in capsys.readouterr().err
