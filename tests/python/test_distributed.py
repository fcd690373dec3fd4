"""Sequence-parallel attention on 2, 3 and 4 processes against the definition on one."""

import gc
import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from fastmax import reference
from fastmax.distributed import sequence_parallel_attention

SHARDS = {2: [5, 9], 3: [7, 0, 4], 4: [3, 6, 1, 5]}
WITH_EMPTY_ONES = {2: [[0, 5], [5, 0]], 3: [[0, 4, 0], [0, 0, 3]]}
OPTIONS = [
    {},
    {"p": 1},
    {"p": 3},
    {"p": 4, "scale": 0.3},
    {"normalize": "l2"},
    {"normalize": "none", "scale": 0.2},
    {"coefficients": [1, 0.5, 0.4]},
    {"method": "composite"},
]


def make_inputs(N, dtype=torch.float64, B=2, H=4, Hkv=2, D=4, E=3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = ((B, H, N, D), (B, Hkv, N, D), (B, Hkv, N, E))
    return [torch.randn(size, dtype=torch.float64, generator=generator).to(dtype) for size in sizes]


def shard(tensors, rank, sizes):
    first = sum(sizes[:rank])
    return [x[:, :, first : first + sizes[rank]].clone().requires_grad_() for x in tensors]


def check_equal(rank, sizes, dtype, tolerance, causal, **options):
    """This rank's part of result and gradients, and of the gradient of a gradient, is the one process's."""
    N = sum(sizes)
    whole = [x.requires_grad_() for x in make_inputs(N, dtype)]
    weight = torch.linspace(0.1, 2, 2 * N, dtype=torch.float64).reshape(2, N)
    weight[:, ::3] = 0
    truth = reference.attention(*whole, is_causal=causal, key_weight=weight,
                                **{name: x for name, x in options.items() if name != "method"})  # fmt: skip
    first = sum(sizes[:rank])
    part = slice(first, first + sizes[rank])
    own = shard(make_inputs(N, dtype), rank, sizes)
    own_weight = weight[:, part].to(torch.float64 if dtype == torch.float64 else torch.float32)
    o = sequence_parallel_attention(*own, is_causal=causal, enable_gqa=True, key_weight=own_weight, **options)
    assert o.dtype == dtype
    # In bf16 two gradients of a key, each rounded, add up, and their sum is rounded.
    close = {"rtol": 2**-6 if dtype == torch.bfloat16 else 0, "atol": tolerance, "check_dtype": False}
    torch.testing.assert_close(o, truth[:, :, part], **close)
    second = dtype == torch.float64
    ours = torch.autograd.grad(o.double().sin().sum(), own, create_graph=second)
    true = torch.autograd.grad(truth.sin().sum(), whole, create_graph=second)
    for x, y in zip(ours, true):
        torch.testing.assert_close(x, y[:, :, part], **close)
    if second:
        ours = torch.autograd.grad(sum(x.square().sum() for x in ours), own)
        true = torch.autograd.grad(sum(x.square().sum() for x in true), whole)
        for x, y in zip(ours, true):
            torch.testing.assert_close(x, y[:, :, part], rtol=1e-8, atol=1e-8)


def equals_one_process(rank, size):
    for causal in (False, True):
        for options in OPTIONS:
            check_equal(rank, SHARDS[size], torch.float64, 1e-10, causal, **options)
        check_equal(rank, SHARDS[size], torch.float32, 2e-5, causal)
        check_equal(rank, SHARDS[size], torch.bfloat16, 3e-2, causal)


def equals_one_process_with_empty_shards(rank, size):
    for sizes in WITH_EMPTY_ONES[size]:
        for causal in (False, True):
            for options in ({}, {"p": 1}, {"p": 3}, {"coefficients": [1, 0.5, 0.4]}, {"method": "composite"}):
                check_equal(rank, sizes, torch.float64, 1e-10, causal, **options)


def equals_in_a_group_of_some(rank, size):
    """Ranks of the group are not those of the world."""
    group = dist.new_group([1, 3])
    if rank in (1, 3):
        sizes, place = [4, 6], (rank - 1) // 2
        whole = make_inputs(10)
        o = sequence_parallel_attention(*shard(whole, place, sizes), group=group, is_causal=True, enable_gqa=True)
        truth = reference.attention(*whole, is_causal=True)
        first = sum(sizes[:place])
        torch.testing.assert_close(o, truth[:, :, first : first + sizes[place]], rtol=0, atol=1e-10)
    else:
        with pytest.raises(TypeError, match="need group a ProcessGroup this rank belongs to"):
            sequence_parallel_attention(*make_inputs(4), group=group, enable_gqa=True)


def sends_the_same_at_any_length(rank, size):
    """Bytes that leave this rank, counted at torch.distributed's functions, forward and backward."""
    sent, state = [], 8 * 2 * 2 * 15 * 4  # float64, B, Hkv, C(4 + 2, 2), E + 1
    all_reduce, batch, all_gather = dist.all_reduce, dist.batch_isend_irecv, dist.all_gather

    def bytes_of(x):
        return x.numel() * x.element_size()

    def count_reduce(x, *args, **options):
        sent.append(bytes_of(x))
        return all_reduce(x, *args, **options)

    def count_batch(calls):
        sent.extend(bytes_of(call.tensor) for call in calls if call.op is dist.isend)
        return batch(calls)

    def count_gather(every, x, **options):
        assert bytes_of(x) < 200
        return all_gather(every, x, **options)

    dist.all_reduce, dist.batch_isend_irecv, dist.all_gather = count_reduce, count_batch, count_gather
    for causal in (False, True):
        for N in (4, 400):
            own = [x.requires_grad_() for x in make_inputs(N)]
            sent.clear()
            sequence_parallel_attention(*own, is_causal=causal, enable_gqa=True).sum().backward()
            # Ranks 0 and 1 of 4 have two to send to going forward, rank 2 one, rank 3 none; backward mirrors it.
            messages = 2 if not causal else [2, 2, 1, 0][rank] + [0, 1, 2, 2][rank]
            assert sent == [state] * messages


def refuses_on_every_rank(rank, size):
    def refused(kind, message, *tensors, **options):
        with pytest.raises(kind, match=message):
            sequence_parallel_attention(*(tensors or make_inputs(6)), enable_gqa=True, **options)

    last = rank == size - 1
    refused(ValueError, r"the same is_causal on every rank, got \[0, 0, 1\]", is_causal=last)
    refused(ValueError, r"the same p on every rank, got \[2, 2, 4\]", p=4 if last else 2)
    refused(ValueError, r"the same scale on every rank, got \[1.0, 1.0, 0.5\]", scale=0.5 if last else None)
    refused(ValueError, "the same normalize on every rank", normalize="l2" if last else "none")
    refused(ValueError, "the same c_1 on every rank", coefficients=[1, 0.5 if last else 1, 1])
    refused(ValueError, "the same floor on every rank", floor="clamp" if last else "auto")
    refused(ValueError, r"the same D on every rank, got \[4, 4, 5\]", *make_inputs(6, D=5 if last else 4))
    refused(ValueError, "the same E on every rank", *make_inputs(6, E=5 if last else 4))
    refused(ValueError, "the same batch size on every rank", *make_inputs(6, B=1 if last else 2))
    refused(ValueError, "the same number of key heads on every rank", *make_inputs(6, Hkv=1 if last else 2))
    refused(ValueError, "the same dtype of states", *make_inputs(6, torch.float32 if last else torch.float64))
    refused(ValueError, "the same presence of gradients", *(x.requires_grad_(last) for x in make_inputs(6)))
    # One rank's own mistakes are every rank's.
    others = r"valid arguments on every rank, got an error on \[2\]"
    refused(ValueError, "p in 1..4, got 5" if last else others, p=5 if last else 2)
    refused(TypeError if last else ValueError, "p an int" if last else others, p="2" if last else 2)
    refused(TypeError if last else ValueError, "need q a Tensor" if last else others,
            *((None,) * 3 if last else make_inputs(6)))  # fmt: skip
    q, k, v = make_inputs(6)
    refused(ValueError, r"need k of q's leading dimensions \[1, 2\], got \[1, 1\]" if last else others,
            *((q[None], k[None, :1], v[None]) if last else (q, k, v)))  # fmt: skip
    weight = torch.full((2, 6), -1.0 if last else 1.0, dtype=torch.float64)
    refused(ValueError, "key_weight" if last else others, key_weight=weight)
    q, k, v = make_inputs(6)
    refused(ValueError, "as many queries as keys on each rank when causal, got 5 and 6" if last else others,
            q[:, :, 1 if last else 0 :], k, v, is_causal=True)  # fmt: skip
    refused(ValueError, "normalize one of .* got 'max_norm'", normalize="max_norm")
    refused(ValueError, "method one of .* got 'direct'", method="direct")
    refused(ValueError, "floor one of .* got 'none'", floor="none")
    refused(TypeError, "group a ProcessGroup", group=1)
    # A denominator at the floor on one rank: f(s) = 1 - s/4 with s = 4 for its one query and all keys.
    q = torch.tensor([1.0, 1.0, 1.0, 1.0] if last else [0.0] * 4, dtype=torch.float64).reshape(1, 1, 1, 4)
    k = torch.ones(1, 1, 1, 4, dtype=torch.float64)
    options = {"p": 1, "coefficients": [1, -0.25], "scale": 1.0, "normalize": "none"}
    refused(ValueError, "denominators above .* on every rank", q, k, k, **options)
    assert sequence_parallel_attention(q, k, k, floor="clamp", **options).isfinite().all()


def run_rank(rank, size, file, work):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=size)
    for function in work:
        function(rank, size)
    dist.barrier()  # no rank may take its end of a connection away that another still reads
    dist.destroy_process_group()
    # The group's threads end with the last that refers to it, here the frames of caught errors. One that still lets go of
    # a tensor when Python has ended calls terminate.
    gc.collect()
    assert not [x for x in os.listdir("/proc/self/task") if "gloo" in open(f"/proc/self/task/{x}/comm").read()]


@pytest.mark.parametrize(
    "size, work",
    [
        (2, [equals_one_process, equals_one_process_with_empty_shards]),
        (3, [equals_one_process, equals_one_process_with_empty_shards, refuses_on_every_rank]),
        (4, [equals_one_process, sends_the_same_at_any_length, equals_in_a_group_of_some]),
    ],
    ids=["2", "3", "4"],
)
def test_processes(size, work, tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    mp.spawn(run_rank, (size, tmp_path / "rendezvous", work), nprocs=size)


def test_without_a_process_group():
    with pytest.raises(ValueError, match="need an initialised process group"):
        sequence_parallel_attention(*make_inputs(4), enable_gqa=True)
