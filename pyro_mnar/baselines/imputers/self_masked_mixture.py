"""Normal mixtures whose values mask themselves: density and mechanism fitted together, missing values summed out.

    C → X_d → R_d        p(c) · N(x; μ_c, Σ_c) · Π_d Φ(±(x_d - b_d) / τ_d)

Rows are completed by stochastic EM (:mod:`pyro_mnar.baselines.imputers.mixture_chain`).  What lies beyond the seen
values depends on the number of components, and the data that are seen do not tell which is best there, so their means
are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int
from numpy.typing import NDArray

from pyro_mnar.baselines.imputers.mixture_chain import Chain, check_rounds, first_mechanism
from pyro_mnar.baselines.imputers.selection import common_direction
from pyro_mnar.baselines.protocol import check_table, completed, predictors_of
from pyro_mnar.messages import check_list, is_real, seed_of, shown, whole_number
from pyro_mnar.tables.table import Table


@dataclass(frozen=True)
class SelfMaskedMixture:
    """Self-masking under mixtures of one, two, three normals; their posterior means are averaged.

    Attributes:
        name: What tables and figures call it.
        sign: -1 if high values go missing, +1 if low ones do; one number or one per column.  None: the same in all
            columns and not told, found by the likelihood of every column given the complete ones.
        components: Numbers of components to average over.
        rounds: Of stochastic EM.
        burn_in: Rounds before those over which conditional means are averaged; more than 50.
    """

    name: str
    sign: int | Sequence[int] | None = None
    components: Sequence[int] = (1, 2, 3)
    rounds: int = 500
    burn_in: int = 100

    def __post_init__(self) -> None:
        for count in check_list("components", self.components):
            whole_number("components", count)
        check_rounds(self.rounds, self.burn_in)

    def complete(self, table: Table, *, seed: int) -> pd.DataFrame:
        """Fit, and fill the gaps by posterior means given the mask.

        Raises:
            ValueError: If a column holds words or levels without an order, gaps have bounds, or there are not as many
                signs as columns.
        """
        check_can_mask(table)
        seed = seed_of(seed)
        hidden = (~table.mask & table.mask_modelled).numpy()
        both = predictors_of(table)
        predictors = both[:, ~np.isnan(both).any(axis=0)]
        num_columns = table.schema.num_columns
        sign = common_direction(both[:, :num_columns], predictors, hidden) if self.sign is None else self.sign
        side = -signs_of(sign, num_columns)
        # Seen from the side on which values go missing, high ones do.
        x = np.concatenate([both[:, :num_columns] * side, both[:, num_columns:]], axis=1)
        all_hidden = np.concatenate([hidden, np.zeros_like(both[:, num_columns:], dtype=bool)], axis=1)
        start = first_mechanism(x, predictors, all_hidden)
        chains = [Chain(x, all_hidden, start, count, np.random.default_rng([seed, count])) for count in self.components]
        means = [chain.run(self.rounds, self.burn_in).completed for chain in chains]
        return completed(table, np.mean(means, axis=0)[:, :num_columns] * side)


def normal_mixtures_known_sign(sign: int | Sequence[int] = -1, **options: Any) -> SelfMaskedMixture:
    """Self-masked mixtures of normals, told the sign: -1 if high values go missing, +1 if low ones do.

    Options are the fields of :class:`SelfMaskedMixture`.
    """
    return SelfMaskedMixture("normal mixtures, known sign", sign, **options)


def normal_mixtures_common_sign(**options: Any) -> SelfMaskedMixture:
    """Self-masked mixtures of normals, the sign not told but common to all columns."""
    return SelfMaskedMixture("normal mixtures, common sign", None, **options)


def signs_of(sign: int | Sequence[int], num_columns: int) -> Int[NDArray, " columns"]:
    """The sign of each column; ValueError if there are not as many, or one is neither -1 nor 1."""
    try:
        signs = [sign] * num_columns if is_real(sign) else list(sign)  # pyright: ignore[reportArgumentType]
    except TypeError:  # nothing to go through
        signs = []
    if len(signs) != num_columns or not all(is_real(one) and one in (-1, 1) for one in signs):
        raise ValueError(f"sign: expected -1 or 1, once or for each of {num_columns} columns, got {shown(sign)}")
    return np.array(signs, dtype=np.int64)


def check_can_mask(table: Table) -> None:
    """Raise ValueError, naming the column, unless all hold numbers or levels that count, and no gap has bounds."""
    check_table(table)
    for column in table.schema.columns:
        if column.kind.holds_words:
            raise ValueError(f"column {column.name!r}: expected numbers, got levels or words")
    if table.bounds is not None:
        raise ValueError("table: expected gaps without bounds, got some with")
