"""The observed entries of a table of many columns and few entries; only minibatches are made dense.

An explicit zero is a value, an absent entry a gap.  :meth:`Table.from_sparse` and :meth:`Table.from_long` make such
tables.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.compressed import Compressed, SparseRows
from pyro_mnar.tables.positions import LongNames

MOST_DENSE_CELLS = 20_000_000  # of a dense view, unless the user says otherwise
BY_DESIGN, NOT_APPLICABLE = 1, 2  # reasons for a gap that are not the mechanism's


@dataclass(frozen=True, eq=False)
class SparseStorage:
    """What a sparse table keeps: the observed entries, and gaps that the mechanism does not explain.

    ``x``, ``mask``, ``mask_modelled``, ``applicable``, ``aux`` and ``frame`` are dense views.  They are made when they
    are asked for, and refused where they would be large.

    Attributes:
        rows: Standardised entries and U.
        values: The observed entries in the user's own form, in the order of ``rows.observed``.
        row_labels: Label of each row.
        column_labels: Name of each modelled column.
        auxiliaries: The user's columns of U that are no columns of X, by row; None if there are none.
        long_names: What rows, columns and values are called in a long frame.
        most_dense_cells: The most cells that a dense view may have.
    """

    rows: SparseRows
    values: Any
    row_labels: pd.Index
    column_labels: list[Hashable]
    auxiliaries: pd.DataFrame | None
    long_names: LongNames
    most_dense_cells: int = MOST_DENSE_CELLS

    title = "SparseTable"
    bounds = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def counted(self) -> str:
        """How many values there are, in words."""
        return f"{self.num_entries} values observed ({self.num_entries / self._num_cells:.2%})"

    @property
    def num_entries(self) -> int:
        """Number of observed entries."""
        return len(self.rows.observed)

    @property
    def codes(self) -> pd.DataFrame:
        """No column has codes for gaps; ``(rows, 0)``."""
        return pd.DataFrame(index=self.row_labels)

    @property
    def x(self) -> Float[Tensor, "rows columns"]:
        """Standardised values, as a dense view."""
        return self._dense("x").x

    @property
    def mask(self) -> Bool[Tensor, "rows columns"]:
        """True where observed, as a dense view."""
        return self._dense("mask").mask

    @property
    def mask_modelled(self) -> Bool[Tensor, "rows columns"]:
        """Cells that the mechanism explains, as a dense view."""
        return self._dense("mask_modelled").mask_modelled

    @property
    def aux(self) -> Float[Tensor, "rows auxiliaries"]:
        """U, a dense view where it is the mask."""
        return self._dense("aux").aux if self.rows.aux is None else self.rows.aux

    @property
    def applicable(self) -> Bool[Tensor, "rows columns"]:
        """Cells that have a value, as a dense view."""
        self._check_size("applicable")
        applicable = torch.ones(len(self), len(self.column_labels), dtype=torch.bool)
        unexplained = self.rows.unexplained
        is_inapplicable = unexplained.value == NOT_APPLICABLE
        applicable[unexplained.row()[is_inapplicable], unexplained.column[is_inapplicable]] = False
        return applicable

    @property
    def frame(self) -> pd.DataFrame:
        """The user's values, as a dense view."""
        self._check_size("frame")
        observed, values = self.rows.observed, np.asarray(self.values)
        is_number = values.dtype.kind in "fiu"
        cells = np.full((len(self), len(self.column_labels)), np.nan, dtype=np.float64 if is_number else object)
        cells[observed.row().numpy(), observed.column.numpy()] = values
        names = pd.Index(self.column_labels, tupleize_cols=False)
        frame = pd.DataFrame(cells, index=self.row_labels, columns=names)
        return frame if self.auxiliaries is None else pd.concat([self.auxiliaries, frame], axis=1)

    def batch(self, device: torch.device | str | None = None) -> Batch:
        """All rows at once, dense."""
        rows = self.rows if device is None else self.rows.to(device)
        return rows.take(torch.arange(len(self), device=device))

    def take(self, rows: Int[NDArray, " rows"]) -> SparseStorage:
        """Some of the rows, by position."""
        at = torch.from_numpy(rows)
        kept = self.rows.observed.at(at)[1].numpy()
        return replace(
            self,
            rows=replace(
                self.rows,
                observed=self.rows.observed.take(at),
                unexplained=self.rows.unexplained.take(at),
                aux=None if self.rows.aux is None else self.rows.aux[at],
            ),
            values=self.values[kept],
            row_labels=self.row_labels[rows],
            auxiliaries=None if self.auxiliaries is None else self.auxiliaries.iloc[rows],
        )

    def status(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Of some cells, whether each is observed, and whether it is applicable."""
        asked, unexplained = self._key(rows, columns), self.rows.unexplained
        inapplicable = self._keys(unexplained)[unexplained.value.numpy() == NOT_APPLICABLE]
        return np.isin(asked, self._keys(self.rows.observed)), ~np.isin(asked, inapplicable)

    def hide(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> SparseStorage:
        """The same rows with some cells missing, those that were observed by design."""
        observed = self.rows.observed
        is_hidden = torch.from_numpy(np.isin(self._keys(observed), self._key(rows, columns)))
        kept = ~is_hidden
        left = Compressed.of(
            observed.row()[kept].numpy(), observed.column[kept].numpy(), observed.value[kept], len(self)
        )
        gaps = self._with_gaps(self._keys(observed)[is_hidden.numpy()], BY_DESIGN)
        return replace(self, rows=replace(self.rows, observed=left, unexplained=gaps), values=self.values[kept.numpy()])

    def gaps_by_design(self) -> SparseStorage:
        """The same rows with no gap that the mechanism explains; refused where the gaps are too many to name."""
        gaps = self._with_gaps(self._key(*np.nonzero(~self.mask.numpy())), BY_DESIGN)
        return replace(self, rows=replace(self.rows, unexplained=gaps))

    def with_reason(self, rows: NDArray[np.int64], columns: NDArray[np.int64], reason: int, what: str) -> SparseStorage:
        """Say why some cells are gaps: BY_DESIGN or NOT_APPLICABLE.

        Raises:
            ValueError: If a cell has a value.
        """
        is_observed, _ = self.status(rows, columns)
        if is_observed.any():
            at = int(is_observed.argmax())
            label, name = self.row_labels[rows[at] : rows[at] + 1].tolist()[0], self.column_labels[columns[at]]
            raise ValueError(f"{what} of column {name!r}: expected a gap in row {label!r}, got a value")
        gaps = self._with_gaps(self._key(rows, columns), reason)
        return replace(self, rows=replace(self.rows, unexplained=gaps))

    @property
    def _num_cells(self) -> int:
        return len(self) * len(self.column_labels)

    def _dense(self, name: str) -> Batch:
        self._check_size(name)
        return self.batch()

    def _check_size(self, name: str) -> None:
        """Refuse to make a dense view that is too large."""
        if self._num_cells > self.most_dense_cells:
            raise ValueError(
                f"a sparse table of {len(self)} rows and {len(self.column_labels)} columns has no dense {name!r}:"
                f" expected at most {self.most_dense_cells} cells; name cells instead, as in impute(..., cells=...), or"
                " take some rows"
            )

    def _with_gaps(self, keys: NDArray[np.int64], reason: int) -> Compressed:
        """The unexplained gaps and more of them; a cell that has a reason already keeps the greater one."""
        before = self.rows.unexplained
        keys = np.concatenate([self._keys(before), keys])
        reasons = np.concatenate([before.value.numpy(), np.full(len(keys) - len(before), reason, dtype=np.uint8)])
        order = np.lexsort((reasons, keys))
        last = np.append(keys[order][1:] != keys[order][:-1], True)[: len(order)]
        order = order[last]
        rows, columns = np.divmod(keys[order], len(self.column_labels))
        return Compressed.of(rows, columns, torch.from_numpy(reasons[order]), len(self))

    def _keys(self, cells: Compressed) -> NDArray[np.int64]:
        """Each cell as one number."""
        return self._key(cells.row().numpy(), cells.column.numpy())

    def _key(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
        return rows * len(self.column_labels) + columns
