"""Posterior-predictive imputations of a table's gaps, by the particles of :mod:`pyro_mnar.imputation.sampler`.

Two targets.
Given the mask, p(X_u | X_o, R): the imputation knows that a value was withheld; completed tables, pooling and
intervals need this one. Without, p(X_u | X_o), the paper's formula in section 4: what would be seen had we chosen
what to ask.  A table completed that way stays biased even at the true parameters.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray

from pyro_mnar.capture.tracing import MODES
from pyro_mnar.imputation.chunks import imputed
from pyro_mnar.imputation.row_conditions import Conditions, Declared
from pyro_mnar.imputation.sampler import Sampler
from pyro_mnar.imputation.single_cells import CellImputations, impute_cells
from pyro_mnar.infer.session import Session
from pyro_mnar.tables.completion import completed
from pyro_mnar.tables.positions import CellPositions
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Imputations:
    """Draws and means of the missing entries, in the user's units; observed entries are not stored twice.

    Attributes:
        table: The table that was imputed.
        cells: Row and column position of each imputed cell, row by row; ``(2, cells)``.
        draws: One completed table a draw; ``(draws, cells)``.
        means: Σ_k w_k x_u^k over all particles of all draws; of words, the position of the most probable;
            ``(cells,)``.
        shares: Of each column of levels, by position, the posterior probability of every level; ``(cells of the
            column, levels)``.
        effective_sample_size: 1 / Σ w_k² per row over all particles; a few mean that the row's draws repeat values;
            ``(rows,)``, infinite for rows with nothing to impute.
    """

    table: Table
    cells: Int[NDArray, "2 cells"]
    draws: Float[NDArray, "draws cells"]
    means: Float[NDArray, " cells"]
    effective_sample_size: Float[NDArray, " rows"]
    shares: dict[int, Float[NDArray, "_ _"]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Imputations({self.num_draws} draws of {self.cells.shape[1]} cells in {len(self.table)} rows)"

    @property
    def num_draws(self) -> int:
        """Number of completed tables."""
        return len(self.draws)

    def mean(self) -> pd.DataFrame:
        """The frame with posterior means in its gaps; integer columns that receive a mean become floating.

        Words have no mean: a gap gets the most probable one, and :meth:`probabilities` says how probable.
        """
        return self._completed(self.means, keep_integers=False)

    def frames(self) -> Iterator[pd.DataFrame]:
        """The completed frames, one a draw, in the frame's own dtypes (whole numbers in integer columns)."""
        for draw in self.draws:
            yield self._completed(draw, keep_integers=True)

    def probabilities(self, column: Hashable) -> pd.DataFrame:
        """Posterior probability of every level in each imputed cell of a column; ``(cells of the column, levels)``.

        Raises:
            ValueError: If the column has no levels or is not there.
        """
        names = self.table.schema.names
        position = names.index(column) if column in names else -1
        if position not in self.shares:
            known = [names[at] for at in self.shares]
            raise ValueError(f"column {column!r}: expected one whose values are levels, of {known!r}")
        rows = self.cells[0][self.cells[1] == position]
        levels = pd.Index(self.table.schema.columns[position].kind.levels, tupleize_cols=False)
        return pd.DataFrame(self.shares[position], index=self.table.row_labels[rows], columns=levels)

    def to_inference_data(self) -> Any:
        """An ArviZ object of draws, observed data and auxiliary constants, with named dimensions.

        The draws are independent, one chain: ``arviz.summary(..., kind="stats")`` leaves out what only chains have.
        """
        from pyro_mnar.imputation.inference_data import imputations_to_inference_data

        return imputations_to_inference_data(self)

    def _completed(self, values: Float[NDArray, " cells"], *, keep_integers: bool) -> pd.DataFrame:
        return completed(self.table.frame, self.table.schema, self.cells, values, keep_integers=keep_integers)


@overload
def impute(
    fit: Fit,
    table: Table | pd.DataFrame,
    *,
    cells: None = None,
    constraints: Sequence[Declared] = (),
    num_draws: int = 20,
    num_particles: int = 100,
    use_mechanism: bool = True,
    keep_mechanism_weight: bool = False,
    seed: int = 0,
    device: torch.device | str | None = None,
    compile: str = "auto",
) -> Imputations: ...


@overload
def impute(
    fit: Fit,
    table: Table | pd.DataFrame,
    *,
    cells: CellPositions,
    constraints: Sequence[Declared] = (),
    num_draws: int = 20,
    num_particles: int = 100,
    use_mechanism: bool = True,
    keep_mechanism_weight: bool = False,
    seed: int = 0,
    device: torch.device | str | None = None,
    compile: str = "auto",
) -> CellImputations: ...


def impute(
    fit: Fit,
    table: Table | pd.DataFrame,
    *,
    cells: CellPositions | None = None,
    constraints: Sequence[Declared] = (),
    num_draws: int = 20,
    num_particles: int = 100,
    use_mechanism: bool = True,
    keep_mechanism_weight: bool = False,
    seed: int = 0,
    device: torch.device | str | None = None,
    compile: str = "auto",  # noqa: A002  (as for fit)
) -> Imputations | CellImputations:
    """Impute by sampling-importance-resampling; every draw of a row comes from a particle set of its own.

    Args:
        fit: A trained model and guide.
        table: The training table, or new rows (a frame is encoded with the training rows' units, columns matched by
            name).
        cells: The gaps to impute, instead of all: a long frame with the labels of rows and columns, called as in
            ``Table.from_long`` or else ``"row"`` and ``"column"``; or positions of rows and positions of columns; or a
            scipy sparse matrix, whose entries are meant.
        constraints: What every completed row satisfies, beside what the table declares: constraints of
            :mod:`pyro_mnar.tables.constraints`, or functions of a frame of candidate rows to a boolean for each.
        num_draws: Completed tables to draw.
        num_particles: K, particles for each draw of each row; means use all ``num_draws * num_particles``.
        use_mechanism: Draw from p(X_u | X_o, R), or else from p(X_u | X_o); see the module's text for when each is
            right.
        keep_mechanism_weight: Weigh the mask by the model's β (``mechanism_weight``) as in training. By default draws
            use β = 1, whatever the training used.
        seed: Same seed, same draws; the caller's generators stay as they are.
        device: Where to compute; by default where the parameters are.
        compile: How particles are drawn and weighed: ``"eager"``, by Python; ``"graph"``, captured once as a list of
            tensor operations; ``"inductor"``, captured and compiled; ``"auto"``, what pays for the number of particles
            ahead.  Python takes over where nothing can be captured (as with ``cells``, row constraints or bounds of
            counts); the log (``logging``, logger ``pyro_mnar``) says why.  Python draws other random numbers than the
            graph does, interpreted or compiled.

    Returns:
        The imputations, only of cells that are missing and applicable; of ``cells``, in the order given.

    Raises:
        ValueError: If a number is out of range, the table has other columns, a cell of ``cells`` is no gap of it, the
            model has no site made by ``partially_observed`` (or by ``observe_mask``, where it is to be left out), or
            constraints cannot be satisfied, which names the rows.
        TypeError: If ``table`` is neither a Table nor a DataFrame.
    """
    for name, value in (("num_draws", num_draws), ("num_particles", num_particles)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    if compile not in MODES:
        raise ValueError(f"compile: expected one of {list(MODES)}, got {compile!r}")
    table = fit.encoded(table)
    device = torch.device(device) if device is not None else fit.device
    session = Session(seed, device, fit.store)
    sampler = Sampler(fit, num_draws, num_particles, use_mechanism, session, keep_weight=keep_mechanism_weight)
    sampler.conditions = Conditions.of(table, constraints)
    if cells is not None and sampler.conditions is not None:
        raise ValueError("cells: expected a table without row constraints, which are about completed rows")
    if cells is None:
        return _impute_gaps(table, sampler, device, compile)
    if compile not in ("auto", "eager"):
        log.warning("imputation: eager (not captured: rows have different numbers of the cells that were asked for)")
    return impute_cells(table, cells, sampler, device)


def _impute_gaps(table: Table, sampler: Sampler, device: torch.device, mode: str) -> Imputations:
    num_draws = sampler.num_draws
    wanted = (~table.mask & table.applicable).numpy()
    with_gaps = np.flatnonzero(wanted.any(1))
    cells = np.stack(np.nonzero(wanted))
    draws, means = np.empty((num_draws, cells.shape[1])), np.empty(cells.shape[1])
    effective = np.full(len(table), np.inf)

    averages = sampler.averages
    shares = {at: np.empty((int((cells[1] == at).sum()), width)) for at, width in averages.widths.items()}
    done, shared = 0, dict.fromkeys(shares, 0)
    with closing(imputed(sampler, table.batch(), with_gaps, device, mode)) as parts:
        for rows, chunk in parts:
            here = wanted[rows]
            stop = done + int(here.sum())
            draws[:, done:stop] = chunk.draws.cpu().numpy()[:, here]
            found, levels = averages.decode(chunk.mean.cpu().double().numpy())
            means[done:stop] = found[here]
            for at, share in shares.items():
                first, shared[at] = shared[at], shared[at] + int(here[:, at].sum())
                share[first : shared[at]] = levels[at][here[:, at]]
            effective[rows] = chunk.effective_sample_size.cpu().numpy()
            done = stop

    for position, column in enumerate(table.schema.columns):
        here = cells[1] == position
        draws[:, here] = column.decode(draws[:, here])
    if table.bounds is not None:
        table.bounds.hold(draws, cells)
        table.bounds.hold(means, cells)
    if sampler.conditions is not None:
        sampler.conditions.settle(draws, cells)
    return Imputations(table, cells, draws, means, effective, shares)
