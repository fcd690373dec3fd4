"""The definition of Fastmax attention, O(N^2), in float64 and plain torch operations.

    s_nm = scale * q^_n . k^_m,   f(s) = sum_l c_l s^l
    o_n = sum_m w_m f(s_nm) v_m / sum_m w_m f(s_nm)

over all keys, or over m <= n + M - N when causal. Everything else in the package is judged by it; it is slow, and short
enough to be read beside docs/math.md. Autograd differentiates it, any number of times.
"""

import math
from typing import Any

import torch
from torch import Tensor

from fastmax import _features as ft

_FLOOR = 2.0**-49  # of a denominator over the sum of its weights, in float64: docs/math.md, section 7


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    p: int = 2,
    normalize: str = "standardize",
    key_weight: Tensor | None = None,
    coefficients: list[float] | None = None,
    dropout_p: float = 0.0,
    dropout: str = "quadratic",
    seed: int | Tensor = 0,
    initial_state: Tensor | None = None,
    return_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """query [B, H, N, D], key [B, Hkv, M, D], value [B, Hkv, M, E] -> [B, H, N, E] in float64.

    The keywords are those of `fastmax.scaled_dot_product_attention`; states are plain tensors [B, Hkv, F, E + 1].
    Arguments are taken as valid.
    """
    q, k, v = query.double(), key.double(), value.double()
    (B, H, N, D), (_, Hkv, M, _), E = q.shape, k.shape, v.size(3)
    group = H // max(Hkv, 1)
    w = torch.ones(B, M, dtype=q.dtype, device=q.device) if key_weight is None else key_weight.double()
    seed = torch.as_tensor(seed, device=q.device)
    c = ft.coefficients_of(p, coefficients)
    if scale is None:
        scale = ft.default_scale(p, D, normalize)

    q, k = ft.normalized(q, normalize), ft.normalized(k, normalize, w)
    if dropout_p > 0 and dropout == "token":
        q = q * ft.keep(dropout_p, seed, ft.QUERIES, B, H, N, 0, q)[..., None]
        k = k * ft.keep(dropout_p, seed, ft.KEYS, B, Hkv, M, 0, k)[..., None]
    # Keys and values of every query's head; what sees what.
    k_h, v_h = (x.repeat_interleave(group, 1) for x in (k, v))
    weight = w[:, None, None, :].expand(B, H, N, M)
    if is_causal:
        weight = weight.tril(M - N)
    denominators = weight * ft.polynomial(scale * q @ k_h.mT, c)
    numerators = denominators

    kappa_k = ft.kappa(k, normalize)
    K = kappa_k.size(-1)
    needs_features = initial_state is not None or return_state or (dropout_p > 0 and dropout != "token")
    if needs_features:
        one_and_q = ft.kappa(q, normalize)
        kappa_q = torch.cat([one_and_q[..., :1], scale * one_and_q[..., 1:]], -1)
        W = ft.feature_weights(p, K, c, q)
        phi_q, phi_k = ft.features(kappa_q, p), ft.features(kappa_k, p)
    if dropout_p > 0 and dropout != "token":
        mask = ft.feature_mask(p, K, dropout_p, dropout, seed, B, Hkv, 0, q)
        mask, phi = (x.repeat_interleave(group, 1) for x in (mask, phi_k))
        numerators = weight * ((W * mask[:, :, None] * phi_q) @ phi.mT)

    numerator, g, total = numerators @ v_h, denominators.sum(-1, keepdim=True), weight.sum(-1, keepdim=True)
    if initial_state is not None:
        past = initial_state[:, :, : len(W)].double()
        read = (W * phi_q) @ past.repeat_interleave(group, 1)
        numerator, g = numerator + read[..., :E], g + read[..., E:]
        total = total + past[:, :, :1, E:].repeat_interleave(group, 1)
    if p % 2 == 1 or coefficients is not None:
        g = torch.where(g < _FLOOR * total, _FLOOR * total.detach(), g)
    o = torch.where(g == 0, 0, numerator / torch.where(g == 0, 1, g))
    if not return_state:
        return o
    state = phi_k.mT @ (w[:, None, :, None] * torch.cat([v, torch.ones_like(v[..., :1])], -1))
    unused = math.comb(D + p, p) - len(W)  # rows of zeros under standardize
    state = torch.nn.functional.pad(state, (0, 0, 0, unused))
    return o, state if initial_state is None else state + initial_state


def attention_weights(query: Tensor, key: Tensor, **options: Any) -> Tensor:
    """The matrix [B, H, N, M] that attention applies to the values, in float64: attention itself of one-hot values."""
    B, Hkv, M, _ = key.shape
    one_hot = torch.eye(M, dtype=torch.float64, device=key.device).expand(B, Hkv, M, M)
    a = attention(query, key, one_hot, **options)
    assert isinstance(a, Tensor)
    return a
