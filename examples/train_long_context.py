"""Train a language model of bytes on long contexts, then let it write with a state of constant size.

    python examples/train_long_context.py FILE --context 8192 --steps 100

Without FILE it reads the Markdown pages of this project.
"""

import argparse
import time
from pathlib import Path

import torch
from torch.nn import functional as F

from fastmax.models import Config, Transformer


def read(file: Path | None) -> torch.Tensor:
    pages = [file] if file else sorted(Path(__file__).parents[1].glob("**/*.md"))
    return torch.frombuffer(bytearray(b"".join(page.read_bytes() for page in pages)), dtype=torch.uint8).long()


def write(model: Transformer, prompt: bytes, count: int) -> str:
    model.eval()
    past, out = model.empty_past(1), [*prompt]
    tokens = torch.tensor([out])
    for _ in range(count):
        probability = model.next(tokens, past).div(0.7).softmax(-1)
        tokens = torch.multinomial(probability, 1)
        out.append(tokens.item())
    return bytes(out).decode(errors="replace")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--write", type=int, default=200, help="bytes to write at the end")
    options = parser.parse_args()
    torch.manual_seed(0)
    data = read(options.file)
    if len(data) <= options.context + 1:
        raise SystemExit(f"need more than --context + 1 = {options.context + 1} bytes, got {len(data)}")
    config = Config("fastmax2", layers=2, heads=2, dim=64, mlp=256, scale="1/sqrt(D)", convolution=3,
                    positions="none", length=1 << 30)  # fmt: skip
    model = Transformer(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=8e-3, betas=(0.9, 0.98), weight_decay=0.01)
    start, seen = time.perf_counter(), 0
    for step in range(1, options.steps + 1):
        first = int(torch.randint(len(data) - options.context, ()))
        window = data[first : first + options.context + 1]
        loss = F.cross_entropy(model(window[None, :-1])[0], window[1:])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimiser.step()
        seen += options.context
        if step % 10 == 0 or step in (1, options.steps):
            rate = seen / (time.perf_counter() - start)
            print(f"step {step:>4}  loss {loss.item():.3f}  {rate:,.0f} bytes/s", flush=True)
    print(write(model, b"The attention", options.write))


if __name__ == "__main__":
    main()
