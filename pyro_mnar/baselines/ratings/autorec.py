"""AutoRec (Sedhain et al. 2015): an autoencoder of columns of ratings that ignores why ratings are missing (Table 1).

h(r_j) = W·sigmoid(V r_j + μ) + b,   minimising Σ_rated (x - h(r))² + λ/2 (‖W‖² + ‖V‖²)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import nn

from pyro_mnar.baselines.protocol import asked_cells, check_ratings
from pyro_mnar.baselines.ratings.optimisation import check_training, minimise
from pyro_mnar.infer.session import Session
from pyro_mnar.memory import check_room
from pyro_mnar.messages import number_from_zero, whole_number


@dataclass
class AutoRec:
    """I-AutoRec: the network completes a column from the ratings that it has, with zeros in its gaps.

    Ratings are centred at their mean, so that a gap is no low rating.

    Attributes:
        name: What tables and figures call it.
        hidden: Width of the hidden layer.
        penalty: λ, on sums over all ratings.
        steps: Steps of Adam on minibatches of columns, its learning rate falling to zero along a cosine.
        batch_size: Columns of a minibatch.
        learning_rate: At the start.
    """

    name: str = "AutoRec"
    hidden: int = 100
    penalty: float = 1.0
    steps: int = 1000
    batch_size: int = 256
    learning_rate: float = 5e-3

    def __post_init__(self) -> None:
        whole_number("hidden", self.hidden)
        number_from_zero("penalty", self.penalty)
        check_training(self.steps, self.batch_size, self.learning_rate)

    def fit(self, train: pd.DataFrame, shape: tuple[int, int], *, seed: int) -> AutoRec:
        """Learn from ratings.

        Raises:
            ValueError: If the ratings are not as :class:`~pyro_mnar.baselines.RatingPredictor` takes them.
        """
        check_ratings(train, shape)
        check_room("shape", shape[0] * shape[1], 3 * 4.0, "all cells, rated or not")
        check_room("hidden", self.hidden, 4 * 4.0 * 2 * shape[0], "weights of the network and what Adam keeps of them")
        values = train["value"].to_numpy(dtype=np.float64)
        self._mean = float(values.mean())
        x = torch.zeros(shape[1], shape[0])
        seen = torch.zeros(shape[1], shape[0])
        at = torch.tensor(train["column"].to_numpy(dtype=np.int64)), torch.tensor(train["row"].to_numpy(dtype=np.int64))
        x[at], seen[at] = torch.tensor(values - self._mean).to(x.dtype), 1.0
        session = Session(seed)
        with session.running():
            network = nn.Sequential(
                nn.Linear(shape[0], self.hidden), nn.Sigmoid(), nn.Linear(self.hidden, shape[0])
            )  # fmt: skip
            self._train(network, x, seen, session.generator)
            with torch.no_grad():
                completed = network(x)
        self._completed = completed.numpy().astype(np.float64)
        low, high = float(values.min()) - self._mean, float(values.max()) - self._mean
        self._shape = shape
        self._completed = np.clip(self._completed, low, high) + self._mean
        return self

    def predict(self, rows: Int[NDArray, " cells"], columns: Int[NDArray, " cells"]) -> Float[NDArray, " cells"]:
        """The network's completion, within the range of the training ratings."""
        rows, columns = asked_cells(rows, columns, getattr(self, "_shape", None))
        return self._completed[columns, rows]

    def _train(
        self,
        network: nn.Module,
        x: Float[torch.Tensor, "columns rows"],
        seen: Float[torch.Tensor, "columns rows"],
        generator: torch.Generator,
    ) -> None:
        parameters = list(network.parameters())
        weights = [parameter for parameter in parameters if parameter.ndim == 2]

        def loss() -> torch.Tensor:
            batch = torch.randperm(len(x), generator=generator)[: self.batch_size]
            squares = (seen[batch] * (network(x[batch]) - x[batch]) ** 2).sum() * len(x) / len(batch)
            penalised = squares + 0.5 * self.penalty * torch.stack([(weight**2).sum() for weight in weights]).sum()
            return penalised / seen.sum()

        minimise(loss, parameters, steps=self.steps, learning_rate=self.learning_rate)
