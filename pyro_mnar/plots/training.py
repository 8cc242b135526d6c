"""How training went."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyro_mnar.diagnostics.training_signs import rise, still_rises
from pyro_mnar.figures import axes_or_new
from pyro_mnar.plots.axes import IMPUTED, OTHER, SEEN
from pyro_mnar.training import Fit
from pyro_mnar.training.fitted import check_fit

SHOWN = 0.8  # share of the epochs, the last ones, that the vertical axis is made for


def bound_curve(fit: Fit, ax: Any = None) -> Any:
    """The bound by epoch, of training rows, of those held out and of other restarts; its rise at the start may leave
    the picture.  Where it still rises at the end, the title says so.

    Args:
        fit: With a history.
        ax: Axes to draw on; by default a figure of its own.

    Raises:
        ValueError: If the fit has no history, as after ``Fit.from_svi``.
    """
    check_fit(fit)
    history = fit.history
    names = [name for name in ("bound", "objective", "held_out_bound", "held_out_objective") if name in history]
    if history.empty or not names:
        raise ValueError("fit: expected one with a history, got none")
    ax = axes_or_new(ax, (5.0, 3.2))
    late = history.iloc[int((1 - SHOWN) * len(history)) :]
    low, high = late[names].min(axis=None), history[names].max(axis=None)
    # The member that was kept has the fit's own history.
    others = [one.history for one in fit.members if not one.history.equals(history)]
    for number, other in enumerate(others):
        label = f"{len(others)} other start{'s' * (len(others) > 1)}" if number == 0 else None
        ax.plot(other["epoch"], other[names[0]], color=OTHER, linewidth=0.8, alpha=0.6, label=label)
        low = min(low, other[names[0]].iloc[len(other) // 2 :].min())
    for name in names:
        held_out = name.startswith("held_out")
        ax.plot(
            history["epoch"],
            history[name],
            color=IMPUTED if held_out else SEEN,
            linestyle="--" if held_out else "-",
            linewidth=1.4,
            label="held-out rows" if held_out else "training rows",
        )
    margin = 0.08 * (high - low) or 1.0
    if np.isfinite([low, high]).all():
        ax.set_ylim(low - margin, high + margin)
    gained, error = rise(fit)
    ax.set_xlabel("epoch")
    ax.set_ylabel(f"{names[0]}, nats per row")
    ended = f"still rising: {gained:+.3f} at the end" if still_rises(gained, error) else "while training"
    ax.set_title(f"{names[0].capitalize()} {ended}")
    ax.legend(frameon=False, loc="lower right")
    return ax
