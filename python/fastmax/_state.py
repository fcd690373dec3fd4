"""FastmaxState: everything that attention needs of a past of any length."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fastmax import _features as ft
from fastmax._call import attend, function_options
from fastmax._errors import need, need_tensor, need_type
from fastmax._files import save_tensors

_DTYPES = (torch.float32, torch.float64)


def _numbers(text: str) -> list[float]:
    return [*map(float, text.split())]


_METADATA = (("order", int, "an int"), ("D", int, "an int"), ("E", int, "an int"), ("count", int, "an int"),
             ("scale", float, "a number"), ("coefficients", _numbers, "numbers"))  # fmt: skip


class FastmaxState:
    """S = sum_m w_m phi(k^_m) [v_m, 1], a value: states of one function add up, in any order.

    Attributes:
        tensor: [B, Hkv, F, E + 1] with F = C(D + p, p) rows in the order of docs/math.md; float64 for float64 tokens,
            else float32. It may require a gradient.
        D, E: channels of keys and of values.
        p, scale, normalize, coefficients: the function that queries are answered with.
        count: tokens that joined, padding included; of packed sequences, those of all together.

    Raises:
        ValueError, TypeError: for a tensor whose shape or type does not fit D and p, for a function that no state is of (max_norm, a
            coefficient of 0), for tokens that do not fit the state, and from `+` for states of two functions or sizes.
    """

    def __init__(
        self,
        tensor: Tensor,
        *,
        D: int,
        p: int = 2,
        scale: float | None = None,
        normalize: str = "standardize",
        coefficients: Sequence[float] | None = None,
        count: int = 0,
    ):
        _need_function(D, p, scale, normalize, coefficients)
        need_type("state", tensor, Tensor, "a Tensor")
        if not torch.compiler.is_compiling():  # which cannot trace comb of a D that it keeps open
            rows = math.comb(D + p, p)
            fits = tensor.dim() == 4 and tensor.size(2) == rows and tensor.size(3) >= 2
            need(fits, f"a state of shape [B, Hkv, {rows}, E + 1] for p = {p} and D = {D}", [*tensor.shape])
        need(tensor.dtype in _DTYPES, "a state of float32 or float64", tensor.dtype)
        need_type("count", count, (int, torch.SymInt), "an int")
        need(count >= 0, "count >= 0", count)
        self.tensor, self.D, self.E = tensor, D, tensor.size(3) - 1
        self.p, self.normalize, self.count = p, normalize, count
        self.scale: float = ft.default_scale(p, D, normalize) if scale is None else float(scale)
        self.coefficients = None if coefficients is None else tuple(map(float, coefficients))

    @classmethod
    def zeros(
        cls,
        batch: int,
        heads: int,
        D: int,
        E: int,
        p: int = 2,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        *,
        scale: float | None = None,
        normalize: str = "standardize",
        coefficients: Sequence[float] | None = None,
    ) -> "FastmaxState":
        """No token yet. `heads` are those of keys; `dtype` is float32, or float64 for float64 tokens."""
        _need_function(D, p, scale, normalize, coefficients)
        for name, value, least in (("batch", batch, 0), ("heads", heads, 0), ("E", E, 1)):
            need_type(name, value, int, "an int")
            need(value >= least, f"{name} >= {least}", value)
        need(dtype in _DTYPES, "dtype float32 or float64 (16-bit tokens: float32)", dtype)
        _need_device(device)
        tensor = torch.zeros(batch, heads, math.comb(D + p, p), E + 1, dtype=dtype, device=device)
        return cls(tensor, D=D, p=p, scale=scale, normalize=normalize, coefficients=coefficients)

    def update(self, k: Tensor, v: Tensor, key_weight: Tensor | None = None) -> "FastmaxState":
        """Keys k [B, Hkv, M, D] and values v [B, Hkv, M, E] join, with weights [B, M]. Returns self."""
        for name, x in (("k", k), ("v", v)):
            need_tensor(name, x)
        if key_weight is not None:
            need_type("key_weight", key_weight, Tensor, "a Tensor")
        no_query = k.new_empty(*self.tensor.shape[:2], 0, self.D)
        names = {"initial_state": "state", "q": "state"}
        self.tensor = self._attend(no_query, k, v, key_weight, names, return_state=True)[2]
        self.count += k.size(2)
        return self

    def query(self, q: Tensor, *, floor: str = "auto") -> Tensor:
        """o [B, H, N, E] of queries [B, H, N, D] that see all tokens so far and nothing else; H a multiple of Hkv. `floor` as
        in `scaled_dot_product_attention`."""
        need_tensor("q", q)
        options = {} if floor == "auto" else {"floor": floor}
        B, H = self.tensor.shape[:2]
        names = {"initial_state": "state", "k": "state", "v": "state"}
        return self._attend(q, q.new_empty(B, H, 0, self.D), q.new_empty(B, H, 0, self.E), None, names, **options)[0]

    def _attend(self, q, k, v, key_weight, names, **options):
        options.update(self.options())
        return attend(q, k, v, key_weight, self.tensor, None, None, "auto", 0.0, options, names)

    @property
    def function(self) -> tuple[int, float, str, tuple[float, ...] | None]:
        """What makes two states add up."""
        return self.p, self.scale, self.normalize, self.coefficients

    def options(self) -> dict[str, Any]:
        """The operators' options that are not at their default."""
        own = self.p % 2 == 1 or self.scale != 1
        return function_options(self.p, self.scale if own else None, self.normalize, self.coefficients)

    def check_function(
        self, p: int, scale: float | None, normalize: str, coefficients: Sequence[float] | None
    ) -> None:
        """A call with this past computes what the past was made for."""
        if scale is None:
            scale = ft.default_scale(p, self.D, normalize)
        coefficients = None if coefficients is None else tuple(map(float, coefficients))
        words = "p {}, scale {:g}, normalize {!r} and coefficients {}"
        asked = (p, float(scale), normalize, coefficients)
        need(
            self.function == asked,
            words.format(*self.function) + " as in initial_state",
            words.format(*asked),
        )

    def __add__(self, other: "FastmaxState") -> "FastmaxState":
        """The tokens of both."""
        if not isinstance(other, FastmaxState):
            return NotImplemented
        need(self.function == other.function, f"states of one p, scale, normalize and coefficients to add, {self.function}",
             other.function)  # fmt: skip
        need(self.tensor.shape == other.tensor.shape and self.D == other.D, f"states of one size to add, "
             f"{[*self.tensor.shape]} and D {self.D}", f"{[*other.tensor.shape]} and {other.D}")  # fmt: skip
        need(
            self.tensor.dtype == other.tensor.dtype,
            f"states of one dtype to add, {self.tensor.dtype}",
            other.tensor.dtype,
        )
        return self._with(self.tensor + other.tensor, self.count + other.count)

    def _with(self, tensor: Tensor, count: int | None = None) -> "FastmaxState":
        p, scale, normalize, coefficients = self.function
        count = self.count if count is None else count
        return FastmaxState(
            tensor, D=self.D, p=p, scale=scale, normalize=normalize, coefficients=coefficients, count=count
        )

    def clone(self) -> "FastmaxState":
        return self._with(self.tensor.clone())

    def detach(self) -> "FastmaxState":
        return self._with(self.tensor.detach())

    def to(self, *args: Any, **kwargs: Any) -> "FastmaxState":
        """As Tensor.to, for the device or the type of the tensor."""
        return self._with(self.tensor.to(*args, **kwargs))

    def state_dict(self) -> dict[str, Any]:
        """{"state": tensor, "order", "D", "E", "count", "scale", "normalize"}, and "coefficients" if there are own ones."""
        entries = {
            "state": self.tensor,
            "order": self.p,
            "D": self.D,
            "E": self.E,
            "count": self.count,
            "scale": self.scale,
            "normalize": self.normalize,
        }
        return entries if self.coefficients is None else {**entries, "coefficients": [*self.coefficients]}

    def load_state_dict(self, entries: Mapping[str, Any]) -> None:
        """Becomes a copy of the state of `state_dict()`, of any size and function, without gradient."""
        need_type("entries", entries, Mapping, "what state_dict() gives")
        wanted = ("state", "order", "D", "E", "count", "scale", "normalize")
        missing = [name for name in wanted if name not in entries]
        need(not missing, f"the entries {', '.join(wanted)}", f"none of {', '.join(missing)}")
        loaded = FastmaxState(
            entries["state"],
            D=entries["D"],
            p=entries["order"],
            scale=entries["scale"],
            normalize=entries["normalize"],
            coefficients=entries.get("coefficients"),
            count=entries["count"],
        )
        need(loaded.E == entries["E"], f"E = {loaded.E} as in state", entries["E"])
        self.__dict__.update(loaded.detach().clone().__dict__)

    def save(self, path: str | PathLike) -> None:
        """A safetensors file, as the C++ library writes and reads them, there whole or not at all. Needs the package
        safetensors."""
        entries = self.state_dict()
        tensor = entries.pop("state")
        coefficients = entries.pop("coefficients", None)
        metadata = {name: value if isinstance(value, str) else repr(value) for name, value in entries.items()}
        if coefficients is not None:
            metadata["coefficients"] = " ".join(map(repr, coefficients))
        save_tensors({"state": tensor}, path, metadata)

    @classmethod
    def load(cls, path: str | PathLike) -> "FastmaxState":
        """What `save` wrote, or the C++ library's State::save."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                metadata, names = file.metadata() or {}, [*file.keys()]
                need(names == ["state"], f"one tensor 'state' in {path}", names)
                entries: dict[str, Any] = {"state": file.get_tensor("state"), **metadata}
        except SafetensorError as wrong:
            raise ValueError(f"fastmax: need a safetensors file, got {path}: {wrong}") from None
        for name, read, words in _METADATA:
            try:
                if name in entries:
                    entries[name] = read(entries[name])
            except ValueError:
                need(False, f"{name} {words} in {path}", repr(entries[name]))
        state = cls.zeros(0, 0, 1, 1)
        try:
            state.load_state_dict(entries)
        except ValueError as wrong:
            raise ValueError(f"{wrong} in {path}") from None
        return state

    def __repr__(self) -> str:
        B, H, F, _ = self.tensor.shape
        return (
            f"FastmaxState(batch={B}, heads={H}, D={self.D}, E={self.E}, p={self.p}, count={self.count}, "
            f"normalize={self.normalize!r}, scale={self.scale:g}, dtype={self.tensor.dtype}, device={self.tensor.device})"
        )


def _need_device(device: Any) -> None:
    if device is None:
        return
    need_type("device", device, (torch.device, str, int), "a torch.device, its name or None")
    try:
        torch.device(device)
    except RuntimeError:
        need(False, "device a name that torch.device knows", repr(device))


def _need_function(
    D: int, p: int, scale: float | None, normalize: str, coefficients: Sequence[float] | None
) -> None:
    need_type("D", D, int, "an int")
    need(D >= 1, "D >= 1", D)
    function_options(p, scale, normalize, coefficients)
    need(normalize in ("standardize", "l2", "none"), "normalize 'standardize', 'l2' or 'none' in a state", normalize)
    need(scale is None or 0 < scale < math.inf, "scale > 0 and finite", scale)
    need(coefficients is None or len(coefficients) == p + 1, f"coefficients c_0 .. c_p, p + 1 = {p + 1} of them", coefficients)


# A value to torch as well: in vmap's results, torch.export's arguments, and checkpoints that torch.load takes for safe.

_BESIDE_TENSOR = ("D", "E", "p", "normalize", "count", "scale", "coefficients")  # by name: torch 2.10 cannot trace vars


def _flatten(state: FastmaxState) -> tuple[list[Tensor], tuple]:
    return [state.tensor], tuple((name, getattr(state, name)) for name in _BESIDE_TENSOR)


def _unflatten(leaves: Iterable[Any], rest: Iterable[tuple[str, Any]]) -> FastmaxState:
    """Of anything that stands for a tensor."""
    state = FastmaxState.__new__(FastmaxState)
    (state.tensor,) = leaves
    for name, value in rest:
        setattr(state, name, value)
    return state


def _flatten_with_keys(state: FastmaxState) -> tuple[list[tuple[pytree.KeyEntry, Any]], tuple]:
    leaves, rest = _flatten(state)
    return [(pytree.GetAttrKey("tensor"), leaves[0])], rest


pytree.register_pytree_node(
    FastmaxState,
    _flatten,
    _unflatten,
    flatten_with_keys_fn=_flatten_with_keys,
    serialized_type_name="fastmax.FastmaxState",
    to_dumpable_context=list,
    from_dumpable_context=lambda rest: tuple((name, tuple(x) if isinstance(x, list) else x) for name, x in rest),
)
torch.serialization.add_safe_globals([FastmaxState])
