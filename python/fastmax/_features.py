"""Tokens, features and dropout masks of docs/math.md (sections 1, 3, 8, 9, 10), in torch operations.

What the definition (reference.py) and the composite path (_composite.py) are both made of. Everything is differentiable,
on any device, in any floating type.
"""

import functools
import itertools
import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from fastmax._errors import need

# The streams of one dropout seed.
QUERIES, KEYS, FEATURES = 0, 1, 2


def default_scale(p: int, D: int, normalize: str) -> float:
    """1 for even p; for odd p the largest scale for which no weight can be negative."""
    if p % 2 == 0:
        return 1.0
    need(normalize != "none", "an explicit scale for odd p with normalize='none', where s has no bound", None)
    root = {1: 1.0, 3: 1.5960716379833216}[p]
    return root / D if normalize == "standardize" else root


def coefficients_of(p: int, coefficients: Sequence[float] | None = None) -> list[float]:
    """c_0 .. c_p of f."""
    return [1 / math.factorial(l) for l in range(p + 1)] if coefficients is None else [*coefficients]


def polynomial(s: Tensor, c: list[float]) -> Tensor:
    """f(s) = sum_l c_l s^l, by Horner's rule."""
    f = torch.full_like(s, c[-1])
    for c_l in reversed(c[:-1]):
        f = f * s + c_l
    return f


def normalized(x: Tensor, how: str, key_weight: Tensor | None = None) -> Tensor:
    """x^ of tokens x [B, H, N, D]. key_weight [B, N]: under max_norm, keys of weight 0 do not count,
    and are zeros: what is far longer than those that do would overflow.

    Tokens so large that their squares would overflow are divided by their largest entry first, a constant that cancels.
    """
    if how in ("standardize", "l2"):
        largest = x.detach().abs().amax(-1, keepdim=True)
        unit = torch.where(largest > 1e15, largest, 1)
        x = x / unit
        if how == "l2":
            return x / (x.square().sum(-1, keepdim=True) + 1e-24 / unit.square()).sqrt()
        x = x - x.mean(-1, keepdim=True)
        return x / (x.square().mean(-1, keepdim=True) + 1e-6 / unit.square()).sqrt()
    if how == "max_norm" and x.size(2) > 0:
        counted = x if key_weight is None else torch.where(key_weight[:, None, :, None] > 0, x, 0)
        largest = counted.detach().abs().amax((2, 3), keepdim=True)
        unit = torch.where(largest > 1e15, largest, 1)
        squared = (counted / unit).square().sum(-1, keepdim=True).amax(2, keepdim=True)
        return counted / unit / (squared + 1e-24 / unit.square()).sqrt()
    return x


def kappa(x: Tensor, how: str) -> Tensor:
    """[1, x'']: x^ [..., D] behind the constant; under standardize the reflection takes one dimension away."""
    one = torch.ones_like(x[..., :1])
    if how != "standardize":
        return torch.cat([one, x], -1)
    if x.size(-1) == 1:
        return one
    return torch.cat([one, x[..., 1:] + x[..., :1] / (math.sqrt(x.size(-1)) - 1)], -1)


def features(k: Tensor, p: int) -> Tensor:
    """phi_alpha of kappa k [..., K]: all products of p entries with ascending indices, in lexicographic order.

    Those of order l whose first index is i are k_i times the features of order l - 1 with no index below i, and these
    are the last ones.
    """
    phi, K = k, k.size(-1)
    for order in range(2, p + 1):
        tails = [math.comb(K - i + order - 2, order - 1) for i in range(K)]
        phi = torch.cat([k[..., i : i + 1] * phi[..., phi.size(-1) - tails[i] :] for i in range(K)], -1)
    return phi


def _degrees_and_counts(p: int, K: int) -> tuple[list[int], list[float]]:
    """Of each feature the degree l, indices that are not 0, and l! / prod n_j!, the orders they can come in."""
    return _count_once(p, K)


# What torch.compiler.assume_constant_result does, without importing the compiler, which takes more than a second.
_degrees_and_counts._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.lru_cache(maxsize=64)
def _count_once(p: int, K: int) -> tuple[list[int], list[float]]:
    degrees, counts = [], []
    for index in itertools.combinations_with_replacement(range(K), p):
        repeats = Counter(i for i in index if i > 0).values()
        degrees.append(sum(repeats))
        counts.append(math.factorial(degrees[-1]) / math.prod(map(math.factorial, repeats)))
    return degrees, counts


def feature_weights(p: int, K: int, c: list[float], like: Tensor) -> Tensor:
    """W_alpha [F]: f(s) = sum_alpha W_alpha phi_alpha(kappa_q) phi_alpha(kappa_k)."""
    degrees, counts = _degrees_and_counts(p, K)
    return like.new_tensor([c[l] * count for l, count in zip(degrees, counts)])


def feature_mask(p: int, K: int, rate: float, dropout: str, seed: Tensor, B: int, H: int, first: int,
                 like: Tensor) -> Tensor:  # fmt: skip
    """[B, H, F]: 0 or 1 / (1 - rate) for features that may be dropped, else 1."""
    lowest = 2 if dropout == "quadratic" else 0
    degrees, _ = _degrees_and_counts(p, K)
    stays = torch.tensor([l < lowest for l in degrees], device=like.device)
    kept = keep(rate, seed, FEATURES, B, H, len(degrees), first, like) / (1 - rate)
    return torch.where(stays, 1, kept)


def keep(rate: float, seed: Tensor, stream: int, B: int, H: int, count: int, first: int,
         like: Tensor) -> Tensor:  # fmt: skip
    """[B, H, count]: 1 for what stays, else 0. Batch entries count from `first`.

    Philox4x32-10 at the counter (i / 4, head, batch entry, stream), in int64: products of 32-bit numbers wrap around,
    and the two halves of 64 bits are right all the same.
    """
    low = 0xFFFFFFFF
    seed = seed.to(like.device).reshape(())
    blocks = torch.arange((count + 3) // 4, device=like.device)
    counter = [
        (blocks & low).expand(B, H, -1),
        torch.arange(H, device=like.device)[None, :, None].expand(B, H, len(blocks)),
        torch.arange(first, first + B, device=like.device)[:, None, None].expand(B, H, len(blocks)),
        (stream + 4 * (blocks >> 32)).expand(B, H, -1),
    ]
    key_0, key_1 = seed & low, (seed >> 32) & low
    for _ in range(10):
        a, b = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [
            ((b >> 32) & low) ^ counter[1] ^ key_0,
            b & low,
            ((a >> 32) & low) ^ counter[3] ^ key_1,
            a & low,
        ]
        key_0, key_1 = (key_0 + 0x9E3779B9) & low, (key_1 + 0xBB67AE85) & low
    bits = torch.stack(counter, -1).flatten(-2)[..., :count]
    return (bits >= math.floor(rate * 2**32)).to(like.dtype)
