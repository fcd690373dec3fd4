"""Sums of states over the ranks of a group, forward and backward. Only calls that gloo and nccl both have.

Each is linear, and its transpose is of the same kind, so backward applies the other one: gradients have gradients.
"""

import torch
import torch.distributed as dist


class Sum(torch.autograd.Function):
    """S = sum_r S_r on every rank; backward dS_r = sum_r' dS of rank r'."""

    @staticmethod
    def forward(ctx, group, own):
        ctx.group = group
        total = own.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx, d_total):
        return None, Sum.apply(ctx.group, d_total)


class SumOfOthers(torch.autograd.Function):
    """The exclusive scan: sum of S_r over the ranks before this one, or after it (`after`); backward is the other one.

    By recursive doubling: in round i a rank passes the sum of its last 2^i ranks to the one 2^i further.
    """

    @staticmethod
    def forward(ctx, group, own, after):
        ctx.group, ctx.after = group, after
        rank, size = dist.get_rank(group), dist.get_world_size(group)
        place = size - 1 - rank if after else rank

        def rank_at(place: int) -> int:
            return dist.get_global_rank(group, size - 1 - place if after else place)

        run = own.clone(memory_format=torch.contiguous_format)  # of the last `distance` places, this one's included
        others = torch.zeros_like(run)
        distance = 1
        while distance < size:
            calls, received = [], None
            if place + distance < size:
                calls.append(dist.P2POp(dist.isend, run, rank_at(place + distance), group))
            if place >= distance:
                received = torch.empty_like(run)
                calls.append(dist.P2POp(dist.irecv, received, rank_at(place - distance), group))
            for work in dist.batch_isend_irecv(calls) if calls else ():
                work.wait()
            if received is not None:
                others, run = others + received, run + received
            distance *= 2
        return others

    @staticmethod
    def backward(ctx, d_others):
        return None, SumOfOthers.apply(ctx.group, d_others, not ctx.after), None


def agree(
    group: dist.ProcessGroup, names: tuple[str, ...], values: list[int], error: Exception | None, device: torch.device
) -> None:
    """Raises on every rank where one of them refused its arguments or where the ranks' values differ: otherwise some would
    wait for ever for the others. One all-gather of a few integers."""
    size = dist.get_world_size(group)
    mine = torch.tensor([int(error is not None), *values], dtype=torch.int64, device=device)
    every = [torch.empty_like(mine) for _ in range(size)]
    dist.all_gather(every, mine, group=group)
    if error is not None:
        raise error
    rows = torch.stack(every).cpu()
    refused = [rank for rank, row in enumerate(rows.tolist()) if row[0]]
    if refused:
        raise ValueError(f"fastmax: need valid arguments on every rank, got an error on {refused}")
    for i, name in enumerate(names, start=1):
        column = rows[:, i]
        if (column != column[0]).any():
            if name in _FLOATS:
                column = column.view(torch.float64)
            raise ValueError(f"fastmax: need the same {name} on every rank, got {column.tolist()} on ranks 0..{size - 1}")


_FLOATS = ("scale", "c_0", "c_1", "c_2", "c_3", "c_4")  # sent as the bits of float64
