"""One long sequence over all ranks: results and gradients are those of one process, and messages do not grow with it.

    torchrun --nproc-per-node 4 examples/sequence_parallel.py --lengths 4096,16384

The ranks compute on their GPUs where there are any (nccl), else on the CPU (gloo). To compare, every rank here also does
the whole sequence by itself; a program that needs many ranks could not.
"""

import argparse
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

import fastmax
from fastmax.distributed import sequence_parallel_attention


@contextmanager
def counted() -> Iterator[list[Tensor]]:
    """The tensors that this rank hands to the exchange of states, which is made by these two functions."""
    sent: list[Tensor] = []
    all_reduce, batch = dist.all_reduce, dist.batch_isend_irecv

    def counted_reduce(x, *args, **options):
        sent.append(x)
        return all_reduce(x, *args, **options)

    def counted_batch(calls):
        sent.extend(call.tensor for call in calls if call.op is dist.isend)
        return batch(calls)

    dist.all_reduce, dist.batch_isend_irecv = counted_reduce, counted_batch
    try:
        yield sent
    finally:
        dist.all_reduce, dist.batch_isend_irecv = all_reduce, batch


def run(attend, q: Tensor, k: Tensor, v: Tensor, d_o: Tensor, causal: bool) -> list[Tensor]:
    """o and, of a loss whose gradient there is d_o, dq, dk and dv."""
    inputs = [x.detach().requires_grad_() for x in (q, k, v)]
    o = attend(*inputs, is_causal=causal)
    return [o.detach(), *torch.autograd.grad(o, inputs, d_o)]


def compare(N: int, causal: bool, device: torch.device) -> tuple[int, list[float]]:
    """Bytes that all ranks together give away, and the largest error of o, dq, dk, dv, relative to the largest value.

    Of an all-reduce what it is given is counted: how often that travels is the backend's choice.
    """
    rank, size = dist.get_rank(), dist.get_world_size()
    generator = torch.Generator().manual_seed(0)
    whole = [torch.randn(1, 4, N, 32, generator=generator).to(device) for _ in range(4)]  # q, k, v, d_o
    part = slice(N * rank // size, N * (rank + 1) // size)  # shards need not be of one size

    with counted() as sent:
        ours = run(sequence_parallel_attention, *(x[:, :, part] for x in whole), causal)
    truth = run(fastmax.scaled_dot_product_attention, *whole, causal)

    errors = [(x - y[:, :, part]).abs().amax() / y.abs().amax() for x, y in zip(ours, truth)]
    bytes_sent = torch.tensor(sum(x.numel() * x.element_size() for x in sent), device=device)
    worst = torch.stack(errors)
    dist.all_reduce(bytes_sent)
    dist.all_reduce(worst, dist.ReduceOp.MAX)
    return int(bytes_sent), worst.tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lengths", default="4096,16384", help="tokens of the whole sequence, with commas between")
    options = parser.parse_args()
    if "RANK" not in os.environ:
        parser.exit(2, "need ranks, got a lone process: torchrun --nproc-per-node 4 examples/sequence_parallel.py\n")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
        dist.init_process_group("nccl")
    else:
        device = torch.device("cpu")
        dist.init_process_group("gloo")
    if dist.get_rank() == 0:
        print(f"{dist.get_world_size()} ranks, {dist.get_backend()}")
        errors_of = "".join(f"{'error of ' + x:>13}" for x in ("o", "dq", "dk", "dv"))
        print(f"{'':<9}{'tokens':>8}{'bytes out':>12}{errors_of}")
    for causal in (False, True):
        for N in map(int, options.lengths.split(",")):
            bytes_sent, errors = compare(N, causal, device)
            if dist.get_rank() == 0:
                name = "causal" if causal else "unmasked"
                print(f"{name:<9}{N:>8}{bytes_sent:>12}" + "".join(f"{x:>13.1e}" for x in errors), flush=True)
    dist.barrier()  # so that no rank takes its end of a connection away that another still reads
    dist.destroy_process_group()
    gc.collect()  # the group's threads end with the last that refers to it, and must not outlive Python


if __name__ == "__main__":
    main()
