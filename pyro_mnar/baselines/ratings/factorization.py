"""Matrix factorisation as rating predictors: what a member of the family is trained on, and how (Table 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoNormal, init_to_sample
from torch import Tensor

from pyro_mnar.baselines.protocol import asked_cells, check_ratings
from pyro_mnar.baselines.ratings.optimisation import check_training, minimise
from pyro_mnar.baselines.ratings.propensities import Propensities, logistic_propensities
from pyro_mnar.infer.session import Session
from pyro_mnar.memory import check_room
from pyro_mnar.messages import check_function, check_is, whole_number
from pyro_mnar.models.matrix_factorization import PMF, Cells, DeconfoundedPMF, ExposurePF, NonRandomPMF, OrdinalPMF


def MAP(model: Any) -> Any:
    """One value for every latent: maximum a posteriori."""
    return AutoDelta(model, init_loc_fn=init_to_sample)


def mean_field(model: Any) -> Any:
    """An independent normal for every latent."""
    return AutoNormal(model, init_loc_fn=init_to_sample, init_scale=0.1)


@dataclass(frozen=True)
class Training:
    """How a factorisation is trained.

    Attributes:
        steps: Steps of Adam, its learning rate falling to zero along a cosine.
        batch_size: Cells of a minibatch, and as many without ratings where a model looks at those.
        learning_rate: At the start.
    """

    steps: int = 2000
    batch_size: int = 20_000
    learning_rate: float = 0.05

    def __post_init__(self) -> None:
        check_training(self.steps, self.batch_size, self.learning_rate)

    def run(self, model: Any, guide: Any, observed: Cells, shape: tuple[int, int], session: Session) -> Any:
        """Maximise the bound; returns the point ``guide.median()``."""
        gaps = _Gaps(observed, shape, session.generator)
        with session.running():
            first = gaps.draw(1)
            guide(observed.take(torch.arange(1)), first)

            def loss() -> Tensor:
                batch = observed
                if len(observed) > self.batch_size:
                    at = torch.randint(len(observed), (self.batch_size,), generator=session.generator)
                    batch = observed.take(at)
                return Trace_ELBO().differentiable_loss(model, guide, batch, gaps.draw(len(batch))) / len(observed)

            minimise(loss, guide.parameters(), steps=self.steps, learning_rate=self.learning_rate)
            return {name: value.detach() for name, value in guide.median().items()}


@dataclass
class Factorization:
    """A member of the family as a rating predictor.

    Attributes:
        name: What tables and figures call it.
        make: Makes the model from the observed cells and the shape, in a session of its own.
        num_levels: Ratings are taken for so many ordered levels; 0 takes them for numbers, standardised for training.
        propensities: Of the observed cells; their inverses weigh the cells.
        guide: Makes the guide: :func:`MAP` or :func:`mean_field`.
        training: Steps, minibatches, learning rate.
    """

    name: str
    make: Callable[[Cells, tuple[int, int], Session], Any]
    num_levels: int = 0
    propensities: Propensities | None = None
    guide: Callable[[Any], Any] = MAP
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        check_function("make", self.make)
        whole_number("num_levels", self.num_levels, 0)
        if self.propensities is not None:
            check_function("propensities", self.propensities)
        check_function("guide", self.guide)
        check_is("training", self.training, Training)

    def fit(self, train: pd.DataFrame, shape: tuple[int, int], *, seed: int) -> Factorization:
        """Learn from ratings.

        Raises:
            ValueError: If the ratings are not as :class:`~pyro_mnar.baselines.RatingPredictor` takes them, are of more
                levels than there are, or a propensity is not above 0 and up to 1.
        """
        check_ratings(train, shape)
        session = Session(seed)
        values = train["value"].to_numpy(dtype=np.float64)
        weights = np.ones(len(train))
        if self.propensities is not None:
            given = np.asarray(self.propensities(train, shape))
            if given.shape != weights.shape or not ((given > 0) & (given <= 1)).all():
                raise ValueError(f"propensities: expected {len(train)} numbers above 0 and up to 1")
            weights = 1 / given
            weights /= weights.mean()
        if self.num_levels:
            each = 4 * 4.0 * min(len(train), self.training.batch_size)
            check_room("num_levels", self.num_levels, each, "probabilities of the levels of a minibatch")
            self._shift, self._unit = float(values.min()), 1.0
            if not ((values - self._shift) % 1 == 0).all() or np.ptp(values) >= self.num_levels:
                raise ValueError(
                    f"ratings, column 'value': expected {self.num_levels} levels in steps of 1, got others from"
                    f" {values.min():g} to {values.max():g}"
                )
        else:
            self._shift = float(np.average(values, weights=weights))
            self._unit = float(values.std()) or 1.0
        like = torch.get_default_dtype()
        rows, columns = (torch.tensor(train[name].to_numpy(dtype=np.int64)) for name in ("row", "column"))
        encoded = torch.from_numpy((values - self._shift) / self._unit).to(like)
        observed = Cells(rows, columns, encoded, torch.from_numpy(weights).to(like), len(train))
        self._shape = shape
        self.model = self.make(observed, shape, session)
        self.point = self.training.run(self.model, self.guide(self.model), observed, shape, session)
        return self

    def predict(self, rows: Int[NDArray, " cells"], columns: Int[NDArray, " cells"]) -> Float[NDArray, " cells"]:
        """Expected ratings at the guide's medians, in the units of the training ratings."""
        at = map(torch.from_numpy, asked_cells(rows, columns, getattr(self, "_shape", None)))
        return self._shift + self._unit * self.model.expected(self.point, *at).numpy().astype(np.float64)


def pmf(*, guide: Callable[[Any], Any] = MAP, training: Training | None = None, **options: Any) -> Factorization:
    """Probabilistic matrix factorisation (Mnih & Salakhutdinov 2007); options of the model."""
    return Factorization("PMF", _pmf(options), guide=guide, training=_given(training))


def ipw_pmf(
    propensities: Propensities = logistic_propensities,
    *,
    guide: Callable[[Any], Any] = MAP,
    training: Training | None = None,
    **options: Any,
) -> Factorization:
    """PMF with cells weighted by inverse propensities (Schnabel et al. 2016): known, logistic or naive-Bayes ones."""
    return Factorization("IPW-PMF", _pmf(options), 0, propensities, guide, _given(training))


def deconfounded_pmf(
    *, guide: Callable[[Any], Any] = MAP, training: Training | None = None, exposure_dim: int = 5, **options: Any
) -> Factorization:
    """PMF with a substitute confounder from a Poisson factorisation of exposure (Wang et al. 2018)."""
    training = _given(training)
    check_is("training", training, Training)
    whole_number("exposure_dim", exposure_dim)

    def make(observed: Cells, shape: tuple[int, int], session: Session) -> DeconfoundedPMF:
        exposure = ExposurePF(shape, latent_dim=exposure_dim)
        point = training.run(exposure, MAP(exposure), observed, shape, session)
        return DeconfoundedPMF(point["row_exposure"], point["column_exposure"], **options)

    return Factorization("Deconfounded-PMF", make, guide=guide, training=training)


def pmf_mar(
    num_levels: int, *, guide: Callable[[Any], Any] = MAP, training: Training | None = None, **options: Any
) -> Factorization:
    """Ordinal matrix factorisation of the observed ratings (Hernández-Lobato et al. 2014)."""
    whole_number("num_levels", num_levels, 2)
    return Factorization(
        "PMF-MAR", lambda cells, shape, _: OrdinalPMF(shape, num_levels, **options), num_levels, None, guide,
        _given(training),
    )  # fmt: skip


def pmf_mnar(
    num_levels: int, *, guide: Callable[[Any], Any] = MAP, training: Training | None = None, **options: Any
) -> Factorization:
    """The same with a model of which cells are rated that sees the ratings (Hernández-Lobato et al. 2014)."""
    whole_number("num_levels", num_levels, 2)
    return Factorization(
        "PMF-MNAR", lambda cells, shape, _: NonRandomPMF(shape, num_levels, **options), num_levels, None, guide,
        _given(training),
    )  # fmt: skip


def _given(training: Training | None) -> Training:
    return Training() if training is None else training


def _pmf(options: dict[str, Any]) -> Callable[[Cells, tuple[int, int], Session], PMF]:
    return lambda observed, shape, session: PMF(shape, **options)


class _Gaps:
    """Cells without ratings, drawn uniformly."""

    def __init__(self, observed: Cells, shape: tuple[int, int], generator: torch.Generator) -> None:
        self.columns, self.cells, self.generator = shape[1], shape[0] * shape[1], generator
        self.taken: Tensor = (observed.rows * self.columns + observed.columns).sort().values
        self.like = observed.values

    def draw(self, count: int) -> Cells | None:
        """At least one cell and at most so many; None if every cell is rated."""
        if len(self.taken) == self.cells:
            return None
        free = self._free(count)
        while not len(free):  # of a table that is nearly full, a few candidates may all be rated
            free = self._free(count)
        ones = self.like.new_ones(len(free))
        return Cells(free // self.columns, free % self.columns, 0 * ones, ones, self.cells - len(self.taken))

    def _free(self, count: int) -> Tensor:
        drawn = torch.randint(self.cells, (2 * count,), generator=self.generator)
        at = torch.searchsorted(self.taken, drawn).clamp_max(len(self.taken) - 1)
        return drawn[self.taken[at] != drawn][:count]
