"""How training went."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyro_mnar.plots.axes import IMPUTED, SEEN, axes_or_new
from pyro_mnar.training import Fit

SHOWN = 0.8  # share of the epochs, the last ones, that the vertical axis is made for


def bound_curve(fit: Fit, ax: Any = None) -> Any:
    """The bound by epoch, of training rows and of those held out; its rise at the start may leave the picture.

    Args:
        fit: With a history.
        ax: Axes to draw on; by default a figure of its own.

    Raises:
        ValueError: If the fit has no history, as after ``Fit.from_svi``.
    """
    history = fit.history
    names = [name for name in ("bound", "objective", "held_out_bound", "held_out_objective") if name in history]
    if history.empty or not names:
        raise ValueError("fit: expected one with a history, got none")
    ax = axes_or_new(ax)
    late = history.iloc[int((1 - SHOWN) * len(history)) :]
    low, high = late[names].min(axis=None), history[names].max(axis=None)
    for name in names:
        held_out = name.startswith("held_out")
        ax.plot(
            history["epoch"],
            history[name],
            color=IMPUTED if held_out else SEEN,
            linestyle="--" if held_out else "-",
            linewidth=1.2,
            label="held-out rows" if held_out else "training rows",
        )
    margin = 0.08 * (high - low) or 1.0
    if np.isfinite([low, high]).all():
        ax.set_ylim(low - margin, high + margin)
    ax.set_xlabel("epoch")
    ax.set_ylabel(f"{names[0]}, nats per row")
    ax.set_title("Bound while training")
    ax.legend(frameon=False, loc="lower right")
    return ax
