"""Operations of torch that have two forms: one that Python runs, and one that is compiled.

Python pays for each operation, and does best with few of them on large blocks.  A compiler makes one loop of a long
list of them, unless a matrix product stands between.  So a trace takes such an operation as a whole, a graph that is
interpreted runs it by Python, and the compiler is given its other form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

Tensors = tuple[Tensor, ...]
_LIBRARY = torch.library.Library("pyro_mnar", "FRAGMENT")


class TwoForms(NamedTuple):
    """What is known of an operation beside its form by Python.

    Attributes:
        compiled: The same function made of torch's operations, whose results a compiler joins.
        numbers: How many it computes by Python for each that it returns.
    """

    compiled: Callable[..., Tensors]
    numbers: int


OPERATIONS: dict[Any, TwoForms] = {}  # by what the node of a graph calls


def two_forms(
    schema: str,
    by_python: Callable[..., Tensors],
    compiled: Callable[..., Tensors],
    like: Callable[..., Tensors],
    mapped: Callable[..., tuple[Tensors, tuple[int, ...]]],
    numbers: int,
) -> Callable[..., Tensors]:
    """Make an operation of torch's, ``pyro_mnar::name``, which has no gradient of its own.

    Args:
        schema: Its name, arguments and results, as torch writes them; it changes nothing in place.
        by_python: What it does with tensors; gives contiguous ones that share no memory with these.
        compiled: The same, made of torch's operations.
        like: Empty tensors such as the results.
        mapped: Its rule for ``torch.vmap``, as ``torch.library.register_vmap`` asks for it.
        numbers: As of :class:`TwoForms`.
    """
    name = _LIBRARY.define(schema)
    _LIBRARY.impl(name, by_python, "CompositeExplicitAutograd")
    torch.library.register_fake(f"pyro_mnar::{name}", like, lib=_LIBRARY)
    torch.library.register_vmap(f"pyro_mnar::{name}", mapped, lib=_LIBRARY)
    operation = getattr(torch.ops.pyro_mnar, name).default
    OPERATIONS[operation] = TwoForms(compiled, numbers)
    return operation


def compiled_forms() -> dict[Any, Callable[..., Tensors]]:
    """The forms to compile, by operation, as a trace takes them."""
    return {operation: forms.compiled for operation, forms in OPERATIONS.items()}


def num_results(node: fx.Node) -> int:
    """Numbers that the node of a graph gives; of an operation with two forms also those that it computes for them."""
    meta = node.meta.get("tensor_meta")
    if node.target in OPERATIONS:
        return OPERATIONS[node.target].numbers * sum(result.shape.numel() for result in meta or ())
    return meta.shape.numel() if hasattr(meta, "shape") else 0  # pyright: ignore[reportOptionalMemberAccess]
