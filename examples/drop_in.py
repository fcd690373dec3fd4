"""Change one import: the same model with PyTorch's attention and with Fastmax, its numbers and what it costs.

    python examples/drop_in.py --lengths 1024,4096,16384
"""

import argparse
import time

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention as softmax_attention

from fastmax import scaled_dot_product_attention as fastmax_attention  # this is the import


class SelfAttention(nn.Module):
    def __init__(self, dim: int, heads: int, attend):
        super().__init__()
        self.heads, self.attend = heads, attend
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):  # [B, N, dim]
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [B, heads, N, D]
        o = self.attend(q, k, v, is_causal=True)
        return self.out(o.transpose(1, 2).flatten(2))


def train_step(model: nn.Module, x: torch.Tensor) -> float:
    start = time.perf_counter()
    model(x).square().mean().backward()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lengths", default="1024,4096,16384", help="tokens a sequence, with commas between")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--heads", type=int, default=4)
    options = parser.parse_args()
    torch.manual_seed(0)
    models = {
        "softmax": SelfAttention(options.dim, options.heads, softmax_attention),
        "fastmax": SelfAttention(options.dim, options.heads, fastmax_attention),
    }
    models["fastmax"].load_state_dict(models["softmax"].state_dict())  # nothing but the attention changes
    print(f"{'tokens':>8}" + "".join(f"{name + ', ms':>14}" for name in models) + f"{'ratio':>8}")
    for N in map(int, options.lengths.split(",")):
        x = torch.randn(1, N, options.dim)
        times = [min(train_step(model, x) for _ in range(3)) for model in models.values()]
        print(f"{N:>8}" + "".join(f"{1e3 * t:>14.2f}" for t in times) + f"{times[0] / times[1]:>8.2f}")


if __name__ == "__main__":
    main()
