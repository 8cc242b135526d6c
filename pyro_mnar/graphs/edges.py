"""Edges of a missingness graph: what may be known of an arrow."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from pyro_mnar.messages import in_line, is_finite, is_gap, is_hashable, is_one_of, shown

SIGNS = {"high": -1, "low": 1, None: 0, 0: 0, 1: 1, -1: -1}
FORMS = ("linear", "nonlinear", None)


@dataclass(frozen=True)
class Edge:
    """An arrow, and what is known of it.

    Attributes:
        parent: A column, an auxiliary, the latent, or an ``R[column]``.
        child: An ``R[column]``, or a column (X → X, Figure 1 i).
        sign: Of the effect on the log-odds of being *observed*, other parents held fixed: -1 where high values go
            missing (also written ``"high"``), +1 where low values do (``"low"``), 0 if unknown.
        form: ``"linear"`` or ``"nonlinear"`` in those log-odds; None if unknown.
        slope: The effect itself, where it is known: change of those log-odds per standard deviation of the parent (per
            level of one indicator; seen against missing, of another R).  Beside a sign, its size.

    Raises:
        ValueError: If sign or form is none of these, or the slope is no number or contradicts them.
    """

    parent: Hashable
    child: Hashable
    sign: int | str | None = 0
    form: str | None = None
    slope: float | None = None

    def __post_init__(self) -> None:
        for node in (self.parent, self.child):
            if not is_hashable(node):
                raise TypeError(f"edge: expected the names of two nodes, got {shown(node)}")
        arrow = self.arrow
        if not is_one_of(self.sign, SIGNS) or isinstance(self.sign, bool):
            raise ValueError(
                f"{arrow}: expected sign 'high' (-1: high values go missing), 'low' (+1) or 0, got {shown(self.sign)}"
            )
        if not is_one_of(self.form, FORMS):
            raise ValueError(f"{arrow}: expected form 'linear', 'nonlinear' or None, got {shown(self.form)}")
        sign = SIGNS[self.sign]
        if self.slope is not None:
            if not is_finite(self.slope):
                raise ValueError(f"{arrow}: expected a number as slope, got {shown(self.slope)}")
            if self.form == "nonlinear":
                raise ValueError(f"{arrow}: expected no slope of a nonlinear edge, got {shown(self.slope)}")
            if sign > 0 > self.slope:
                raise ValueError(f"{arrow}: expected a slope from 0 beside sign 'low' (+1), got {shown(self.slope)}")
            slope = float(sign * abs(self.slope) if sign else self.slope)
            object.__setattr__(self, "slope", slope)
            object.__setattr__(self, "form", "linear")
            sign = (slope > 0) - (slope < 0)
        object.__setattr__(self, "sign", sign)

    @property
    def arrow(self) -> str:
        """In one line, whatever the names are."""
        return " → ".join(in_line(node) for node in (self.parent, self.child))


def edge_of(item: Any) -> Edge:
    """From an edge, a pair, or a triple with knowledge."""
    if isinstance(item, Edge):
        return item
    if (
        not isinstance(item, (tuple, list))
        or len(item) not in (2, 3)
        or not isinstance({} if len(item) == 2 else item[2], Mapping)
    ):
        raise TypeError(
            f"edge: expected (parent, child) or (parent, child, {{'sign': ..., 'form': ...}}), got {shown(item)}"
        )
    known = {} if len(item) == 2 else item[2]
    if not set(known) <= {"sign", "form", "slope"}:
        raise ValueError(f"edge: expected knowledge of 'sign', 'form' and 'slope', got {list(known)!r}")
    for name in item[:2]:
        if is_gap(name):  # NaN is not itself: a column and a node of it never meet
            raise ValueError(f"edge: expected a name that a node can have, such as text, got {shown(name)}")
    return Edge(item[0], item[1], **known)
