"""Random numbers of a training step, taken from outside the step.

A compiled step that draws its own numbers is at the mercy of the compiler's generators; one that is given them gets
fresh ones on every call, from the fit's own seed, in one cheap call for many steps.  :class:`Noise` stands between a
model and torch: every draw that is a fixed function of standard normal or uniform numbers is computed from numbers
that were handed in.  The others (Gamma, Poisson, multinomial) are left where they are.
"""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_mnar.capture.internals import CannotCapture, internal

INSTALLED = {"site-packages", "dist-packages"}  # folders of packages, whichever environment they belong to


class Noise:
    """A context within which draws come from ``normal`` and ``uniform``, in order.

    Args:
        normal: Standard normal numbers, as many as the step needs; with None, the step draws its own and they are
            counted.
        uniform: Likewise, uniform on [0, 1).

    Attributes:
        taken: How many normal and how many uniform numbers were drawn so far.
        others: Random operations that were left as they are.

    Raises:
        CannotCapture: If Python reads a tensor's value or a shape depends on one, so that no fixed graph exists; if
            other numbers are drawn than there are; or if torch has no way to see its own operations.
    """

    def __init__(self, normal: Float[Tensor, " _"] | None = None, uniform: Float[Tensor, " _"] | None = None) -> None:
        self.supply = {"normal": normal, "uniform": uniform}
        self.taken = {"normal": 0, "uniform": 0}
        self.others: list[str] = []
        self._mode: Any = None

    def __enter__(self) -> Noise:
        self._mode = _mode_of(self.operation)
        self._mode.__enter__()
        return self

    def __exit__(self, *exc: Any) -> Any:
        return self._mode.__exit__(*exc)

    def operation(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The result of one of torch's operations: a draw is replaced, everything else passed on."""
        if _depends_on_values(func, args):
            name = _SPOKEN.get(str(func), repr(func.overloadpacket.__name__))
            raise CannotCapture(f"{name} reads values of a tensor{_place()}")
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        if kwargs.get("generator") is not None:
            raise CannotCapture(f"{func.overloadpacket.__name__!r} draws from a generator of its own{_place()}")
        draw = _DRAWS.get(str(func))
        if draw is None:
            self.others.append(str(func))
            return func(*args, **kwargs)
        return draw(self, *args, **{name: value for name, value in kwargs.items() if name not in _IGNORED})

    def normal(self, shape: Any, like: Tensor | None = None, **options: Any) -> Tensor:
        """Standard normal numbers."""
        return self._take("normal", torch.Size(shape), like, options)

    def uniform(self, shape: Any, like: Tensor | None = None, **options: Any) -> Tensor:
        """Numbers uniform on [0, 1)."""
        return self._take("uniform", torch.Size(shape), like, options)

    def _take(self, kind: str, shape: torch.Size, like: Tensor | None, options: dict[str, Any]) -> Tensor:
        start, count = self.taken[kind], shape.numel()
        self.taken[kind] += count
        supply = self.supply[kind]
        dtype = options.get("dtype") or (torch.get_default_dtype() if like is None else like.dtype)
        if supply is None:
            make = torch.randn if kind == "normal" else torch.rand
            return make(shape, dtype=dtype, device=options.get("device", None if like is None else like.device))
        if start + count > len(supply):
            raise CannotCapture(f"more {kind} numbers are drawn than when the step was captured, {len(supply)}")
        return supply[start : start + count].view(shape).to(dtype)


def _mode_of(operation: Callable[[Any, Any, Any], Any]) -> Any:
    """A context that hands every operation of torch to a function."""

    class Mode(internal("torch.utils._python_dispatch", "TorchDispatchMode")):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return operation(func, args, kwargs or {})

    return Mode()


def _normal_(noise: Noise, out: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    return out.copy_(noise.normal(out.shape, out) * std + mean)


def _normal(noise: Noise, mean: Any, std: Any = 1.0, size: Any = None, **options: Any) -> Tensor:
    tensors = [value for value in (mean, std) if isinstance(value, Tensor)]
    if not tensors:
        return noise.normal(size, **options) * std + mean
    shape = torch.broadcast_shapes(*(tensor.shape for tensor in tensors))
    return noise.normal(shape, tensors[0]) * std + mean


def _uniform_(noise: Noise, out: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    return out.copy_(noise.uniform(out.shape, out) * (high - low) + low)


def _bernoulli(noise: Noise, probs: Tensor, p: float | None = None) -> Tensor:
    return (noise.uniform(probs.shape, probs) < (probs if p is None else p)).to(probs.dtype)


def _bernoulli_(noise: Noise, out: Tensor, p: Any = 0.5) -> Tensor:
    like = out if out.is_floating_point() else None
    return out.copy_(noise.uniform(out.shape, like, device=out.device) < p)


def _exponential_(noise: Noise, out: Tensor, rate: float = 1.0) -> Tensor:
    return out.copy_(-torch.log1p(-noise.uniform(out.shape, out)) / rate)


def _dropout(noise: Noise, values: Tensor, p: float, train: bool | None = None) -> tuple[Tensor, Tensor]:
    if train is False:
        return values.clone(), torch.ones_like(values, dtype=torch.bool)
    kept = noise.uniform(values.shape, values) >= p
    return values * kept / (1 - p), kept


_IGNORED = ("generator", "layout", "pin_memory", "memory_format")
_DRAWS: dict[str, Callable[..., Any]] = {
    "aten.normal_.default": _normal_,
    "aten.normal.Tensor_Tensor": _normal,
    "aten.normal.Tensor_float": _normal,
    "aten.normal.float_Tensor": _normal,
    "aten.normal.float_float": _normal,
    "aten.randn.default": Noise.normal,
    "aten.randn_like.default": lambda noise, like, **options: noise.normal(like.shape, like, **options),
    "aten.rand.default": Noise.uniform,
    "aten.rand_like.default": lambda noise, like, **options: noise.uniform(like.shape, like, **options),
    "aten.uniform_.default": _uniform_,
    "aten.bernoulli.default": _bernoulli,
    "aten.bernoulli.p": _bernoulli,
    "aten.bernoulli_.float": _bernoulli_,
    "aten.bernoulli_.Tensor": _bernoulli_,
    "aten.exponential_.default": _exponential_,
    "aten.native_dropout.default": _dropout,
}
_READS_VALUES = {
    "aten._local_scalar_dense.default",
    "aten.equal.default",
    "aten.is_nonzero.default",
    "aten.nonzero.default",
    "aten.masked_select.default",
    "aten._unique2.default",
    "aten.unique_dim.default",
}
_SPOKEN = {"aten._local_scalar_dense.default": "'.item()', 'if' or the like"}  # operations that nobody calls by name


def _depends_on_values(func: Any, args: Any) -> bool:
    if str(func) == "aten.index.Tensor":
        return any(at is not None and at.dtype in (torch.bool, torch.uint8) for at in args[1])
    return str(func) in _READS_VALUES


def _place() -> str:
    """Where in the user's own code, if that is on the stack."""
    for frame, line in traceback.walk_stack(None):
        if _is_users(frame.f_code.co_filename, frame.f_globals.get("__name__", "")):
            return f" ({Path(frame.f_code.co_filename).name}, line {line})"
    return ""


def _is_users(filename: str, module: str) -> bool:
    """Whether code is neither Python's own, nor an installed package's (of any environment), nor this package's."""
    file = Path(filename)
    if filename.startswith("<") or module.split(".")[0] == "pyro_mnar" or INSTALLED & set(file.parts):
        return False
    return not file.is_relative_to(sysconfig.get_paths()["stdlib"])
