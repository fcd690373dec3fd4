"""Generate with a cache that does not grow: a tiny Llama of random weights under attn_implementation="fastmax".

    python examples/hf_generate.py --short 64 --long 4096

Three ways write the same tokens: with one state a layer, with all keys and values kept, and with nothing kept, which
reads everything again for each token.
"""

import argparse
import time

import torch
from transformers import Cache, DynamicCache, LlamaConfig, LlamaForCausalLM
from transformers.generation.streamers import BaseStreamer

import fastmax.hf


class Clock(BaseStreamer):
    """Notes when the prompt came and when each token was written."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass

    def tokens_per_second(self) -> float:
        """Of the tokens after the first, whose time is that of reading the prompt."""
        return (len(self.times) - 2) / (self.times[-1] - self.times[1])


def nbytes(cache: Cache | None) -> int:
    if cache is None:
        return 0
    if isinstance(cache, DynamicCache):
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    return sum(layer.nbytes for layer in cache.layers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--short", type=int, default=64, help="tokens of the short prompt")
    parser.add_argument("--long", type=int, default=4096, help="tokens of the long prompt")
    parser.add_argument("--new", type=int, default=32, help="tokens to write after each, 3 or more")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    options = parser.parse_args()
    if options.new < 3:
        parser.error(f"need --new of 3 or more, got {options.new}")
    fastmax.hf.register()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256, hidden_size=options.dim, intermediate_size=4 * options.dim, num_hidden_layers=options.layers,
        num_attention_heads=options.heads, max_position_embeddings=options.long + options.new,
        bos_token_id=None, eos_token_id=None, pad_token_id=0, attn_implementation="fastmax",
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()

    print(f"{'prompt':>8}  {'cache':<18}{'bytes':>10}{'tokens/s':>10}")
    for N in options.short, options.long:
        prompt = torch.randint(1, 256, (1, N))
        written = []
        for name in "fastmax.hf.cache", "keys and values", "none":
            cache = {"fastmax.hf.cache": fastmax.hf.cache(model), "keys and values": DynamicCache(), "none": None}[name]
            clock = Clock()
            tokens = model.generate(
                prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=options.new, do_sample=False,
                cache=cache, use_cache=cache is not None, streamer=clock,
            )  # fmt: skip
            written.append(tokens[:, N:])
            print(f"{N:>8}  {name:<18}{nbytes(cache):>10}{clock.tokens_per_second():>10.1f}")
        if not all(torch.equal(written[0], other) for other in written):
            raise SystemExit(f"after {N} tokens the caches write different tokens")
        print(f"{N:>8}  the same {options.new} tokens each time")


if __name__ == "__main__":
    main()
