"""The transformer that the program `fastmax` trains: its weights load here, and those saved here load there.

```python
model = fastmax.models.Transformer.load("runs/text")       # what `fastmax train` wrote
logits = model(tokens)                                     # [B, N, vocabulary], or [B, classes]

past = model.empty_past(batch=1)                           # then, at a cost that does not grow:
logits = model.next(tokens, past)                          # [B, vocabulary], of what follows
```

"""

import dataclasses
import math
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastmax import _features as ft
from fastmax._attention import scaled_dot_product_attention, step
from fastmax._composite import autocasts, computed_in
from fastmax._errors import need, need_type
from fastmax._files import save_tensors
from fastmax._state import FastmaxState

_HIDDEN = 128  # of the classifier
_WORDS = {
    "attention": ("softmax", "fastmax1", "fastmax2", "fastmax3", "fastmax4"),
    "normalize": ("standardize", "l2", "none", "max_norm"),
    "attention_dropout_mode": ("quadratic", "standard", "token"),
    "block": ("usual", "authors"),
    "positions": ("learned", "sinusoidal", "rotary", "none"),
    "pool": ("tokens", "padded", "class"),
    "classifier": ("relu", "gelu"),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """The `[model]` keys of a recipe, by their names there, and what its task says."""

    attention: str = "fastmax2"  # "softmax", "fastmax1" .. "fastmax4"
    layers: int = 2
    heads: int = 2
    dim: int = 64
    mlp: int = 128
    dropout: float = 0.0  # of what joins the residual stream
    embedding_std: float = 0.02  # of the embeddings of tokens and positions in the beginning
    scale: str = "default"  # "default", "1/sqrt(D)", "1/D" or a number
    scale_learnable: bool = False  # a factor per head on the scale
    normalize: str = "standardize"
    attention_dropout: float = 0.0
    attention_dropout_mode: str = "quadratic"
    convolution: int = 0  # tokens that mix before q, k and v are formed
    positions: str = "learned"  # "learned", "sinusoidal", "rotary" or "none"
    block: str = "usual"  # or "authors": q, k, v without biases, an MLP that adds to the block's input, less dropout
    pool: str = "tokens"  # of a classifier: the mean over tokens; "padded": their sum over `length`; "class": a token of its own
    classifier: str = "relu"  # or "gelu": what follows the hidden layer of a classifier that pools
    vocabulary: int = 256
    values: int = 0  # > 0: a token is so many numbers, such as the pixels of a patch, not an id
    length: int = 1024  # the longest sequence
    classes: int = 0  # 0: a causal language model
    pairs: bool = False  # of a classifier: an answer is about two sequences that follow each other

    def __post_init__(self):
        least = {**dict.fromkeys(("layers", "heads", "dim", "mlp", "vocabulary", "length"), 1),
                 **dict.fromkeys(("convolution", "values", "classes"), 0)}  # fmt: skip
        for name, smallest in least.items():
            need_type(name, getattr(self, name), int, "an int")
            need(getattr(self, name) >= smallest, f"{name} >= {smallest}", getattr(self, name))
        for name in ("dropout", "attention_dropout"):
            need_type(name, getattr(self, name), (float, int), "a number")
            need(0 <= getattr(self, name) < 1, f"{name} in [0, 1)", getattr(self, name))
        for name, allowed in _WORDS.items():
            need(getattr(self, name) in allowed, f"{name} one of {', '.join(allowed)}", repr(getattr(self, name)))
        need_type("embedding_std", self.embedding_std, (float, int), "a number")
        need(0 <= self.embedding_std <= 100, "embedding_std in [0, 100]", self.embedding_std)
        try:
            good = self.scale in ("default", "1/sqrt(D)", "1/D") or 0 < float(self.scale) < math.inf
        except (TypeError, ValueError):
            good = False
        need(good, "scale 'default', '1/sqrt(D)', '1/D' or a number > 0", repr(self.scale))
        need(not self.pairs or self.classes > 0, "classes > 0 with pairs", self.classes)
        need(self.pool != "class" or self.classes > 0, "classes > 0 with pool 'class'", self.classes)
        need(self.dim % self.heads == 0, f"dim a multiple of heads = {self.heads}", self.dim)
        even = self.positions != "rotary" or self.head_size % 2 == 0
        need(even, "an even head size dim / heads for rotary positions", self.head_size)

    @property
    def head_size(self) -> int:
        return self.dim // self.heads

    @property
    def causal(self) -> bool:
        return self.classes == 0

    @property
    def order(self) -> int:
        """p of Fastmax, 0 for softmax."""
        return 0 if self.attention == "softmax" else int(self.attention[-1])

    @property
    def places(self) -> int:
        """Tokens that attention sees of the longest sequence."""
        return self.length + (self.pool == "class")

    def scale_value(self) -> float | None:
        """A word never asks for more than the scale up to which no weight can be negative; a number may."""
        if self.scale == "default":
            return None
        D, p = self.head_size, self.order
        if self.scale not in ("1/sqrt(D)", "1/D"):
            return float(self.scale)
        asked = 1 / math.sqrt(D) if self.scale == "1/sqrt(D)" else 1 / D
        bounded = p % 2 == 1 and self.normalize != "none"
        return min(asked, ft.default_scale(p, D, self.normalize)) if bounded else asked


@dataclasses.dataclass
class Past:
    """What a language model keeps of the tokens that it has read: as much for one as for a million."""

    tokens: int
    states: list[FastmaxState]  # of every layer's attention
    recent: list[Tensor | None]  # what its convolution still needs: [B, convolution - 1, dim]


class Attention:
    """Between the projections, q, k, v [B, N, H, D] -> [B, N, H D]: softmax's or Fastmax's, whose weights are

    f(r scale q^ . k^), x^ turned where positions are rotary, r learnt for each head or 1.
    """

    def __init__(self, config: Config):
        self.causal, self.order, self.turns = config.causal, config.order, config.positions == "rotary"
        self.normalize_here: str | None = None  # what the kernel leaves to us
        self.largest_factor: float | None = None  # beyond it a weight of odd order could be negative
        self.dropout = config.attention_dropout
        self.options: dict[str, Any] = {}
        p, normalize, scale = self.order, config.normalize, config.scale_value()
        if p == 0:
            self.options = {"scale": scale}
            return
        bounded = p % 2 == 0 or normalize != "none"
        safe = ft.default_scale(p, config.head_size, normalize) if bounded else 0.0
        # The kernel normalises as it reads, but r and the turn have their place between that and the product.
        if config.scale_learnable or (self.turns and normalize == "standardize"):
            self.normalize_here, normalize = normalize, "none"
            if scale is None:
                scale = ft.default_scale(p, config.head_size, config.normalize)
            if config.scale_learnable and bounded and p % 2:
                self.largest_factor = max(1.0, safe / scale)
        self.function: dict[str, Any] = {"p": p, "scale": scale, "normalize": normalize}
        floor = "clamp" if bounded and (safe if scale is None else scale) <= safe else "auto"
        self.options = {**self.function, "floor": floor, "dropout": config.attention_dropout_mode}

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        factor: Tensor | None,
        key_weight: Tensor | None,
        first: int,
        state: FastmaxState | None,
        training: bool,
    ) -> tuple[Tensor, FastmaxState | None]:
        """o, and the new state where there is an old one."""
        q, k = (self._prepared(x, first) for x in (q, k))
        if factor is not None:
            if self.largest_factor is not None:
                factor = factor.clamp(-self.largest_factor, self.largest_factor)
            q = q * factor[:, None]
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        rate = self.dropout if training else 0.0
        if state is not None and q.size(2) == 1:  # in place
            o = step(q[:, :, 0], k[:, :, 0], v[:, :, 0], state, floor=self.options["floor"])[:, :, None]
        elif self.order == 0:
            mask = None if key_weight is None else (key_weight > 0)[:, None, None]
            o = F.scaled_dot_product_attention(q, k, v, mask, rate, self.causal, **self.options)
        else:
            result = scaled_dot_product_attention(
                q, k, v, dropout_p=rate, is_causal=self.causal, key_weight=key_weight, initial_state=state,
                return_state=state is not None, **self.options)  # fmt: skip
            o, state = result if isinstance(result, tuple) else (result, None)
        return o.transpose(1, 2).flatten(2), state

    def _prepared(self, x: Tensor, first: int) -> Tensor:
        if self.normalize_here is not None:
            x = ft.normalized(x, self.normalize_here)
        return _turned(x, first) if self.turns else x


class Layer(nn.Module):
    """x += W_o attention(W_qkv h), h = norm(x) and its convolution; x += W_2 gelu(W_1 norm(x)).

    The authors' block adds the MLP to x as it was before the attention, and drops only what attention and MLP give.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config, self.attention, self.theirs = config, Attention(config), config.block == "authors"
        self.norm1 = nn.LayerNorm(config.dim)
        if config.convolution > 0:
            self.convolution = nn.Conv1d(config.dim, config.dim, config.convolution, groups=config.dim, bias=False)
        self.qkv = nn.Linear(config.dim, 3 * config.dim, bias=not self.theirs)
        if config.scale_learnable:
            self.scale_factor = nn.Parameter(torch.ones(config.heads))
        self.out = nn.Linear(config.dim, config.dim)
        self.norm2 = nn.LayerNorm(config.dim)
        self.mlp1 = nn.Linear(config.dim, config.mlp)
        self.mlp2 = nn.Linear(config.mlp, config.dim)

    def forward(self, x: Tensor, key_weight: Tensor | None = None) -> Tensor:
        """x [B, N, dim], key_weight [B, N] 1 for a token and 0 for padding -> [B, N, dim]."""
        h = self.norm1(x)
        width = self.config.convolution
        if width > 0:
            before = width - 1 if self.config.causal else width // 2
            real = h if key_weight is None else h * key_weight[..., None].to(h.dtype)
            h = h + self._filtered(F.pad(real, (0, 0, before, width - 1 - before)))
        return self._rest(x, h, key_weight, 0, None)[0]

    def extend(self, x: Tensor, first: int, state: FastmaxState, recent: Tensor | None
    ) -> tuple[Tensor, FastmaxState, Tensor | None]:
        """The same for tokens first, first + 1, ..: [B, N, dim], the new state, perhaps the old one changed in place, and
        the new last tokens. Without gradient."""
        h = self.norm1(x)
        if recent is not None:
            window = torch.cat([recent, h], 1)
            h, recent = h + self._filtered(window), window[:, h.size(1) :]
        x, state = self._rest(x, h, None, first, state)
        return x, state, recent

    def _filtered(self, window: Tensor) -> Tensor:
        return self.convolution(window.mT).mT

    def _rest(self, x, h, key_weight, first, state):
        heads = self.config.heads, self.config.head_size
        q, k, v = self.qkv(h).unflatten(-1, (3, *heads)).unbind(2)
        factor = self.scale_factor if self.config.scale_learnable else None
        o, state = self.attention(q, k, v, factor, key_weight, first, state, self.training)
        y = x + self._dropped(self.out(o))
        inner = F.gelu(self.mlp1(self.norm2(y)))
        inner = inner if self.theirs else self._dropped(inner)
        return (x if self.theirs else y) + self._dropped(self.mlp2(inner)), state

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout, self.training)


class Transformer(nn.Module):
    """A classifier, or a causal language model where `config.classes` is 0."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.token: nn.Linear | nn.Embedding
        if config.values > 0:
            self.token = nn.Linear(config.values, config.dim)
        else:
            self.token = nn.Embedding(config.vocabulary, config.dim)
            nn.init.normal_(self.token.weight, std=config.embedding_std)
        if config.pool == "class":
            self.class_token = nn.Parameter(torch.randn(config.dim))
        if config.positions == "learned":
            self.position = nn.Embedding(config.places, config.dim)
            nn.init.normal_(self.position.weight, std=config.embedding_std)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)
        width = (4 if config.pairs else 1) * config.dim
        if config.classes > 0 and config.pool != "class":
            self.hidden = nn.Linear(width, _HIDDEN)
            width = _HIDDEN
        self.head = nn.Linear(width, config.classes or config.vocabulary)
        if config.block == "authors":
            self._begin_as_theirs()

    def forward(self, tokens: Tensor, key_weight: Tensor | None = None) -> Tensor:
        """tokens [B, N], or [B, N, values], -> logits [B, N, vocabulary], or [B, classes], or [B / 2, classes] of pairs.
        key_weight [B, N], of any type: 0 where there is padding."""
        x = self._embedded(tokens, 0)
        if key_weight is not None:
            need_type("key_weight", key_weight, Tensor, "a Tensor")
            need(key_weight.shape == tokens.shape[:2], f"key_weight of shape {[*tokens.shape[:2]]}", [*key_weight.shape])
            key_weight = key_weight.to(computed_in(x.dtype))
            if self.config.pool == "class":  # the class token is never padding
                key_weight = F.pad(key_weight, (1, 0), value=1.0)
        if self.config.block != "authors":
            x = F.dropout(x, self.config.dropout, self.training)
        for layer in self.layers:
            x = layer(x, key_weight)
        x = self.norm(x)
        if self.config.classes > 0:
            x = self._pooled(x, key_weight)
            if self.config.pairs:
                need(len(x) % 2 == 0, "tokens of an even number of sequences", len(x))
                a, b = x.unflatten(0, (-1, 2)).unbind(1)
                x = torch.cat([a, b, a * b, a - b], -1)
            if self.config.pool != "class":
                x = (F.gelu if self.config.classifier == "gelu" else F.relu)(self.hidden(x))
        return self.head(x)

    def _pooled(self, x: Tensor, key_weight: Tensor | None) -> Tensor:
        if self.config.pool == "class":
            return x[:, 0]
        dtype = computed_in(x.dtype)
        weight = x.new_ones(x.shape[:2], dtype=dtype) if key_weight is None else key_weight
        sums = (weight[:, None] @ x.to(dtype)).squeeze(1)
        if self.config.pool == "padded":
            return (sums / self.config.length).to(x.dtype)
        total = weight.sum(1, keepdim=True)
        return (sums / total.masked_fill(total == 0, 1)).to(x.dtype)  # of nothing but padding: 0, as attention gives

    @torch.no_grad()
    def _begin_as_theirs(self) -> None:
        """Every matrix uniform within sqrt(6 / (inputs + outputs)), those of q, k and v each by itself."""
        for name, weight in self.named_parameters():
            if name.endswith("qkv.weight"):
                for part in weight.chunk(3):
                    nn.init.xavier_uniform_(part)
            elif name == "token.weight" and self.config.values > 0:  # theirs is a convolution: outputs are counted by place
                nn.init.xavier_uniform_(weight.view(self.config.dim, 1, 1, self.config.values))
            elif weight.dim() == 2:
                nn.init.xavier_uniform_(weight)

    def empty_past(self, batch: int) -> Past:
        """Before the first token of `batch` sequences; of a language model with Fastmax."""
        c = self.config
        need(c.causal and c.order > 0, "a causal model with Fastmax for a past", f"{c.attention} and {c.classes} classes")
        like = self.token.weight
        options = {**Attention(c).function, "dtype": computed_in(like.dtype), "device": like.device}
        states = [FastmaxState.zeros(batch, c.heads, c.head_size, c.head_size, **options) for _ in range(c.layers)]
        width = max(c.convolution - 1, 0)
        recent = [like.new_zeros(batch, width, c.dim) if c.convolution else None for _ in range(c.layers)]
        return Past(0, states, recent)

    @torch.no_grad()
    def next(self, tokens: Tensor, past: Past) -> Tensor:
        """tokens [B, N] join the past: logits [B, vocabulary] of what follows them, as `forward` gives them."""
        x = self._embedded(tokens, past.tokens)
        need(x.size(1) > 0, "at least one token", 0)
        B = past.states[0].tensor.size(0)
        need(len(x) == B, f"tokens of the past's {B} sequences", len(x))
        layers = cast(Iterable[Layer], self.layers)  # to torch's annotations they are modules
        for i, layer in enumerate(layers):
            x, past.states[i], past.recent[i] = layer.extend(x, past.tokens, past.states[i], past.recent[i])
        past.tokens += tokens.size(1)
        return self.head(self.norm(x[:, -1]))

    def _embedded(self, tokens: Tensor, first: int) -> Tensor:
        need_type("tokens", tokens, Tensor, "a Tensor")
        if self.config.values > 0:
            fits = tokens.dim() == 3 and tokens.size(2) == self.config.values
            need(fits, f"tokens [B, N, {self.config.values}]", list(tokens.shape))
            dtype = self.token.weight.dtype
            need(tokens.dtype == dtype or autocasts(tokens.device.type), f"tokens of the model's {dtype}", tokens.dtype)
        else:
            need(tokens.dtype in (torch.int64, torch.int32), "tokens of int64 or int32, ids", tokens.dtype)
            need(tokens.dim() == 2, "tokens of 2 dimensions [B, N]", tokens.dim())
        end = first + tokens.size(1)
        need(end <= self.config.length, f"at most length = {self.config.length} tokens", end)
        x = self.token(tokens)
        if self.config.pool == "class":
            x = torch.cat([self.class_token.expand(len(x), 1, -1), x], 1)
            end += 1
        if self.config.positions == "learned":
            return x + self.position.weight[first:end]
        if self.config.positions == "sinusoidal":
            return x + self.config.embedding_std * _sinusoids(first, end, self.config.dim, x)
        return x

    def save(self, path: str | os.PathLike) -> None:
        """The weights, as `model.safetensors` of a run of the program; beside its `recipe.toml`, the program reads it."""
        save_tensors(self.state_dict(), path, {"format": "pt"})

    @classmethod
    def load(cls, run: str | os.PathLike) -> "Transformer":
        """The best model of a run, in evaluation: from RUN_DIR/recipe.toml and RUN_DIR/model.safetensors."""
        from safetensors.torch import load_file

        weights = load_file(Path(run) / "model.safetensors")
        model = cls(_config_of(Path(run) / "recipe.toml", weights))
        model.load_state_dict(weights)
        return model.eval()


def _config_of(recipe: Path, weights: dict[str, Tensor]) -> Config:
    """What a resolved recipe says, and of the task what its weights show."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    with open(recipe, "rb") as file:
        try:
            sections = tomllib.load(file)
        except ValueError as broken:
            raise ValueError(f"fastmax: need {recipe} to be TOML, got {broken}") from None
    found = all(isinstance(sections.get(name), dict) for name in ("model", "data")) and "length" in sections["data"]
    need(found, f"[model] and data.length in {recipe}", ", ".join(sections) or "nothing")
    keys = {**sections["model"], "length": sections["data"]["length"]}
    known = {field.name for field in dataclasses.fields(Config)}
    unknown = [name for name in keys if name not in known]
    need(not unknown, f"model keys that this version knows in {recipe}", ", ".join(unknown))
    if keys.get("pool") == "class" or "hidden.weight" in weights:
        first = weights.get("hidden.weight", weights["head.weight"])
        keys["classes"] = len(weights["head.weight"])
        keys["pairs"] = first.size(1) == 4 * keys["dim"]
    if "token.bias" in weights:
        keys["values"] = weights["token.weight"].size(1)
    else:
        keys["vocabulary"] = len(weights["token.weight"])
    if "position.weight" in weights:
        keys["length"] = len(weights["position.weight"]) - (keys.get("pool") == "class")
    return Config(**keys)


def _angles(first: int, end: int, pairs: int, like: Tensor) -> Tensor:
    """[end - first, pairs], in double: n is in the thousands, and its sine wants the digits."""
    n = torch.arange(first, end, dtype=torch.float64, device=like.device)
    return n[:, None] / 1e4 ** (torch.arange(pairs, dtype=torch.float64, device=like.device) / pairs)


def _sinusoids(first: int, end: int, dim: int, like: Tensor) -> Tensor:
    a = _angles(first, end, (dim + 1) // 2, like)
    waves = torch.stack([a.sin(), a.cos()], -1).flatten(1)[:, :dim]
    return (waves * math.sqrt(2)).to(like.dtype)


def _turned(x: Tensor, first: int) -> Tensor:
    """Halves of a head turned by n theta_i: scores then depend on distances."""
    a = _angles(first, first + x.size(1), x.size(-1) // 2, x)[:, None]
    cos, sin = a.cos().to(x.dtype), a.sin().to(x.dtype)
    left, right = x.chunk(2, -1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], -1)
