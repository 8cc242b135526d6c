"""One self-masked column of a given kind beside three continuous ones: what a kind's likelihood has to recover.

    Z ~ N(0, 1),   C_i | Z ~ N(0.9 Z, 1 - 0.9²),   Y | Z of the kind,   P(R_Y = 0 | Y) = σ(1.5 s(Y) - 0.5)

with s(Y) about standardised.  High values (of words: the second level rather than the third) go missing, about 40 % of
all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit

from pyro_mnar.kinds import Binary, Bounded, Categorical, Continuous, Count, HeavyTailed, Kind, Ordinal, Positive
from pyro_mnar.messages import seed_of

LEVELS = ("a", "b", "c")
OF_KIND: dict[str, Kind] = {
    "continuous": Continuous(),
    "heavy_tailed": HeavyTailed(),
    "positive": Positive(),
    "bounded": Bounded(0, 10),
    "count": Count(),
    "binary": Binary((0, 1)),
    "ordinal": Ordinal((1, 2, 3, 4)),
    "categorical": Categorical(LEVELS),
}


@dataclass(frozen=True, eq=False)
class OneKind:
    """A frame with holes in column ``y``, its truth, and the kind to declare.

    Attributes:
        frame: Columns ``c0``, ``c1``, ``c2``, complete, and ``y``.
        complete: The same without holes.
        kind: Of ``y``.
    """

    frame: pd.DataFrame
    complete: pd.DataFrame
    kind: Kind


def one_kind(kind: str, seed: int, *, rows: int = 2500) -> OneKind:
    """Draw a table.

    Args:
        kind: One of ``OF_KIND``.
        seed: Same kind, seed and rows, same table.
        rows: N.

    Raises:
        ValueError: If there is no such kind.
    """
    if kind not in OF_KIND:
        raise ValueError(f"kind: expected one of {sorted(OF_KIND)}, got {kind!r}")
    rng = np.random.default_rng(seed_of(seed))
    z = rng.normal(size=rows)
    columns = {f"c{i}": 0.9 * z + np.sqrt(1 - 0.81) * rng.normal(size=rows) for i in range(3)}
    y, score = _values(kind, z, rng)
    complete = pd.DataFrame({**columns, "y": y})
    missing = rng.random(rows) < expit(1.5 * score - 0.5)
    values = complete["y"].astype(object) if kind == "categorical" else complete["y"]
    return OneKind(complete.assign(y=values.mask(missing)), complete, OF_KIND[kind])


def _values(kind: str, z: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Y and s(Y)."""
    if kind == "count":
        y = rng.poisson(np.exp(1 + 0.5 * z))
        return y, (y - y.mean()) / y.std()
    if kind == "binary":
        y = (rng.random(len(z)) < expit(2 * z)).astype(int)
        return y, 2.0 * y - 1
    if kind == "ordinal":
        y = np.digitize(2 * z + rng.logistic(size=len(z)), [-1.5, 0.0, 1.5]) + 1
        return y, y - 2.5
    if kind == "categorical":
        utility = np.stack([np.zeros_like(z), 2 * z, -1.5 * z], axis=1) + rng.gumbel(size=(len(z), 3))
        chosen = utility.argmax(axis=1)
        return np.array(LEVELS)[chosen], np.array([0.0, 1.5, -1.5])[chosen]
    if kind == "heavy_tailed":
        line = 0.8 * z + 0.4 * rng.standard_t(4, size=len(z))
        return line, line
    line = 0.8 * z + 0.6 * rng.normal(size=len(z))
    if kind == "positive":
        return np.exp(1 + 0.5 * line), line
    return (10 * expit(line), line) if kind == "bounded" else (line, line)
