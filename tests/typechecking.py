"""The type checker of the import hook: beartype, with an int good for a float, as PEP 484 has it.

The first calls of each test are checked, the others are not: a training calls the same functions with arguments of the
same shapes thousands of times, and checking each of them took longer than all else that quick tests do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

MOST_CALLS = 2_000  # of a test; each has its arguments checked, and then its result with its arguments

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_calls = 0


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """What jaxtyping calls with arguments, or with arguments and result, to have them checked."""
    check = _check(function)

    @wraps(check)
    def counted(*args: Any, **kwargs: Any) -> Any:
        global _calls
        _calls += 1
        if _calls > MOST_CALLS:
            jaxtyping.config.update("jaxtyping_disable", True)
        return check(*args, **kwargs)

    return counted


def start(*, checks: bool) -> None:
    """A test begins, whose first calls are checked or none of them."""
    global _calls
    _calls = 0
    jaxtyping.config.update("jaxtyping_disable", not checks)
