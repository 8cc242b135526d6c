"""What a result depends on, as text: two systems of one configuration give the same text, in every process."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import nn


def configuration_of(*things: Any) -> str:
    """The classes, functions and settings that a system (or anything else) is made of, as compact JSON.

    Dataclasses give their fields, partial functions their arguments, functions and lambdas the values that they closed
    over, other objects their attributes; an attribute that is neither is named by its class alone.

    Args:
        *things: What to describe.
    """
    described = [_described(thing) for thing in things]
    return json.dumps(described if len(described) > 1 else described[0], sort_keys=True, separators=(",", ":"))


def _described(thing: Any) -> Any:
    if thing is None or isinstance(thing, (bool, int, float, str)):
        return thing
    if isinstance(thing, (np.generic, np.ndarray, torch.Tensor)):
        return thing.tolist()
    if isinstance(thing, (PurePath, torch.dtype, torch.device)):
        return str(thing)
    if isinstance(thing, Mapping):
        return {str(key): _described(value) for key, value in thing.items()}
    if isinstance(thing, (set, frozenset)):
        return sorted(map(str, thing))
    if isinstance(thing, Collection):
        return [_described(item) for item in thing]
    if isinstance(thing, type):
        return thing.__name__
    if isinstance(thing, functools.partial):
        return _named(thing.func, {**dict(enumerate(thing.args)), **thing.keywords})
    if isinstance(thing, MethodType):
        return [_described(thing.__func__), _described(thing.__self__)]
    if isinstance(thing, FunctionType):
        thing = inspect.unwrap(thing)  # a type checker's or a profiler's wrapper is no part of it
        cells = zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True)
        return _named(thing, {name: cell.cell_contents for name, cell in cells})
    if isinstance(thing, nn.Module):
        return repr(thing)
    if is_dataclass(thing):
        return _named(type(thing), {field.name: getattr(thing, field.name) for field in fields(thing)})
    return _named(type(thing), getattr(thing, "__dict__", {}))


def _named(what: Any, parts: Mapping[Any, Any]) -> Any:
    name = getattr(what, "__qualname__", type(what).__name__).replace(".<locals>", "")
    return {name: _described(parts)} if parts else name
