"""Mixtures of multinomials as rating predictors: CPT-v and Logit-vd (Marlin & Zemel 2009; Table 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from pyro.infer import TraceEnum_ELBO
from pyro.infer.autoguide import AutoDelta, init_to_sample
from pyro.poutine import block

from pyro_mnar.baselines.protocol import asked_cells, check_ratings
from pyro_mnar.baselines.ratings.optimisation import check_training, minimise
from pyro_mnar.infer.session import Session
from pyro_mnar.memory import check_room
from pyro_mnar.messages import check_boolean, shown, whole_number
from pyro_mnar.models.rating_mixture import CPTv, LogitVD, RatedRows


@dataclass
class RatingMixture:
    """A mixture of multinomials, trained to its maximum a posteriori with the class summed out.

    Attributes:
        name: What tables and figures call it.
        model_class: :class:`~pyro_mnar.models.rating_mixture.CPTv` or ``LogitVD``.
        num_classes: Number of classes.
        steps: Steps of Adam, its learning rate falling to zero along a cosine.
        batch_size: Rows of a minibatch.
        learning_rate: At the start.
        use_mechanism: Predict the rating of a cell known to have been left out, p(x | z, r = 0), rather than the answer
            had we asked, p(x | z).
    """

    name: str
    model_class: type[CPTv]
    num_classes: int = 5
    steps: int = 500
    batch_size: int = 512
    learning_rate: float = 0.05
    use_mechanism: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.model_class, type) and issubclass(self.model_class, CPTv)):
            raise TypeError(f"model_class: expected CPTv or LogitVD, got {shown(self.model_class)}")
        whole_number("num_classes", self.num_classes)
        check_training(self.steps, self.batch_size, self.learning_rate)
        check_boolean("use_mechanism", self.use_mechanism)

    def fit(self, train: pd.DataFrame, shape: tuple[int, int], *, seed: int) -> RatingMixture:
        """Learn from ratings; the distinct values are the levels.

        Raises:
            ValueError: If the ratings are not as :class:`~pyro_mnar.baselines.RatingPredictor` takes them.
        """
        check_ratings(train, shape)
        levels, codes = np.unique(train["value"].to_numpy(dtype=np.float64), return_inverse=True)
        check_room("shape", shape[0] * shape[1], 8.0, "all cells, rated or not")
        each = 4 * 4.0 * shape[1] * len(levels)
        check_room("num_classes", self.num_classes, each, "probabilities of the levels and what Adam keeps of them")
        outcomes = np.full(shape, len(levels))
        outcomes[train["row"], train["column"]] = codes
        data, session = RatedRows(torch.from_numpy(outcomes), shape[0]), Session(seed)
        self.model = self.model_class(shape[1], len(levels), num_classes=self.num_classes)
        guide = AutoDelta(block(self.model, hide=["class"]), init_loc_fn=init_to_sample)
        with session.running():
            self._train(guide, data, session.generator)
            point = {name: value.detach() for name, value in guide.median().items()}
        self._classes = self.model.class_probs(point, data.outcomes).numpy()
        probability = point["levels"]
        if self.use_mechanism:
            probability = probability * torch.sigmoid(-self.model.log_odds(point))
            probability = probability / probability.sum(-1, keepdim=True)
        self._means = probability.numpy() @ levels
        self._shape = shape
        self.rated = torch.sigmoid(self.model.log_odds(point)).numpy()
        return self

    def predict(self, rows: Int[NDArray, " cells"], columns: Int[NDArray, " cells"]) -> Float[NDArray, " cells"]:
        """Expected ratings given the row's ratings and gaps."""
        rows, columns = asked_cells(rows, columns, getattr(self, "_shape", None))
        return (self._classes[rows] * self._means[:, columns].T).sum(-1).astype(np.float64)

    def _train(self, guide: Any, data: RatedRows, generator: torch.Generator) -> None:
        guide(data)

        def loss() -> torch.Tensor:
            batch = data
            if len(data) > self.batch_size:
                batch = data.take(torch.randint(len(data), (self.batch_size,), generator=generator))
            return TraceEnum_ELBO(max_plate_nesting=2).differentiable_loss(self.model, guide, batch) / len(data)

        minimise(loss, guide.parameters(), steps=self.steps, learning_rate=self.learning_rate)


def cpt_v(**options: Any) -> RatingMixture:
    """CPT-v: whether a rating is given depends on its level."""
    return RatingMixture("CPT-v", CPTv, **options)


def logit_vd(**options: Any) -> RatingMixture:
    """Logit-vd: on its level and its column."""
    return RatingMixture("Logit-vd", LogitVD, **options)
