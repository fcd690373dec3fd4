"""A cache for generate whose size does not depend on the number of tokens: one FastmaxState a layer."""

from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin

from fastmax._attention import scaled_dot_product_attention, step
from fastmax._errors import need, need_type
from fastmax._state import FastmaxState


class FastmaxCacheLayer(CacheLayerMixin):
    """The state of one layer, [B, Hkv, F, E + 1]: F = (D + 1)(D + 2) / 2 rows for p = 2, whatever the context.

    `update` hands the new keys through and marks them with this layer; attention then reads and extends the state.
    Beams are reordered as with any cache. Tokens cannot be taken back, so that assisted decoding is refused.
    """

    is_sliding = False
    supports_early_init = False

    def __init__(self) -> None:
        super().__init__()
        self.state: FastmaxState | None = None
        self.count = 0  # tokens that update saw
        self.pending = False  # they have not joined the state yet

    @property
    def nbytes(self) -> int:
        return 0 if self.state is None else self.state.tensor.nbytes

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        rule = "attn_implementation='fastmax' with fastmax.hf.cache"
        need(not self.pending, rule, "attention that did not read the cache")
        self.lazy_initialization(key_states, value_states)
        self.count += key_states.size(2)
        self.pending = True
        key_states = key_states.view_as(key_states)  # an own tensor, to be marked
        key_states.fastmax_layer = self  # type: ignore[attr-defined]
        return key_states, value_states

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, weight: Tensor | None, *, dropout_p: float, **options: Any
    ) -> Tensor:
        """o [B, H, N, E] of the tokens last given to `update`, which join the state."""
        self.pending = False
        if self.state is not None and self.state.tensor.requires_grad and not torch.is_grad_enabled():
            self.state = self.state.detach().clone()  # a step writes to it, and backward wants what was there
        if q.size(2) == 1 and self.state is not None and not dropout_p and not torch.is_grad_enabled():
            normalize = options.get("normalize", "standardize")
            self.state.check_function(options["p"], options.get("scale"), normalize, None)
            w = None if weight is None else weight[:, 0]
            return step(q[:, :, 0], k[:, :, 0], v[:, :, 0], self.state, w)[:, :, None]
        o, self.state = scaled_dot_product_attention(
            q, k, v, dropout_p=dropout_p, is_causal=True, key_weight=weight,
            initial_state=self.state, return_state=True, **options
        )  # fmt: skip
        return o

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """The mask that a layer needs is that of the new tokens; what came before joined with its weight."""
        return query_length, self.count

    def get_seq_length(self) -> int:
        return self.count

    def get_max_length(self) -> int:
        return -1

    def reset(self) -> None:
        self.state, self.count, self.pending = None, 0, False

    def crop(self, *args: Any) -> None:
        need(False, "generation without taking tokens back with fastmax.hf.cache (no assisted decoding)", "crop")

    def _select(self, index: Tensor) -> None:
        if self.state is not None:
            self.state.tensor = self.state.tensor.index_select(0, index.to(self.state.tensor.device))

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self._select(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        self._select(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self.state is not None:
            self.state.tensor = self.state.tensor.repeat_interleave(repeats, 0)

    def offload(self) -> None:
        need(False, "a cache without offloading (its size is constant)", "offload")


def cache(model: PreTrainedModel) -> Cache:
    """A new, empty cache for `model.generate(..., cache=)`, of constant size; for one generation.

    `model` runs under `attn_implementation="fastmax"`. An encoder-decoder's keeps the keys of the encoder's output,
    whose number is fixed, as they are.

    Raises:
        ValueError, TypeError: for what is not a transformers model, or runs under another attention.
    """
    need_type("model", model, PreTrainedModel, "a PreTrainedModel")
    name = str(model.config._attn_implementation)
    need(name.startswith("fastmax"), "a model of attn_implementation 'fastmax'", repr(name))
    states = Cache(layer_class_to_replicate=FastmaxCacheLayer)
    return EncoderDecoderCache(states, DynamicCache()) if model.config.is_encoder_decoder else states
