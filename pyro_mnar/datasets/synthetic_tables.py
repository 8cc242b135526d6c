"""The paper's data sets A, B and C (section 6.1, Appendix B.1): three columns, X_1 complete, X_2 and X_3 missing not at
random.

    Z ~ N(0, I_3),   X_1 = w·Z + ε_1,   X_2 = a_1·tanh(A_1 [X_1, Z]) + ε_2,   X_3 = a_2·tanh(A_2 [X_1, X_2, Z]) + ε_3

The paper leaves the nonlinear functions open; these have eight hidden units, entries of A ~ N(0, 0.8²), of a ~ N(0,
4/8), of w ~ N(0, 1), and ε ~ N(0, 0.01).  Columns are standardised, then masked: in A where X_i > 0, in B and C where a
random linear function of (X_i, Z) is positive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from pyro_mnar.datasets.amputation import Amputed, Weights, ampute, threshold
from pyro_mnar.datasets.complete import Complete, latent_frame
from pyro_mnar.graphs.graph import MissingnessGraph
from pyro_mnar.memory import check_room
from pyro_mnar.messages import check_one_of, seed_of, whole_number

NAMES = ("A", "B", "C")
COLUMNS = ("X1", "X2", "X3")
INCOMPLETE = ("X2", "X3")
LATENT_DIM = 3
HIDDEN = 8
NOISE = 0.1


@dataclass(frozen=True, eq=False)
class Synthetic(Amputed):
    """One of the paper's data sets, with its truth, its graph and fresh rows; in standard deviations of the training
    rows.

    Attributes:
        graph: The true missingness graph.
        test: As many fresh complete rows of the same law, in the same units; ``(rows, 3)``.
        test_latents: Their latents; ``(rows, 3)``.
    """

    graph: MissingnessGraph
    test: pd.DataFrame
    test_latents: pd.DataFrame


def synthetic(name: str, seed: int, *, rows: int = 2000) -> Synthetic:
    """Draw parameters and rows of data set A, B or C.

    Args:
        name: ``"A"``, ``"B"`` or ``"C"``; B and C differ by their parameters alone.
        seed: Same name and seed, same data set.
        rows: N; the first rows do not stay the same when it changes, the parameters do.

    Returns:
        Columns ``X1``, ``X2``, ``X3`` with holes in the last two.

    Raises:
        ValueError: If there is no such data set, or fewer than two rows are asked for.
    """
    check_one_of("name", name, NAMES)
    rows, seed = whole_number("rows", rows, 2), seed_of(seed)
    check_room("rows", rows, 8 * 3, "numbers of every cell")
    rng = np.random.default_rng([seed, NAMES.index(name)])
    law = _Law(rng)
    train, test = law.draw(rows, rng), law.draw(rows, rng)
    mean, std = train.frame.mean(), train.frame.std(ddof=0)
    complete = Complete((train.frame - mean) / std, train.latents)
    graph, weights = _mechanism(name, law.of_mask)
    made = ampute(complete, graph, mechanism=threshold, weights=weights, seed=seed)
    assert test.latents is not None
    return Synthetic(
        made.frame, made.complete, made.latents, made.probabilities, graph, (test.frame - mean) / std, test.latents
    )


class _Law:
    """Parameters of one data set, drawn before any row."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.w = rng.normal(size=LATENT_DIM)
        self.inner = [rng.normal(scale=0.8, size=(HIDDEN, LATENT_DIM + before)) for before in (1, 2)]
        self.outer = [rng.normal(scale=np.sqrt(4 / HIDDEN), size=HIDDEN) for _ in INCOMPLETE]
        self.of_mask = rng.normal(size=(len(INCOMPLETE), 1 + LATENT_DIM))

    def draw(self, rows: int, rng: np.random.Generator) -> Complete:
        z = rng.normal(size=(rows, LATENT_DIM))
        noise = NOISE * rng.normal(size=(rows, len(COLUMNS)))
        x = (z @ self.w + noise[:, 0])[:, None]
        for i, (inner, outer) in enumerate(zip(self.inner, self.outer, strict=True)):
            new = np.tanh(np.concatenate([x, z], axis=1) @ inner.T) @ outer + noise[:, i + 1]
            x = np.concatenate([x, new[:, None]], axis=1)
        return Complete(pd.DataFrame(x, columns=list(COLUMNS)), latent_frame(z))


def _mechanism(name: str, coefficients: Float[NDArray, "incomplete causes"]) -> tuple[MissingnessGraph, Weights | None]:
    if name == "A":
        return MissingnessGraph.self_masking(COLUMNS, incomplete=INCOMPLETE, sign=-1), None
    graph = MissingnessGraph.latent_dependent(COLUMNS, incomplete=INCOMPLETE)
    causes = [f"Z{h + 1}" for h in range(LATENT_DIM)]
    weights: Weights = {
        column: dict(zip([column, *causes], row.tolist(), strict=True))
        for column, row in zip(INCOMPLETE, coefficients, strict=True)
    }
    return graph, weights
