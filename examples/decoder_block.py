"""A causal decoder block written out, as in GPT-2, which trains on whole sequences and writes with a constant-size state.

    python examples/decoder_block.py --tokens 256 --steps 60
"""

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fastmax


class DecoderBlock(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """All tokens at once, [B, N, dim] -> [B, N, dim]."""
        q, k, v = self._heads(x)
        return self._finish(x, fastmax.scaled_dot_product_attention(q, k, v, is_causal=True))

    def prefill(self, x: Tensor) -> tuple[Tensor, fastmax.FastmaxState]:
        """The same, and all that later tokens need of these."""
        q, k, v = self._heads(x)
        o, state = fastmax.scaled_dot_product_attention(q, k, v, is_causal=True, return_state=True)
        return self._finish(x, o), state.detach()

    def step(self, x: Tensor, state: fastmax.FastmaxState) -> Tensor:
        """One more token, [B, 1, dim] -> [B, 1, dim]; the state changes in place and does not grow."""
        q, k, v = (y[:, :, 0] for y in self._heads(x))
        return self._finish(x, fastmax.step(q, k, v, state)[:, :, None])

    def _heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """q, k, v [B, heads, N, D], views of what the projection wrote."""
        return self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()

    def _finish(self, x: Tensor, o: Tensor) -> Tensor:
        x = x + self.out(o.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()

    # Of random bits, whether most so far were ones: every output depends on all inputs before it.
    torch.manual_seed(0)
    embed, block, head = nn.Embedding(2, 64), DecoderBlock(64, 4), nn.Linear(64, 2)
    parameters = [*embed.parameters(), *block.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=1e-3)
    for step in range(options.steps):
        bits = torch.randint(2, (8, options.tokens))
        majority = (bits.cumsum(1) * 2 > torch.arange(1, options.tokens + 1)).long()
        loss = F.cross_entropy(head(block(embed(bits))).flatten(0, 1), majority.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 20 == 0 or step == options.steps - 1:
            print(f"step {step:>4}  loss {loss.item():.4f}")

    with torch.no_grad():
        x = embed(torch.randint(2, (1, options.tokens)))
        whole = block(x)
        half = options.tokens // 2
        _, state = block.prefill(x[:, :half])
        for n in range(half, options.tokens):
            y = block.step(x[:, n : n + 1], state)
        print(f"token by token against all at once: {(y - whole[:, -1:]).abs().max():.1e}")


if __name__ == "__main__":
    main()
