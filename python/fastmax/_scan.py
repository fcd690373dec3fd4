"""The linear form as a scan over chunks of tokens: docs/math.md, sections 3 to 5, on tokens that are prepared for it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fastmax import _features as ft
from fastmax._derivatives import is_transformed, vjp


class Scan:
    """sums(queries) = phi(kappa_q) W S + what their own chunk adds;  S <- S + phi(kappa_k)^T values, chunk by chunk."""

    def __init__(self, p: int, c: list[float], group: int, masked: bool, chunk: int, causal: bool):
        self.p, self.c, self.group, self.masked, self.chunk, self.causal = p, c, group, masked, chunk, causal

    def absorb(self, kappa_k: Tensor, values: Tensor) -> Tensor:
        return ft.features(kappa_k, self.p).mT @ values

    def read(self, kappa_q: Tensor, S: Tensor, W: Tensor) -> Tensor:
        """Heads of a group are rows of one matrix."""
        B, H, N, K = kappa_q.shape
        phi = ft.features(kappa_q.reshape(B, S.size(1), self.group * N, K), self.p)
        return (phi @ (W * S)).reshape(B, H, N, S.size(-1))

    def read_chunk(self, kappa_q: Tensor, kappa_k: Tensor, values: Tensor, S: Tensor, W: Tensor) -> Tensor:
        """The state, and of the chunk itself the keys up to the query's own."""
        B, H, C, K = kappa_q.shape
        E = values.size(-1) - 1
        grouped = kappa_q.reshape(B, S.size(1), self.group * C, K)
        sees = torch.ones(C, C, dtype=values.dtype, device=values.device).tril().repeat(self.group, 1)
        f = sees * ft.polynomial(grouped @ kappa_k.mT - 1, self.c)  # both kappas begin with 1
        if self.masked:
            phi_q, phi_k = ft.features(grouped, self.p), ft.features(kappa_k, self.p)
            numerators = sees * ((phi_q * W[:, :, None, :, 0]) @ phi_k.mT)
            own = torch.cat([numerators @ values[..., :E], f @ values[..., E:]], -1)
        else:
            own = f @ values
        return self.read(kappa_q, S, W) + own.reshape(B, H, C, E + 1)

    def chunks(self, n_end: int) -> list[slice]:
        """Of no tokens one empty chunk, so that results depend on all inputs, and gradients flow, at any sizes."""
        return [slice(i, min(i + self.chunk, n_end)) for i in range(0, max(n_end, 1), self.chunk)]

    def parts(self, kappa_q: Tensor, kappa_k: Tensor) -> tuple[list[slice], list[slice], int]:
        """Keys that every query sees; queries; and how far a causal query's own key lies behind it."""
        N, M = kappa_q.size(2), kappa_k.size(2)
        offset = M - N if self.causal else M
        everyones = [] if self.causal and offset == 0 else self.chunks(offset)
        return everyones, self.chunks(N), offset

    def run(
        self, kappa_q: Tensor, kappa_k: Tensor, values: Tensor, W: Tensor, past: Tensor
    ) -> tuple[Tensor, Tensor]:
        S, sums = past, []
        everyones, queries, offset = self.parts(kappa_q, kappa_k)
        for m in everyones:
            S = S + self.absorb(kappa_k[:, :, m], values[:, :, m])
        for n in queries:
            if self.causal:
                m = slice(n.start + offset, n.stop + offset)
                k_m, v_m = kappa_k[:, :, m], values[:, :, m]
                sums.append(self.read_chunk(kappa_q[:, :, n], k_m, v_m, S, W))
                S = S + self.absorb(k_m, v_m)
            else:
                sums.append(self.read(kappa_q[:, :, n], S, W))
        return torch.cat(sums, 2), S

    def vjp(self, inputs: Sequence[Tensor], d_sums: Tensor, R: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of run, for kappa_q, kappa_k, values and past. Chunks are computed again: a suffix scan, R = dL / dS, over the
        states before them."""
        kappa_q, kappa_k, values, W, past = inputs
        everyones, queries, offset = self.parts(kappa_q, kappa_k)
        d_chunks = d_sums.split(self.chunk, 2)  # [:, :, n] of all n is an alias, which autograd's batches cannot make
        S, states = past, []
        for m in everyones:
            S = S + self.absorb(kappa_k[:, :, m], values[:, :, m])
        dq, dk, dv = [], [], []
        if self.causal:
            for n in queries:
                m = slice(n.start + offset, n.stop + offset)
                states.append(S)
                S = S + self.absorb(kappa_k[:, :, m], values[:, :, m])
            for n, d_chunk in zip(reversed(queries), reversed(d_chunks)):
                m = slice(n.start + offset, n.stop + offset)
                k_m, v_m = kappa_k[:, :, m], values[:, :, m]
                absorbed = vjp(self.absorb, (k_m, v_m), R)
                read = vjp(
                    lambda q, k, v, S: self.read_chunk(q, k, v, S, W),
                    (kappa_q[:, :, n], k_m, v_m, states.pop()),
                    d_chunk,
                )
                dq.append(read[0])
                dk.append(absorbed[0] + read[1])
                dv.append(absorbed[1] + read[2])
                R = R + read[3]
        else:
            for n, d_chunk in zip(reversed(queries), reversed(d_chunks)):
                d_q, d_S = vjp(lambda q, S: self.read(q, S, W), (kappa_q[:, :, n], S), d_chunk)
                dq.append(d_q)
                R = R + d_S
        for m in reversed(everyones):
            d_k, d_v = vjp(self.absorb, (kappa_k[:, :, m], values[:, :, m]), R)
            dk.append(d_k)
            dv.append(d_v)
        return torch.cat(dq[::-1], 2), torch.cat(dk[::-1], 2), torch.cat(dv[::-1], 2), R

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """run, with nothing but its inputs kept for backward wherever torch lets us say so."""
        plain = not (torch.compiler.is_compiling() or is_transformed())
        return _Recomputed.apply(self, *inputs) if plain else self.run(*inputs)


class _Recomputed(torch.autograd.Function):
    """Scan.run, of which only the inputs are kept."""

    @staticmethod
    def forward(ctx, scan, *inputs):
        ctx.scan = scan
        ctx.save_for_backward(*inputs)
        return scan.run(*inputs)

    @staticmethod
    def backward(ctx, d_sums, R):
        dq, dk, dv, d_past = ctx.scan.vjp(ctx.saved_tensors, d_sums, R)
        return None, dq, dk, dv, None, d_past


def chunk_tokens(features: int) -> int:
    """Backward holds the state before every chunk, and inside a chunk a token costs C (D + E) where a state costs it 2 F E: a
    chunk of a quarter to a half of F rows keeps both small. (D = 64, p = 2: 1024 tokens, an eighth of the work.)"""
    return min(max(64, 1 << max(features // 2, 1).bit_length() - 1), 2048)
