"""How a model or a guide was made: its constructor's arguments, which a file can then say."""

from __future__ import annotations

import inspect
from functools import wraps
from typing import Any, TypeVar

Class = TypeVar("Class", bound=type[Any])
_KEPT = "_constructor_arguments"


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


def arguments_of(instance: Any) -> dict[str, Any] | None:
    """The arguments that it was made with, by name; None if nobody kept them."""
    return getattr(instance, "__dict__", {}).get(_KEPT)
