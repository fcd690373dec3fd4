"""The plan of many ranks on paper: its counts, its page and its arguments."""

import shlex
from pathlib import Path

import pytest

from fastmax.distributed.plan import Rates, fastmax_cost, main, ring_cost

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"


def test_fastmax():
    state = 4 * 3 * 2145 * 65  # float32, H, C(64 + 2, 2), E + 1
    rates = Rates(fastmax=1e12, link=1e9, latency=1e-3)
    # What the scan of 4 ranks sends forward is 2, 2, 1, 0 states, and backward 0, 1, 2, 2.
    cost = fastmax_cost(1000, 4, 3, 64, 2, rates)
    assert cost.bytes_out == 3 * state
    assert cost.exchange == pytest.approx(4 * (state / 1e9 + 1e-3))
    assert cost.arithmetic == pytest.approx(20 * 2145 * 65 * 3 * 250 / 1e12)
    assert cost.total == pytest.approx(cost.exchange + cost.arithmetic)
    assert fastmax_cost(10**8, 4, 3, 64, 2, rates).bytes_out == cost.bytes_out
    assert [fastmax_cost(9, P, 3, 64, 2, rates).bytes_out // state for P in (1, 2, 3, 8, 1024)] == [0, 1, 2, 5, 19]
    assert fastmax_cost(9, 1, 3, 64, 2, rates).exchange == 0


def test_ring():
    rates = Rates(ring=1e12, link=1e9, latency=1e-3)
    cost = ring_cost(1000, 4, 3, 64, rates)
    numbers = 2 * 250 * 3 * 64
    assert cost.bytes_out == 3 * 2 * numbers + 3 * 2 * numbers + 4 * 4 * numbers  # forward, again, gradients
    assert cost.exchange == pytest.approx(cost.bytes_out / 1e9 + 10e-3)
    assert cost.arithmetic == pytest.approx(7 * 1000**2 * 64 * 3 / 4 / 1e12)
    assert cost.total == max(cost.arithmetic, cost.exchange)
    assert ring_cost(1000, 1, 3, 64, rates).exchange == 0


def test_page_shows_what_its_commands_print(capsys):
    command, found = "python -m fastmax.distributed.plan", 0
    text = PAGE.read_text()
    for line in text.splitlines():
        if line.strip().startswith(command):
            main(shlex.split(line.strip().removeprefix(command)))
            assert capsys.readouterr().out in text, line
            found += 1
    assert found == 2


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--tokens 0", "argument --tokens: need a whole number >= 1, got '0'"),
        ("--gpus 8,x", "argument --gpus: need a whole number >= 1, got 'x'"),
        ("--heads -3", "argument --heads: "),
        ("--link 0", "argument --link: need a number > 0, got '0'"),
        ("--flops nan", "argument --flops: need a number > 0, got 'nan'"),
        ("--latency inf", "argument --latency: need a number > 0, got 'inf'"),
        ("-p 5", "argument -p: invalid choice: 5"),
    ],
)
def test_bad_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit:
        main(arguments.split())
    assert exit.value.code == 2
    printed = capsys.readouterr()
    assert message in printed.err and not printed.out
