"""Mixtures of normals whose values mask themselves.

    C → X_d → R_d        p(C) · p(X|C) · Π_d p(R_d|X_d)        p(X|C) = N(μ_C, Σ_C)

For columns that depend on each other in clusters or along bends, and go missing by their own size.  The class is summed
out and X_o scored by its exact marginal; missing values are drawn one after the other, each given that it went missing,
so that sharp mechanisms of many columns can be weighed (:mod:`pyro_mnar.distributions.self_masked_rows`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.nn import PyroModule, PyroParam
from torch import Tensor, nn

from pyro_mnar.distributions import OwnValueMechanism
from pyro_mnar.infer.construction import remembered
from pyro_mnar.infer.session import seeded
from pyro_mnar.mechanisms import SelfMasking
from pyro_mnar.memory import check_room
from pyro_mnar.messages import whole_number
from pyro_mnar.primitives import observe_mask, partially_observed, rows
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table, schema_of


@remembered
class NormalMixture(PyroModule):
    """A mixture of normals with a probit self-masking mechanism, P(R_d = 1) = Φ(a_d + b_d x_d).

    A covariance of few rows is held up by a penalty, as so many rows of covariance :attr:`within` as it needs to have
    an inverse; of a single class, by half a row.  Take :class:`~pyro_mnar.guides.FromModel` as the guide: no latent is
    left.  :func:`pyro_mnar.baselines.start_normal_mixture` sets its parameters from a table by stochastic EM.

    Args:
        table: The table (or its schema) that the model is for; columns hold numbers.
        num_classes: C.
        sign: What is known of the slopes: -1 if high values go missing, +1 if low ones do, 0 if unknown; one number, or
            one per column.
        seed: Of the initial parameters; None draws them from torch's global generator.

    Attributes:
        within: The covariance of the penalty, standardised; the identity, or what the start found.

    Raises:
        ValueError: If there is no class, or the table has U that is none of its columns, which the model does not see.
    """

    within: Float[Tensor, "columns columns"]

    def __init__(
        self,
        table: Table | Schema,
        *,
        num_classes: int = 3,
        sign: int | Sequence[int] = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        num_classes = whole_number("num_classes", num_classes)
        self.schema = schema = schema_of(table)
        size = (schema.num_columns + 1) ** 2 * torch.get_default_dtype().itemsize
        check_room("num_classes", num_classes, size, "covariances of classes")
        _refuse_u(schema)
        self.num_classes, self.latent_dim = num_classes, 0
        columns = schema.num_columns
        with seeded(seed):
            self.loc = nn.Parameter(torch.randn(num_classes, columns) if num_classes > 1 else torch.zeros(1, columns))
        self.logits = nn.Parameter(torch.zeros(num_classes))
        root = torch.eye(columns).repeat(num_classes, 1, 1)
        self.root = PyroParam(root, constraint=dist.constraints.lower_cholesky)
        self.mechanism = SelfMasking(columns, sign=sign)
        self.register_buffer("within", torch.eye(columns))

    def reset_parameters(self) -> None:
        """Draw centres of classes anew, for restarts."""
        with torch.no_grad():
            nn.init.normal_(self.loc)
            nn.init.zeros_(self.logits)
            self.root = torch.linalg.cholesky(self.within).repeat(self.num_classes, 1, 1)

    def forward(self, batch: Batch) -> Tensor:
        """Run the model on a batch; returns the completed rows, standardised, ``(..., rows, columns)``."""
        root: Any = self.root  # a PyroParam when it is set, a tensor when it is read
        pyro.factor("covariances", self._penalty(root))
        classes = dist.MultivariateNormal(self.loc, scale_tril=root)
        law = dist.MixtureSameFamily(dist.Categorical(logits=self.logits), classes)
        own = OwnValueMechanism(self._predictor, slope=self.mechanism.slope, link="probit")
        with rows(batch):
            x = partially_observed("x", law, batch, mechanism=own)
            observe_mask("r", self._predictor(x), batch, link="probit")
        return x

    def _predictor(self, x: Tensor) -> Tensor:
        """What Φ turns into the probability of being observed."""
        return self.mechanism(x, x[..., :0])

    def _penalty(self, root: Float[Tensor, "classes columns columns"]) -> Float[Tensor, ""]:
        """Log-likelihood of the rows that hold covariances up, without its constant."""
        inverse = torch.linalg.solve_triangular(root, torch.linalg.cholesky(self.within).expand_as(root), upper=False)
        half_log_det = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        count = root.shape[-1] + 2 if self.num_classes > 1 else 0.5
        return -count * (half_log_det + 0.5 * inverse.square().sum((-2, -1))).sum()


def _refuse_u(schema: Schema) -> None:
    if schema.auxiliary_source == "mask":
        raise ValueError("auxiliary: expected no U, which NormalMixture does not see, got 'mask': use auxiliary=[]")
    names = set(schema.names)
    for auxiliary in schema.auxiliaries:
        if auxiliary.name not in names:
            raise ValueError(
                f"auxiliary {auxiliary.name!r}: expected a column of X, since NormalMixture sees no other: leave"
                " auxiliary= out, and complete columns are both"
            )
