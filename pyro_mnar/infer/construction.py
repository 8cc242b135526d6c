"""How a model or a guide was made: its constructor's arguments, which a file can then say; whether it is so still."""

from __future__ import annotations

import hashlib
import inspect
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import nn

Class = TypeVar("Class", bound=type[Any])
_KEPT, _AS_MADE = "_constructor_arguments", "_parameters_as_made"


def remembered(cls: Class) -> Class:
    """Let instances keep the arguments that they were made with; a class decorator.

    A table is kept as its schema, so that no model holds on to data; what the constructor read off the data in place
    of an argument, it leaves in ``read_off_data``, by the argument's name.  Instances of subclasses keep nothing unless
    the subclass is decorated too: it may take other arguments.
    """
    make = cls.__init__
    signature = inspect.signature(make)

    @wraps(make)
    def made(self: Any, *args: Any, **options: Any) -> None:
        make(self, *args, **options)
        arguments = dict(signature.bind(self, *args, **options).arguments)
        del arguments["self"]
        arguments |= self.__dict__.get("read_off_data", {})
        if "table" in arguments:
            arguments["table"] = getattr(arguments["table"], "schema", arguments["table"])
        remember(self, cls, arguments)

    cls.__init__ = made
    return cls


def remember(instance: Any, cls: type[Any], arguments: dict[str, Any]) -> None:
    """Let an instance keep arguments that make one like it, if it is of this very class."""
    if type(instance) is cls:
        object.__setattr__(instance, _KEPT, arguments)  # past torch's Module, which would register what is one
        object.__setattr__(instance, _AS_MADE, _digest(instance))


def arguments_of(instance: Any) -> dict[str, Any] | None:
    """The arguments that it was made with, by name; None if nobody kept them."""
    return getattr(instance, "__dict__", {}).get(_KEPT)


def is_as_made(instance: Any) -> bool:
    """Whether all parameters are those that the constructor left, and free: none trained, loaded, set or frozen since.

    A conversion to float64 is no change.  False for what is not ``remembered``.
    """
    kept = getattr(instance, "__dict__", {}).get(_AS_MADE)
    return kept is not None and all(one.requires_grad for one in instance.parameters()) and kept == _digest(instance)


def _digest(instance: Any) -> str | None:
    """Of names and values of its parameters; None if it has no values."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in instance.named_parameters() if isinstance(instance, nn.Module) else ():
        if value.is_meta:
            return None
        digest.update(name.encode())
        digest.update(value.detach().to("cpu", torch.float64).contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
