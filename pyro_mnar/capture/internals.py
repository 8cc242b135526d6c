"""Parts of torch that its versions promise nothing about: looked up when they are used, and only in this room.

What a version of torch lacks is a reason not to capture, and no reason for anything else to fail.
"""

from __future__ import annotations

import importlib
import linecache
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch


class CannotCapture(Exception):
    """Why a function of a batch is no fixed graph."""


def internal(module: str, name: str) -> Any:
    """A name in a module of torch.

    Raises:
        CannotCapture: If this version of torch has no such module, or no such name in it.
    """
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise CannotCapture(f"torch {torch.__version__} has no {module}.{name}") from error


@contextmanager
def sources_forgotten() -> Iterator[None]:
    """Let go of the text of graphs that are made within.

    For tracebacks, torch and ``linecache`` keep the source of every graph as long as the process lives: some 200 kB a
    fit, which a service that fits again and again runs out of.
    """
    loader = getattr(importlib.import_module("torch.fx.graph_module"), "_loader", None)
    kept: dict[str, str] = getattr(loader, "eval_cache", {})
    before = set(kept)
    try:
        yield
    finally:
        for name in set(kept) - before:
            kept.pop(name, None)
            linecache.cache.pop(name, None)


@contextmanager
def modules_forgotten() -> Iterator[None]:
    """Let go of the modules that inductor makes within; code that was made keeps what it uses of them.

    Inductor lists every module that it ever loaded, the same one loaded again too, to remove its files one day: some
    150 kB a fit.
    """
    cache = getattr(importlib.import_module("torch._inductor.codecache"), "PyCodeCache", None)
    listed: list[ModuleType] = getattr(cache, "modules", [])
    before = len(listed)
    try:
        yield
    finally:
        del listed[before:]


@contextmanager
def loops_unsaid() -> Iterator[None]:
    """Let vmap loop over members where an operator has no rule for batches, without a line on stderr about each."""
    functorch = importlib.import_module("torch._C._functorch")
    say = getattr(functorch, "_set_vmap_fallback_warning_enabled", lambda _: None)
    say(False)
    try:
        yield
    finally:
        say(True)
