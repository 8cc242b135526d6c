"""A start from the data for the self-masked mixture: where stochastic EM ends, its parameters begin.

The chain (:mod:`pyro_mnar.baselines.imputers.mixture_chain`) is NumPy and takes seconds; training then goes on by
the bound, with no row completed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from pyro_mnar.baselines.imputers.mixture_chain import Chain, Estimate, check_rounds, first_mechanism
from pyro_mnar.baselines.imputers.pairs import Fitted
from pyro_mnar.baselines.imputers.selection import common_direction
from pyro_mnar.baselines.imputers.self_masked_mixture import check_can_mask
from pyro_mnar.baselines.protocol import Imputer, check_systems
from pyro_mnar.guides import FromModel
from pyro_mnar.messages import check_is, is_one_of, mapping_of, seed_of
from pyro_mnar.models import NormalMixture
from pyro_mnar.tables.table import Table

LEAST_WIDTH = 0.02  # of a threshold, in standard deviations: steeper ones have no gradient left


def start_normal_mixture(
    model: NormalMixture, table: Table, *, rounds: int = 300, burn_in: int = 100, seed: int = 0
) -> NormalMixture:
    """Set a model's parameters from a table, in place, by stochastic EM.

    Where the model is not told a column's sign, the one common to all columns that the complete columns speak for is
    where it starts; training may turn it.

    Args:
        model: The model, made for this table.
        table: The rows.
        rounds: Of stochastic EM.
        burn_in: Rounds before those that are averaged; more than 50.
        seed: Of the chain.

    Returns:
        The model itself.

    Raises:
        ValueError: If a column holds words or levels without an order, or gaps have bounds.
    """
    check_is("model", model, NormalMixture)
    check_can_mask(table)
    check_rounds(rounds, burn_in)
    seed = seed_of(seed)
    mask = table.mask.numpy()
    x = np.where(mask, table.x.numpy().astype(np.float64), np.nan)
    hidden = (~table.mask & table.mask_modelled).numpy()
    predictors = x[:, mask.all(axis=0)]
    told = model.mechanism.sign.cpu().numpy()
    sign = np.where(told == 0, common_direction(x, predictors, hidden) if (told == 0).any() else 1, told)
    side = -sign.astype(np.float64)  # seen from where high values go missing
    first = first_mechanism(x * side, predictors, hidden)
    found = Chain(x * side, hidden, first, model.num_classes, np.random.default_rng([seed, model.num_classes])).run(
        rounds, burn_in
    )
    _take(model, found, side, np.asarray((~mask).any(axis=0)))
    return model


def normal_mixture_model(
    sign: int | Sequence[int] = 0, *, num_classes: int = 3, start: Mapping[str, Any] | None = None, **options: Any
) -> Fitted:
    """The self-masked mixture as a Pyro model, started by stochastic EM and trained by the bound.

    Args:
        sign: As for :class:`~pyro_mnar.models.NormalMixture`; 0: not told.
        num_classes: Likewise.
        start: Options of :func:`start_normal_mixture`.
        **options: Those of :func:`~pyro_mnar.fit`, in place of ten epochs at a rate of 1e-3 with K = 20.
    """
    told, start = _told(sign), mapping_of("start", start)
    return Fitted(
        f"normal mixture model, {told}",
        partial(_started, sign=sign, num_classes=num_classes, options=start),
        FromModel,
        fit_options={"epochs": 10, "learning_rate": 1e-3, "num_particles": 20, **options},
        impute_options={"num_draws": 2},
    )


@dataclass(frozen=True)
class Averaged:
    """Completed tables of several systems, averaged cell by cell.

    Attributes:
        name: What tables and figures call it.
        systems: The systems; of tables of numbers.
    """

    name: str
    systems: Sequence[Imputer]

    def __post_init__(self) -> None:
        check_systems(self.systems)

    def complete(self, table: Table, *, seed: int) -> pd.DataFrame:
        """Fill the gaps by the mean of what the systems fill in."""
        first, *others = (system.complete(table, seed=seed) for system in self.systems)
        return sum(others, start=first) / len(self.systems)


def normal_mixture_models(sign: int | Sequence[int] = 0, **options: Any) -> Averaged:
    """Self-masked mixtures of one, two and three normals as Pyro models; their posterior means are averaged.

    Options are those of :func:`normal_mixture_model`.
    """
    told = _told(sign)
    systems = [normal_mixture_model(sign, num_classes=count, **options) for count in (1, 2, 3)]
    return Averaged(f"normal mixture models 1 to 3, {told}", systems)


def _told(sign: int | Sequence[int]) -> str:
    return "sign free" if is_one_of(sign, (0,)) else "known sign"


def _started(
    table: Table, *, sign: int | Sequence[int], num_classes: int, options: Mapping[str, Any], seed: int
) -> NormalMixture:
    model = NormalMixture(table, num_classes=num_classes, sign=sign, seed=seed).to(table.dtype)
    return start_normal_mixture(model, table, seed=seed, **options)


def _take(
    model: NormalMixture, found: Estimate, side: Float[NDArray, " columns"], incomplete: NDArray[np.bool_]
) -> None:
    like = model.loc

    def tensor(values: NDArray[np.float64]) -> torch.Tensor:
        return torch.as_tensor(values, dtype=like.dtype, device=like.device)

    covariances = found.covariances * side[:, None] * side
    width = np.maximum(found.mechanism.width, LEAST_WIDTH)
    slope = np.where(incomplete, 1 / width, 0.0)
    with torch.no_grad():
        like.copy_(tensor(found.means * side))
        model.logits.copy_(tensor(np.log(found.shares)))
        model.root = tensor(np.linalg.cholesky(covariances))
        model.within.copy_(tensor(np.einsum("c,cij->ij", found.shares, covariances)))
        intercept = np.where(incomplete, found.mechanism.threshold * slope, 0.0)
        model.mechanism.put_lines(tensor(intercept), tensor(-side * slope))
