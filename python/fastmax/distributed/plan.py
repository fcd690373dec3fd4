"""`python -m fastmax.distributed.plan`: what one layer's attention costs, sequence parallel and by ring attention.

On paper, from counts and from assumed rates: nothing is run. Per training step of one causal sequence of N tokens over P
ranks, H heads of D = E, F = C(D + p, p):

- Fastmax: 20 F (D + 1) H N / P operations: forward the sum of the keys and the causal pass, 2 + 4; backward 10 for the causal
  pass, which sums the keys once more, and 4 for the gradients of the first sum. The scan of states, of s = 4 H F (D + 1)
  bytes, takes ceil(log2 P) rounds each way, and the ranks wait for each. Work inside chunks of C tokens, C / 2F of
  a pass, is left out.
- Ring attention: 2 N² D H / P operations forward, half of the scores being masked and ranks being balanced, and 5 N² D H / P
  backward. k and v pass by all ranks twice, in two bytes a number, dk and dv once, in four. Exchange and
  arithmetic overlap, so that the longer of both is counted.
"""

import argparse
import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Rates:
    fastmax: float = 1e14  # operations/s of a rank
    ring: float = 4e14
    link: float = 5e10  # bytes/s out of a rank
    latency: float = 1e-5  # s of a message


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one rank, the busiest: bytes that it sends, seconds of arithmetic, of exchange and of both."""

    bytes_out: int
    arithmetic: float
    exchange: float
    total: float


def fastmax_cost(N: int, P: int, H: int, D: int, p: int, rates: Rates) -> Cost:
    F = math.comb(D + p, p)
    state = 4 * H * F * (D + 1)
    rounds = max(P - 1, 0).bit_length()  # ceil(log2 P)

    def messages(place: int) -> int:
        return sum(place + 2**i < P for i in range(rounds))

    most = max(messages(rank) + messages(P - 1 - rank) for rank in range(P))  # backward runs from the other end
    arithmetic = 20 * F * (D + 1) * H * N / P / rates.fastmax
    exchange = 2 * rounds * (state / rates.link + rates.latency)
    return Cost(most * state, arithmetic, exchange, arithmetic + exchange)


def ring_cost(N: int, P: int, H: int, D: int, rates: Rates) -> Cost:
    numbers = 2 * math.ceil(N / P) * H * D  # of k and v of a rank
    gradient_hops = P if P > 1 else 0  # back to where they belong
    bytes_out = 2 * (P - 1) * 2 * numbers + gradient_hops * 4 * numbers
    arithmetic = 7 * N * N * D * H / P / rates.ring
    exchange = bytes_out / rates.link + (2 * (P - 1) + gradient_hops) * rates.latency
    return Cost(bytes_out, arithmetic, exchange, max(arithmetic, exchange))


def table(tokens: list[int], ranks: list[int], H: int, D: int, p: int, rates: Rates) -> str:
    """Markdown: bytes are what one rank sends, seconds are arithmetic + exchange for Fastmax, the longer for the ring."""
    lines = [
        "| tokens | GPUs | Fastmax: bytes out | arithmetic, s | exchange, s | total, s "
        "| ring: bytes out | arithmetic, s | exchange, s | total, s | ring / Fastmax |",
        "|" + "---:|" * 11,
    ]
    for N in tokens:
        for P in ranks:
            ours, ring = fastmax_cost(N, P, H, D, p, rates), ring_cost(N, P, H, D, rates)
            cells = [f"{N:,}", f"{P:,}"]
            for cost in (ours, ring):
                cells += [f"{cost.bytes_out:.2e}", *(f"{x:.2g}" for x in (cost.arithmetic, cost.exchange, cost.total))]
            lines.append(f"| {' | '.join(cells)} | {ring.total / ours.total:.2g} |")
    return "\n".join(lines)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"need a whole number >= 1, got {text!r}")
    return int(text)


def _counts(text: str) -> list[int]:
    return [_count(part) for part in text.split(",")]


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"need a number > 0, got {text!r}")
    return value


def main(arguments: list[str] | None = None) -> None:
    description = "Bytes and seconds of one layer's causal attention in a training step, from assumed rates."
    parser = argparse.ArgumentParser("python -m fastmax.distributed.plan", description=description)
    parser.add_argument("--tokens", type=_counts, default=[10**6, 10**8], help="lengths, with commas between")
    parser.add_argument("--gpus", type=_counts, default=[8, 64, 1024], help="numbers of ranks, with commas between")
    parser.add_argument("--heads", type=_count, default=32)
    parser.add_argument("--dim", type=_count, default=64, help="D of a head")
    parser.add_argument("-p", type=int, choices=range(1, 5), default=2, help="order of Fastmax")
    parser.add_argument("--flops", type=_rate, default=Rates.fastmax, help="operations/s of a GPU in Fastmax (%(default)g)")
    parser.add_argument("--ring-flops", type=_rate, default=Rates.ring, help="the same in ring attention (%(default)g)")
    parser.add_argument("--link", type=_rate, default=Rates.link, help="bytes/s out of a GPU (%(default)g)")
    parser.add_argument("--latency", type=_rate, default=Rates.latency, help="seconds of a message (%(default)g)")
    given = parser.parse_args(arguments)
    rates = Rates(given.flops, given.ring_flops, given.link, given.latency)
    print(table(given.tokens, given.gpus, given.heads, given.dim, given.p, rates))


if __name__ == "__main__":
    main()
