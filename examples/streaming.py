"""A stream without end, in constant memory: read in pieces, save what was read, go on from it twice, and merge.

    python examples/streaming.py --tokens 65536
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

import fastmax


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=65536)
    parser.add_argument("--piece", type=int, default=4096, help="tokens that arrive together")
    options = parser.parse_args()
    B, H, D = 1, 4, 32
    torch.manual_seed(0)

    def arrive(tokens: int) -> list[torch.Tensor]:
        return [torch.randn(B, H, tokens, D) for _ in range(3)]

    # Read: each piece sees the pieces before it and, causally, itself.
    state = fastmax.FastmaxState.zeros(B, H, D, D)
    while state.count < options.tokens:
        q, k, v = arrive(min(options.piece, options.tokens - state.count))
        start = time.perf_counter()
        o, state = fastmax.scaled_dot_product_attention(
            q, k, v, is_causal=True, initial_state=state, return_state=True
        )
        spent = time.perf_counter() - start
        size = state.tensor.numel() * state.tensor.element_size() / 2**20
        print(f"{state.count:>8} tokens read, {1e6 * spent / q.size(2):6.2f} us a token, state {size:.2f} MiB")

    # Save what was read, as one keeps the prompt that many conversations begin with.
    with tempfile.TemporaryDirectory() as folder:
        state.save(Path(folder) / "prompt.safetensors")
        first = fastmax.FastmaxState.load(Path(folder) / "prompt.safetensors")
    second = first.clone()

    # Go on, token by token, in two ways.
    token = [x[:, :, 0] for x in arrive(1)]
    other = [x[:, :, 0] for x in arrive(1)]
    a, b = fastmax.step(*token, first), fastmax.step(*other, second)
    print(f"two continuations of one prompt: {first.count} tokens each, outputs {(a - b).norm():.3f} apart")

    # Merge: states of two halves, read anywhere in any order, are the state of the whole.
    _, k, v = arrive(options.piece)
    half = options.piece // 2
    left = fastmax.FastmaxState.zeros(B, H, D, D).update(k[:, :, :half], v[:, :, :half])
    right = fastmax.FastmaxState.zeros(B, H, D, D).update(k[:, :, half:], v[:, :, half:])
    query = torch.randn(B, H, 1, D)
    whole = fastmax.scaled_dot_product_attention(query, k, v)
    print(f"two halves merged against the whole: {((left + right).query(query) - whole).abs().max():.1e}")


if __name__ == "__main__":
    main()
