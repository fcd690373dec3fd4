"""Tokens for tests: the same for the same seed."""

import torch


def normal(*shape, dtype=torch.float64, seed=0, requires_grad=False):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=dtype, generator=generator).requires_grad_(requires_grad)


def make_inputs(B=2, H=4, Hkv=2, N=9, M=12, D=4, E=3, dtype=torch.float64, requires_grad=False):
    options = {"dtype": dtype, "requires_grad": requires_grad}
    return (
        normal(B, H, N, D, **options),
        normal(B, Hkv, M, D, seed=1, **options),
        normal(B, Hkv, M, E, seed=2, **options),
    )
