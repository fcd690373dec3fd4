"""See what a model attends to, though its attention never forms the matrix: maps of softmax, Fastmax1 and Fastmax2.

    python examples/attention_maps.py --out maps.png

A block learns text of period 7; the map of a model that has understood shows stripes 7 tokens apart.
"""

import argparse
from pathlib import Path

import matplotlib
import torch
from torch import Tensor
from torch.nn import functional as F

import fastmax
from fastmax.models import Config, Transformer

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402


def learnt(attention: str, tokens: Tensor, steps: int) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(Config(attention, layers=1, heads=1, dim=32, mlp=64, vocabulary=32, length=tokens.size(1)))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    print(f"{attention:<9} loss {loss.item():.4f}")
    return model.eval()


@torch.no_grad()
def map_of(model: Transformer, tokens: Tensor) -> Tensor:
    """[N, N]: the first head's weights of the first layer."""
    layer = model.layers[0]
    h = layer.norm1(model.token(tokens) + model.position.weight[: tokens.size(1)])
    q, k, _ = layer.qkv(h).unflatten(-1, (3, 1, -1)).permute(2, 0, 3, 1, 4)
    p = layer.attention.order
    if p == 0:
        hidden = torch.ones(q.size(2), k.size(2), dtype=torch.bool).triu(1)
        return (q @ k.mT / q.size(-1) ** 0.5).masked_fill(hidden, -torch.inf).softmax(-1)[0, 0]
    return fastmax.attention_weights(q, k, is_causal=True, p=p)[0, 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("maps.png"))
    parser.add_argument("--steps", type=int, default=150)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(32, (32, 7), generator=generator)
    tokens = words.repeat(1, 7)[:, :43]
    names = ["softmax", "fastmax1", "fastmax2"]
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
    for axis, name in zip(axes, names):
        a = map_of(learnt(name, tokens, options.steps), tokens[:1])
        axis.imshow(a, cmap="viridis", vmin=0)
        axis.set(title=name, xlabel="key m", ylabel="query n")
    figure.savefig(options.out, dpi=120)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
