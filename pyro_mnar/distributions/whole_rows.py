"""Rows whose entries depend on each other: p(x_o) by its exact marginal, then p(x_u | x_o) by its exact conditional.

The importance weight of a row then holds its missing values only through what else of the model sees them, such as the
mechanism.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.infer.util import is_validation_enabled
from torch import Tensor
from torch.distributions import constraints

from pyro_mnar.distributions.missing_entries import combinations, has_few_values, placeholder
from pyro_mnar.distributions.row_laws import GivenSeen, RowLaw, row_law
from pyro_mnar.distributions.shapes import broadcast
from pyro_mnar.tables.batch import Batch, listed

Row = Float[Tensor, "... columns"]


def is_of_rows(fn: Any) -> bool:
    """Whether a distribution's event is a row, and its marginals are known."""
    return row_law(fn) is not None


def check_rows(site: str, fn: TorchDistributionMixin, batch: Batch, columns: tuple[int, ...]) -> None:
    """Refuse a distribution of rows that does not fit.

    Args:
        site: Of the variable, such as ``"x"``.
        fn: Its distribution.
        batch: The rows.
        columns: Positions of its columns.

    Raises:
        ValueError: If its event is of another size than the columns, or its batch than the rows; names the site.
    """
    if fn.event_shape != (len(columns),) or fn.batch_shape[-1:] not in ((), (1,), (len(batch),)):
        raise ValueError(
            f"site {site!r}: expected rows of event shape ({len(columns)},), the columns"
            f" {listed([batch.names[at] for at in columns])}, and a batch shape (..., {len(batch)}), one a row of the"
            f" batch, or none, got {type(fn).__name__} of batch shape {tuple(fn.batch_shape)} and event shape"
            f" {tuple(fn.event_shape)}; columns=[...] names the columns of a call"
        )


class WholeRow:
    """A joint law of some columns, with the observed entries of each row.

    Args:
        fn: A distribution whose event is the row, as :func:`~pyro_mnar.distributions.row_laws.row_law` knows it.
        mask: True where observed; ``(rows, columns)``.
        site: Of the variable, for messages.

    Attributes:
        law: Its law.
        given: The law, given which entries are observed.
        shape: The batch shape of both sites.
    """

    def __init__(self, fn: TorchDistributionMixin, mask: Bool[Tensor, "rows columns"], site: str = "x") -> None:
        law = row_law(fn)
        if law is None:
            raise ValueError(f"expected a distribution of whole rows whose marginals are known, got {fn}")
        self.fn, self.mask, self.site = fn, mask, site
        self.law: RowLaw = law
        self.given: GivenSeen = law.given(mask)
        self.shape = broadcast(fn.batch_shape, mask.shape[:-1])

    @classmethod
    def of(cls, site: str, fn: TorchDistributionMixin, batch: Batch, columns: tuple[int, ...]) -> WholeRow:
        """Of some columns of a batch.

        Raises:
            ValueError: If gaps have bounds, or a covariance is singular (checked while Pyro's validation is enabled);
                names the site, and the column.
        """
        at = slice(None) if columns == tuple(range(batch.num_columns)) else list(columns)
        for ends in batch.bounds or ():
            is_known = ends[:, at].isfinite().any(0)
            if not is_known.is_meta and is_known.any():
                name = batch.names[columns[int(is_known.nonzero()[0])]]
                raise ValueError(
                    f"site {site!r}, column {name!r}: has gaps with bounds, which a distribution of whole rows"
                    f" ({type(fn).__name__}) cannot be held between: give the column a call of its own,"
                    f" partially_observed(..., columns=[{name!r}]), or the table no bounds for it"
                )
        mask = batch.mask if at == slice(None) else batch.mask[:, at]
        whole = cls(fn, mask, site)
        if is_validation_enabled() and not mask.is_meta and whole.given.is_singular():
            names = listed([batch.names[at] for at in columns])
            raise ValueError(
                f"site {site!r}: the covariance of the columns {names} is singular in {batch.dtype}, so that one of"
                " them follows from the others: leave out a column that the others determine, or add a little to the"
                " diagonal, such as 1e-3 * torch.eye(columns)"
            )
        return whole

    @property
    def support(self) -> Any:
        """Of a row."""
        return constraints.independent(self.law.support, 1)


class ObservedRow(TorchDistribution):
    """p(x_o); a draw is a whole row.

    Args:
        whole: The law and the mask.
        beside: Columns that are taken as given, which are left out: p(x_o) / p(x_o in these); none if None.
        shape: A larger batch shape.
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(
        self, whole: WholeRow, beside: Bool[Tensor, " columns"] | None = None, shape: torch.Size | None = None
    ) -> None:
        self.whole, self.beside, self.fn = whole, beside, whole.fn
        super().__init__(whole.shape if shape is None else shape, whole.fn.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """The support of the row."""
        return self.whole.support

    def scored_in(self, kept: Bool[Tensor, " columns"]) -> ObservedRow:
        """Log p(x_o in the columns that are kept | x_o in the others)."""
        return ObservedRow(self.whole, ~kept, self.batch_shape)

    def expand(self, batch_shape: Any, _instance: Any = None) -> ObservedRow:
        """Expand to a larger batch shape."""
        return ObservedRow(self.whole, self.beside, torch.Size(batch_shape))

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw a whole row without gradient."""
        with torch.no_grad():
            return self.fn.expand(torch.Size(sample_shape) + self.batch_shape).sample()

    def log_prob(self, value: Row) -> Float[Tensor, "... rows"]:
        """Per row."""
        log_prob = self.whole.given.log_prob(value)
        if self.beside is not None:
            log_prob = log_prob - self.whole.law.given(self.whole.mask & self.beside).log_prob(value)
        return log_prob.expand(broadcast(log_prob.shape, self.batch_shape))


class MissingRow(TorchDistribution):
    """p(x_u | x_o) at missing entries, the placeholder of
    :class:`~pyro_mnar.distributions.MissingEntries` at observed ones.

    Args:
        whole: The law and the mask.
        observed: x_o; what stands at missing entries is not read; ``(..., rows, columns)``.
        shape: A larger batch shape.
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(self, whole: WholeRow, observed: Row, shape: torch.Size | None = None) -> None:
        self.whole, self.observed, self.fn, self.mask_observed = whole, observed, whole.fn, whole.mask
        own = broadcast(whole.shape, observed.shape[:-1])
        super().__init__(own if shape is None else shape, whole.fn.event_shape, validate_args=False)

    @property
    def has_rsample(self) -> bool:
        """Whether the missing entries can be reparameterised."""
        return self.whole.law.has_rsample

    @property
    def support(self) -> Any:
        """The support of the row."""
        return self.whole.support

    @property
    def is_discrete(self) -> bool:
        """Whether entries are levels or counts."""
        return self.whole.law.support.is_discrete

    @property
    def mean(self) -> Row:
        """E[x_u | x_o] at missing entries."""
        return self.whole.given.mean(self.observed).expand(self.shape())

    @property
    def can_be_enumerated(self) -> bool:
        """Whether the values that entries can take are finitely many."""
        return self.is_discrete and has_few_values(self.whole.law.of_entries)

    def combinations(self) -> Float[Tensor, "combinations columns"]:
        """As of :class:`~pyro_mnar.distributions.MissingEntries`."""
        return combinations(self.whole.law.of_entries, self.mask_observed)

    def expand(self, batch_shape: Any, _instance: Any = None) -> MissingRow:
        """Expand to a larger batch shape."""
        return MissingRow(self.whole, self.observed, torch.Size(batch_shape))

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw without gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw, with gradients at missing entries where the law has them."""
        drawn = self.whole.given.draw(self.observed, torch.Size(sample_shape) + self.batch_shape)
        drawn = drawn if self.has_rsample else drawn.detach()
        if self.is_discrete:
            return drawn
        return torch.where(self.mask_observed, placeholder(self.whole.law.support, drawn).sample(), drawn)

    def log_prob(self, value: Row) -> Float[Tensor, "... rows"]:
        """Per row: log p(x_u | x_o), and the placeholders' density."""
        whole_row = torch.where(self.mask_observed, self.observed, value)
        log_prob = self.fn.log_prob(whole_row) - self.whole.given.log_prob(self.observed)
        if self.is_discrete:
            return log_prob
        of_placeholders = placeholder(self.whole.law.support, value).log_prob(value)
        return log_prob + torch.where(self.mask_observed, of_placeholders, 0.0).sum(-1)

    def density_at(self, value: Row, cells: Bool[Tensor, "rows columns"]) -> Float[Tensor, "... rows"]:
        """Log-density of some missing entries, given the observed and the other missing ones."""
        whole_row = torch.where(self.mask_observed, self.observed, value)
        return self.fn.log_prob(whole_row) - self.whole.law.given(~cells).log_prob(whole_row)
