"""A causal language model that is Fastmax's from the start: Llama's layers, saved and loaded by AutoModel."""

from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from fastmax._errors import need, need_type
from fastmax.hf._attention import register
from fastmax.hf._cache import cache


class FastmaxConfig(LlamaConfig):
    """LlamaConfig, with the order `fastmax_p` (1 to 4) and `fastmax`, a dict of scale, normalize and dropout."""

    model_type = "fastmax"
    fastmax_p: int = 2
    fastmax: dict | None = None


class FastmaxForCausalLM(LlamaForCausalLM):
    """LlamaForCausalLM under Fastmax attention; `generate` runs with the cache of constant size."""

    config_class = FastmaxConfig

    def __init__(self, config: FastmaxConfig):
        need_type("fastmax_p", config.fastmax_p, int, "an int")
        need(1 <= config.fastmax_p <= 4, "fastmax_p in 1..4", config.fastmax_p)
        register()
        config._attn_implementation = f"fastmax{config.fastmax_p}"
        super().__init__(config)

    def _prepare_cache_for_generation(
        self, generation_config: Any, model_kwargs: dict, *args: Any, **kwargs: Any
    ) -> None:
        if generation_config.use_cache and model_kwargs.get("cache") is None:
            model_kwargs["cache"] = cache(self)
        super()._prepare_cache_for_generation(generation_config, model_kwargs, *args, **kwargs)


AutoConfig.register("fastmax", FastmaxConfig, exist_ok=True)
AutoModelForCausalLM.register(FastmaxConfig, FastmaxForCausalLM, exist_ok=True)
