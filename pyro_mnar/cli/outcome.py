"""What a command found, for machines."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

FOUND_A_PROBLEM = 1  # exit status of `check`


class Outcome(NamedTuple):
    """What a command hands back beside what it printed.

    Attributes:
        data: Plain data, by name; what ``--json`` prints.
        status: The exit status.
    """

    data: dict[str, Any]
    status: int = 0

    def to_json(self) -> str:
        """One document; numbers that JSON lacks (infinite, none) are null."""
        return json.dumps(_plain(self.data), indent=2, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    value = getattr(value, "item", lambda: value)()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, bool)) or value is None else str(value)


def records(frame: Any) -> list[dict[str, Any]]:
    """A frame's rows, its index among the columns if that has a name."""
    whole = frame.reset_index() if frame.index.name or frame.index.nlevels > 1 else frame
    return whole.to_dict("records")
