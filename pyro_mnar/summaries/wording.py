"""The sentences of a summary."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np

PROBIT = "the probit index of being observed"
SPREAD = 0.02  # of its size: a change that varies less over rows is called the same in all of them


class Dependence(NamedTuple):
    """How strongly a column's being missing depends on one cause.

    Attributes:
        column: The column.
        cause: What it depends on: a column, an auxiliary, another column's R, the latent.
        per: What changes by one: ``"sd"``, ``"sd of logarithm"``, ``"sd of logit"``, ``"level"``, ``"seen"``, or
            ``"latent"``.
        level: The level, where the change is from ``reference`` to it.
        reference: The first level.
        link: The scale of ``change``: ``"logit"``, log-odds of being observed; ``"probit"``, ``"cloglog"``.
        change: On that scale; of the latent, the standard deviation over rows of what it adds.
        lower: Lower end of its 95 % interval, NaN if there is none.
        upper: Upper end.
        least: 5 % quantile of the change over rows; the change itself where it is the same in all.
        greatest: 95 % quantile.
    """

    column: Hashable
    cause: Hashable
    per: str
    level: Any
    reference: Any
    link: str
    change: float
    lower: float
    upper: float
    least: float
    greatest: float

    @property
    def is_same_in_all_rows(self) -> bool:
        """Whether the change is a slope, and no mean over rows."""
        return self.greatest - self.least <= SPREAD * max(abs(self.change), 1e-6)

    @property
    def factor(self) -> float:
        """What the odds of being observed are multiplied by; NaN under a link that has none such."""
        return float(np.exp(self.change)) if self.link == "logit" else float("nan")

    def __str__(self) -> str:
        if not np.isfinite(self.change):
            return f"{self.column}: a hard threshold in {self.cause}, which has no slope"
        multiplies = self.link != "probit"
        scale = np.exp if multiplies else np.asarray
        what = "the odds of being observed"
        if self.link == "cloglog":
            what = "the rate -log(chance of being missing)"
        if self.per == "latent":
            size = (
                f"up or down by a factor of {number(np.exp(self.change))}"
                if multiplies
                else f"by {number(self.change)}"
            )
            told = f"the latent moves {what if multiplies else PROBIT} {size}, one standard deviation of what it adds"
            return f"{self.column}: {told}{self._interval(scale)}"
        told = f"{self._subject()} {f'multiplies {what} by' if multiplies else f'moves {PROBIT} by'}"
        against = f" against {self.reference!r}" if self.per == "level" else ""
        line = f"{self.column}: {told} {number(scale(self.change))}{self._interval(scale)}{against}"
        if not self.is_same_in_all_rows:
            ends = f"{number(scale(self.least))} to {number(scale(self.greatest))}"
            line += f", on average over rows, {ends} in nine tenths of them"
        return line

    def _subject(self) -> str:
        is_own = self.cause == self.column
        of = "" if is_own else f" of {self.cause}"
        if self.per == "level":
            return f"level {self.level!r}{of}"
        if self.per == "seen":
            return f"seeing {str(self.cause)[2:-1]}"
        unit = {"sd of logarithm": " of the logarithm", "sd of logit": " of the logit"}.get(self.per, "")
        return f"each standard deviation{unit}{of} up"

    def _interval(self, scale: Any) -> str:
        if not np.isfinite([self.lower, self.upper]).all():
            return ""
        return f" ({number(scale(self.lower))} to {number(scale(self.upper))})"


class Noise(NamedTuple):
    """What of a column the latents do not explain.

    Attributes:
        column: The column.
        size: Its standard deviation given the latents, in the column's own units; of an amount above zero, the factor
            that one standard deviation is.
        is_factor: Which of the two.
    """

    column: Hashable
    size: float
    is_factor: bool

    def __str__(self) -> str:
        return f"{self.column} {'a factor of ' if self.is_factor else ''}{number(self.size)}"


def number(value: Any) -> str:
    """Two or three digits that matter."""
    value = float(value)
    return f"{value:.2f}" if 0.1 <= abs(value) < 100 else f"{value:.3g}"
