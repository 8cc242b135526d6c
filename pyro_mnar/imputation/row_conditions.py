"""Drawing from p(X_u | X_o, R, constraints): what row constraints do to weighed particles.

An order or any other condition of positive probability: particles that break it get weight zero, which is conditioning
on the event.  A sum has probability zero, so one missing part of it is not drawn but follows from the others; the
particle is weighed with the density of that value given z, in the user's units,

    w' = w(x with the value put in) · p(x_det | z)

which is importance sampling of the law on the plane Σ parts = total (the map from the other parts to this one has
Jacobian 1).  The fit itself does not know the constraints: they condition its imputations, not its likelihood.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pandas as pd
import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pyro_mnar.infer.objective import ImportanceWeightedELBO, Particles
from pyro_mnar.infer.sites import columns_of, is_whole_row, missing_sites, sample_sites
from pyro_mnar.kinds.kind import is_near_whole
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.completion import as_held, completed
from pyro_mnar.tables.constraints import InOrder, RowConstraint, SumsTo, described
from pyro_mnar.tables.row_checks import check_rows, labelled, numbers_in
from pyro_mnar.tables.table import Table

Declared = RowConstraint | Callable[[pd.DataFrame], Any]


class _Sum(NamedTuple):
    """A sum, and the column of each row that follows from the others.

    Attributes:
        constraint: The sum.
        determined: Position of the column; -1 for rows in which nothing is to be determined; ``(rows,)``.
    """

    constraint: SumsTo
    determined: Int[NDArray, " rows"]


class Conditions:
    """Constraints on the completed rows of one table.

    Args:
        table: The table that is imputed.
        constraints: Constraints by name of columns.
        functions: Functions of a frame of candidate rows to a boolean for each.

    Raises:
        ValueError: If observed values break a constraint, or the only value that a missing part can have is not one of
            its column; names the rows.
    """

    def __init__(
        self,
        table: Table,
        constraints: Sequence[RowConstraint],
        functions: Sequence[Callable[[pd.DataFrame], Any]] = (),
    ) -> None:
        self.table, self.constraints, self.functions = table, constraints, functions
        schema = table.schema
        self.wanted = (~table.mask & table.applicable).numpy()
        observed = table.mask.numpy()
        columns = [c.read(table.frame[c.name].where(observed[:, at])) for at, c in enumerate(schema.columns)]
        numbers = np.stack(columns, axis=1)
        check_rows(constraints, table.frame, numbers, schema)
        named = {name: constraint for constraint in constraints for name in constraint.columns}
        self.known = {
            name: numbers_in(name, constraint, table.frame, numbers, schema) for name, constraint in named.items()
        }
        self.positions = [at for at, name in enumerate(schema.names) if functions or name in named]
        self.known |= {schema.names[at]: numbers[:, at] for at in self.positions}
        self.sums = self._determine([c for c in constraints if isinstance(c, SumsTo)])
        self._check_functions()
        self._check_single_parts()

    @classmethod
    def of(cls, table: Table, constraints: Sequence[Declared]) -> Conditions | None:
        """What a table declares and what is given beside it; None if that is nothing."""
        if isinstance(constraints, (str, InOrder, SumsTo)) or not isinstance(constraints, Iterable):
            raise TypeError(f"constraints: expected a list, such as [InOrder('start', 'end')], got {constraints!r}")
        for constraint in constraints:
            if not (isinstance(constraint, (InOrder, SumsTo)) or callable(constraint)):
                raise TypeError(f"constraints: expected InOrder, SumsTo or functions of a frame, got {constraint!r}")
        by_name = [c for c in (*table.schema.constraints, *constraints) if isinstance(c, (InOrder, SumsTo))]
        functions = [c for c in constraints if not isinstance(c, (InOrder, SumsTo))]
        return cls(table, by_name, functions) if by_name or functions else None

    def impose(
        self,
        objective: ImportanceWeightedELBO,
        run: Particles,
        model: Callable,
        batch: Batch,
        x: Float[Tensor, "particles rows columns"],
    ) -> tuple[Float[Tensor, "particles rows"], Float[Tensor, "particles rows columns"]]:
        """Weights and missing entries of particles that satisfy the constraints, weight zero for the others.

        Args:
            objective: What weighed them.
            run: The particles.
            model: The model.
            batch: Their rows.
            x: Their missing entries.
        """
        rows = batch.index.cpu().numpy()
        values = {}
        for at in self.positions:
            drawn = self._held(at, self.table.schema.columns[at].decode(x[..., at].cpu().numpy()), rows)
            values[at] = np.where(self.wanted[rows, at], drawn, self.known[self.table.schema.names[at]][rows])
        ok, jacobian, determined = self._put_in(values, rows)
        log_weights = run.log_weights
        if determined.any():
            for at in np.flatnonzero(determined.any(0)):
                column = self.table.schema.columns[at]
                here = torch.from_numpy(determined[:, at] & ok).to(x.device)
                encoded = column.encode(np.where(determined[:, at] & ok, values[at], column.decode(np.zeros(1))))
                x[..., at] = torch.where(here, torch.from_numpy(encoded).to(x), x[..., at])
            at_cells = torch.from_numpy(determined).to(x.device)
            log_weights = _weighed_anew(objective, run, model, batch, x, at_cells)
            log_weights = log_weights + torch.from_numpy(jacobian).to(x)
        ok = ok & self._hold(values, rows)
        return log_weights.masked_fill(~torch.from_numpy(ok).to(x.device), -torch.inf), x

    def settle(self, draws: Float[NDArray, "draws cells"], cells: Int[NDArray, "2 cells"]) -> None:
        """Draws as the frame's dtypes hold them, determined parts exact to their last digit; in place."""
        rows = np.arange(len(self.table))
        values, places = {}, {}
        for at in self.positions:
            places[at] = cells[1] == at
            known = self.known[self.table.schema.names[at]]
            values[at] = np.broadcast_to(known, (len(draws), len(rows))).copy()
            here = cells[0][places[at]]
            values[at][:, here] = self._held(at, draws[:, places[at]], here)
        self._put_in(values, rows)
        for at, place in places.items():
            draws[:, place] = values[at][:, cells[0][place]]

    def check(self, draws: Float[NDArray, "draws cells"], cells: Int[NDArray, "2 cells"]) -> None:
        """Refuse draws, in the user's units, that were moved and satisfy the constraints no more; names the rows."""
        rows = np.arange(len(self.table))
        values = {}
        for at in self.positions:
            known, place = self.known[self.table.schema.names[at]], cells[1] == at
            values[at] = np.broadcast_to(known, (len(draws), len(rows))).copy()
            values[at][:, cells[0][place]] = self._held(at, draws[:, place], cells[0][place])
        broken = ~self._hold(values, rows).all(0)
        if broken.any():
            where = labelled(np.flatnonzero(broken), self.table.frame)
            raise ValueError(
                f"constraints {self._named()}: expected draws that still satisfy them when moved, got others in {where}"
                " (a part of a sum moves with another: give both a delta by row, or neither)"
            )

    def _named(self) -> str:
        names = [described(constraint) for constraint in self.constraints]
        return ", ".join([*names, *(getattr(function, "__name__", repr(function)) for function in self.functions)])

    def refuse(self, rows: Int[NDArray, " rows"], tries: int) -> NoReturn:
        """Name rows that nothing satisfied."""
        raise ValueError(
            f"constraints {self._named()}: none of {tries} particles satisfies them in"
            f" {labelled(rows, self.table.frame)}"
        )

    def _put_in(
        self, values: dict[int, NDArray[np.float64]], rows: Int[NDArray, " rows"]
    ) -> tuple[Bool[NDArray, "particles rows"], Float[NDArray, "particles rows"], Bool[NDArray, "rows columns"]]:
        """Put determined parts in, in place: whether they can be, the Jacobian of their scales, and which they are."""
        names = self.table.schema.names
        shape = next(iter(values.values())).shape
        ok, jacobian = np.ones(shape, dtype=bool), np.zeros(shape)
        determined = np.zeros((len(rows), len(names)), dtype=bool)
        for constraint, column in self.sums:
            for at in np.unique(column[rows][column[rows] >= 0]):
                here = column[rows] == at
                given = {
                    name: values[names.index(name)] if name in names else self.known[name][rows]
                    for name in constraint.columns
                }
                rest = np.broadcast_to(constraint.rest(given, names[at]), shape)
                possible = self._is_possible(int(at), rest, rows)
                ok &= possible | ~here
                values[at] = np.where(here & possible, as_held(rest, self._dtype(int(at))), values[at])
                log_slope = self.table.schema.columns[at].kind.scale.log_slope(values[at])
                jacobian += np.where(here & possible, log_slope, 0.0)
                determined[here, at] = True
        return ok, jacobian, determined

    def _hold(self, values: dict[int, NDArray[np.float64]], rows: Int[NDArray, " rows"]) -> NDArray[np.bool_]:
        """Whether all constraints hold, by particle and row."""
        names, schema = self.table.schema.names, self.table.schema
        shape = next(iter(values.values())).shape if values else (1, len(rows))
        by_name = {name: np.broadcast_to(known[rows], shape) for name, known in self.known.items()}
        by_name |= {names[at]: value for at, value in values.items()}
        ok = np.ones(shape, dtype=bool)
        for constraint in self.constraints:
            ok &= constraint.holds({name: by_name[name] for name in constraint.columns})
        if self.functions:
            frame = self.table.frame.iloc[np.tile(rows, shape[0])]
            cells = np.stack(np.nonzero(np.tile(self.wanted[rows], (shape[0], 1))))
            flat = np.stack([values[at].ravel() for at in range(len(names))], axis=1)
            frame = completed(frame, schema, cells, flat[tuple(cells)], keep_integers=True)
            for function in self.functions:
                ok &= _booleans(function, frame).reshape(shape)
        return ok

    def _determine(self, sums: Sequence[SumsTo]) -> list[_Sum]:
        """Of each sum the missing part with the widest spread, which the others say the least about."""
        schema, taken, found = self.table.schema, np.zeros_like(self.wanted), []
        ends = np.array([-0.5, 0.5])
        spread = {at: float(np.ptp(schema.columns[at].decode(ends))) for at in self.positions}
        for constraint in sums:
            members = [schema.names.index(name) for name in constraint.columns if name in schema.names]
            determined = np.full(len(self.table), -1)
            for at in sorted(members, key=spread.__getitem__):
                determined[self.wanted[:, at] & ~taken[:, at]] = at
            # A part that one sum has used is not moved by the next.
            taken[:, members] |= self.wanted[:, members]
            found.append(_Sum(constraint, determined))
        return found

    def _check_single_parts(self) -> None:
        """Where one part alone is missing its value is known, and may not be one that the column can take."""
        names = self.table.schema.names
        for constraint, determined in self.sums:
            values = {name: self.known[name] for name in constraint.columns}
            for at in np.unique(determined[determined >= 0]):
                rest = constraint.rest(values, names[at])
                alone = (determined == at) & ~np.isnan(rest)
                wrong = np.flatnonzero(alone & ~self._is_possible(int(at), rest, np.arange(len(self.table))))
                if len(wrong):
                    raise ValueError(
                        f"{described(constraint)}: column {names[at]!r} cannot be {rest[wrong[0]]:g}, which the other"
                        f" parts leave to it, in {labelled(wrong, self.table.frame)}"
                    )

    def _check_functions(self) -> None:
        complete = np.flatnonzero(~self.wanted.any(1))
        for function in self.functions if len(complete) else ():
            broken = ~_booleans(function, self.table.frame.iloc[complete])
            if broken.any():
                name = getattr(function, "__name__", repr(function))
                raise ValueError(f"constraint {name}: broken by {labelled(complete[broken], self.table.frame)}")

    def _dtype(self, at: int) -> Any:
        return self.table.frame[self.table.schema.names[at]].dtype

    def _held(
        self, at: int, numbers: Float[NDArray, "*particles rows"], rows: Int[NDArray, " rows"]
    ) -> NDArray[np.float64]:
        """Numbers as the completed frame gives them back."""
        bounds = self.table.bounds
        if bounds is not None:
            numbers = np.clip(numbers, bounds.lower[rows, at], bounds.upper[rows, at])
        return as_held(numbers, self._dtype(at))

    def _is_possible(
        self, at: int, numbers: Float[NDArray, "*particles rows"], rows: Int[NDArray, " rows"]
    ) -> NDArray[np.bool_]:
        """Whether a column can take these values."""
        bounds, ok = self.table.bounds, self.table.schema.columns[at].kind.contains(numbers)
        if pd.api.types.is_integer_dtype(self._dtype(at)):
            ok &= is_near_whole(numbers)
        if bounds is not None:
            ok &= (numbers >= bounds.lower[rows, at]) & (numbers <= bounds.upper[rows, at])
        return ok


def _weighed_anew(
    objective: ImportanceWeightedELBO,
    run: Particles,
    model: Callable,
    batch: Batch,
    x: Float[Tensor, "particles rows columns"],
    determined: Bool[Tensor, "rows columns"],
) -> Float[Tensor, "particles rows"]:
    """Weights with missing values moved to x, the densities of determined ones as factors: nothing proposed these."""
    missing = missing_sites(run.model_trace)
    columns = {name: columns_of(site) for name, site in missing.items()}
    values = {
        name: torch.where(
            determined[:, columns[name]], x[..., columns[name]].reshape(site["value"].shape), site["value"]
        )
        for name, site in missing.items()
    }
    moved = objective.moved(run, values, model, batch)
    log_weights = moved.log_weights
    guide_sites = sample_sites(run.guide_trace)
    for name in missing:
        # A proposal of the guide's own counted both densities; one from the model counted neither.
        site = guide_sites.get(name, sample_sites(moved.model_trace)[name])
        if not isinstance(site["fn"], dist.Independent):
            raise ValueError(
                f"site {name!r}: a part of a sum follows from the others, which needs a density for each column, got a"
                f" proposal by {type(site['fn']).__name__}; leave the site out of the guide"
            )
        cells = determined[:, columns[name]]
        if is_whole_row(site):
            density = site["fn"].base_dist.density_at(site["value"], cells).detach()
        else:
            density = (site["fn"].base_dist.log_prob(site["value"]) * cells).sum(-1)
        log_weights = log_weights + density.reshape(log_weights.shape)
    return log_weights


def _booleans(function: Callable[[pd.DataFrame], Any], frame: pd.DataFrame) -> NDArray[np.bool_]:
    found = np.asarray(function(frame))
    if found.shape != (len(frame),) or found.dtype != bool:
        name = getattr(function, "__name__", repr(function))
        raise ValueError(
            f"constraint {name}: expected a boolean for each of {len(frame)} rows, got {found.dtype} of shape"
            f" {found.shape}"
        )
    return found
