"""Swap attention of a trained model: the loss jumps, for its weights were softmax's, and fine-tuning brings it back.

    python examples/hf_finetune.py
    python examples/hf_finetune.py book.txt --pretrain 2000 --finetune 500

A byte-level Llama learns with softmax. Then it goes on twice, for as many steps and on the same batches: as it was, and
under attn_implementation="fastmax".
"""

import argparse
import copy
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

import fastmax.hf


def made_text(lines: int) -> bytes:
    """Lines to read with attention: each tells who holds what, and asks for one of it again."""
    draw = random.Random(0)
    names, things = ["Ada", "Ben", "Cleo", "Dan", "Eve", "Fay"], ["rope", "coin", "lamp", "book", "harp", "ring"]
    text = []
    for _ in range(lines):
        holds = list(zip(draw.sample(names, 3), draw.sample(things, 3)))
        told = ", ".join(f"{name} has a {thing}" for name, thing in holds)
        name, thing = draw.choice(holds)
        text.append(f"{told}. {name} still has the {thing}.\n")
    return "".join(text).encode()


def batches(data: Tensor, length: int, seed: int) -> Iterator[Tensor]:
    """Endless [16, length] cuts of the text."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        starts = torch.randint(len(data) - length + 1, (16, 1), generator=generator)
        yield data[starts + torch.arange(length)]


class Training:
    """One model's way through its batches; ``advance`` goes on where the last call stopped."""

    def __init__(self, model: LlamaForCausalLM, data: Tensor, length: int, rate: float, seed: int):
        self.model, self.batches = model, batches(data, length, seed)
        self.optimiser = torch.optim.AdamW(model.parameters(), lr=rate)

    def advance(self, steps: int) -> None:
        self.model.train()
        for _ in range(steps):
            tokens = next(self.batches)
            loss = self.model(tokens, labels=tokens).loss
            self.optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimiser.step()


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM, data: Tensor, length: int) -> float:
    """Nats a byte, over whole pieces of the text that training does not see."""
    model.eval()
    pieces = data[: len(data) // length * length].view(-1, length)[:64]
    return model(pieces, labels=pieces).loss.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("text", nargs="?", type=Path, help="a file to learn; without it, the script makes its text")
    parser.add_argument("--pretrain", type=int, default=300, help="steps with softmax")
    parser.add_argument("--finetune", type=int, default=200, help="steps after the swap, and with softmax beside it")
    parser.add_argument("--length", type=int, default=128, help="bytes of a training sequence")
    parser.add_argument("--dim", type=int, default=64)
    options = parser.parse_args()
    raw = options.text.read_bytes() if options.text else made_text(4000)
    data = torch.frombuffer(bytearray(raw), dtype=torch.uint8).long()
    cut = len(data) * 9 // 10
    if len(data) - cut < options.length:
        parser.error(f"need a text of {10 * options.length} bytes for --length {options.length}, got {len(data)}")
    seen, unseen = data[:cut], data[cut:]

    fastmax.hf.register()
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=256, hidden_size=options.dim, intermediate_size=4 * options.dim, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=options.length, bos_token_id=None, eos_token_id=None,
    ))  # fmt: skip
    Training(model, seen, options.length, rate=3e-3, seed=1).advance(options.pretrain)
    swapped = copy.deepcopy(model)
    swapped.set_attn_implementation("fastmax")

    k = options.finetune
    runs = [Training(each, seen, options.length, rate=1e-3, seed=2) for each in (model, swapped)]
    print(f"{'steps after the swap':>20}{'softmax, loss':>16}{'fastmax, loss':>16}")
    done = 0
    for steps in sorted({0, k // 20, k // 5, k // 2, k}):
        for run in runs:
            run.advance(steps - done)
        done = steps
        losses = [held_out_loss(run.model, unseen, options.length) for run in runs]
        print(f"{steps:>20}{losses[0]:>16.4f}{losses[1]:>16.4f}", flush=True)


if __name__ == "__main__":
    main()
