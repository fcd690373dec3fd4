"""Train a causal Fastmax model with each rank on its share of the batch: DistributedDataParallel, nothing special to do.

    torchrun --nproc-per-node 4 examples/ddp.py

On GPUs where there are any (nccl), else on the CPU (gloo). The loss printed does not depend on the number of ranks.
"""

import argparse
import gc
import os

import torch
import torch.distributed as dist
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from fastmax.models import Config, Transformer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=256, help="of a sequence")
    parser.add_argument("--batch", type=int, default=16, help="sequences of all ranks together")
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    if "RANK" not in os.environ:
        parser.exit(2, "need ranks, got a lone process: torchrun --nproc-per-node 4 examples/ddp.py\n")
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo")
    train(options, device)
    dist.barrier()  # so that no rank takes its end of a connection away that another still reads
    dist.destroy_process_group()
    gc.collect()  # what gloo's threads still hold they let go of before Python ends, else they abort


def train(options: argparse.Namespace, device: torch.device) -> None:
    rank, size = dist.get_rank(), dist.get_world_size()
    if options.batch % size:
        raise SystemExit(f"need --batch a multiple of {size} ranks, got {options.batch}")

    torch.manual_seed(0)  # the same model and batches everywhere
    model = Transformer(Config("fastmax2", layers=2, heads=2, dim=64, vocabulary=16, length=options.tokens)).to(device)
    model = DistributedDataParallel(model, device_ids=[device.index] if device.index is not None else None)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(options.steps):
        words = torch.randint(16, (options.batch, 5))  # said again and again
        text = words.repeat(1, options.tokens // 5 + 1)[:, : options.tokens].to(device)
        own = text[rank::size]
        loss = F.cross_entropy(model(own[:, :-1]).flatten(0, 1), own[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 10 == 0 or step == options.steps - 1:
            mean = loss.detach() / size
            dist.all_reduce(mean)
            if rank == 0:
                print(f"step {step:>4}  loss {mean.item():.4f}", flush=True)


if __name__ == "__main__":
    main()
