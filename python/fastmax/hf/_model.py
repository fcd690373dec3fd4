"""A causal language model that is Fastmax's from the start: Llama's layers, saved and loaded by AutoModel."""

from typing import Any

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, LlamaModel, PreTrainedModel

from fastmax._errors import need, need_type
from fastmax.hf._attention import NAMES, register
from fastmax.hf._cache import cache


class FastmaxConfig(LlamaConfig):
    """LlamaConfig, with the order `fastmax_p` (1 to 4) and `fastmax`, a dict of scale, normalize and dropout."""

    model_type = "fastmax"
    fastmax_p: int = 2
    fastmax: dict | None = None


def _own_attention(config: FastmaxConfig, asked: str | dict | None) -> str:
    """The one of `fastmax_p`, which `asked` may name."""
    p = config.fastmax_p
    need_type("fastmax_p", p, int, "an int")
    need(1 <= p <= 4, "fastmax_p in 1..4", p)
    names = [name for name, order in NAMES.items() if order == p]
    need(asked is None or asked in names, f"no attn_implementation, or 'fastmax{p}' as fastmax_p says", repr(asked))
    register()
    return f"fastmax{p}"


class _OwnAttention(PreTrainedModel):
    """From the beginning, and for good."""

    config_class = FastmaxConfig

    def __init__(self, config: FastmaxConfig):
        config._attn_implementation = _own_attention(config, config._attn_implementation)
        super().__init__(config)

    def set_attn_implementation(self, attn_implementation: str | dict | None, *args: Any, **kwargs: Any) -> None:
        own = _own_attention(self.config, attn_implementation)  # type: ignore[arg-type]  # it is of config_class
        super().set_attn_implementation(own, *args, **kwargs)


class FastmaxModel(_OwnAttention, LlamaModel):
    """LlamaModel under Fastmax attention: the hidden states, without a head."""


class FastmaxForCausalLM(_OwnAttention, LlamaForCausalLM):
    """LlamaForCausalLM under Fastmax attention; `generate` runs with the cache of constant size."""

    def _prepare_cache_for_generation(
        self, generation_config: Any, model_kwargs: dict, *args: Any, **kwargs: Any
    ) -> bool:
        kind = generation_config.cache_implementation
        need(kind is None, "generation without cache_implementation (this model's cache has a constant size)", repr(kind))
        if generation_config.use_cache and model_kwargs.get("cache") is None:
            model_kwargs["cache"] = cache(self)
        # transformers types its self as a protocol that its own models do not fit
        return super()._prepare_cache_for_generation(generation_config, model_kwargs, *args, **kwargs)  # type: ignore[misc]


AutoConfig.register("fastmax", FastmaxConfig, exist_ok=True)
AutoModel.register(FastmaxConfig, FastmaxModel, exist_ok=True)
AutoModelForCausalLM.register(FastmaxConfig, FastmaxForCausalLM, exist_ok=True)
