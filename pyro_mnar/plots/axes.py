"""Where a picture goes, and the colours that all share: blue for what was seen, orange for what was imputed.

The two differ in lightness too, so they stay apart in grey, and both stand out on white and on black.
"""

from __future__ import annotations

from typing import Any

SEEN, IMPUTED, NOT_APPLICABLE = "#3274a1", "#f0a04b", "#d0d0d0"


def axes_or_new(ax: Any, *, width: float = 5.0, height: float = 3.2) -> Any:
    """The Axes given, or those of a figure of its own; sizes in inches."""
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained").subplots()
