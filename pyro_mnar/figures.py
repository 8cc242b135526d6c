"""Where a picture goes that is given no Axes: where who draws looks for it."""

from __future__ import annotations

import sys
from typing import Any

from pyro_mnar.messages import check_is


def axes_or_new(ax: Any, size: tuple[float, float] | None = None) -> Any:
    """The Axes given, or those of a new figure; width and height in inches, matplotlib's own where there are none.

    In a notebook, and wherever ``matplotlib.pyplot`` has been imported, the figure is pyplot's, so that it is shown
    below its cell or by ``plt.show()``.  Elsewhere it belongs to nobody but the Axes, so that a program that draws
    thousands keeps none.
    """
    if ax is not None:
        from matplotlib.axes import Axes

        check_is("ax", ax, Axes, " of matplotlib")
        return ax
    options: dict[str, Any] = {"layout": "constrained", "figsize": size}
    if "matplotlib.pyplot" in sys.modules or "ipykernel" in sys.modules:
        import matplotlib.pyplot as plt

        return plt.subplots(**options)[1]
    from matplotlib.figure import Figure

    return Figure(**options).subplots()


def close(ax: Any) -> None:
    """Let pyplot forget the figure of some Axes, where it has it: what has been saved is not shown too."""
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close(ax.figure)
