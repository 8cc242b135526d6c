"""All cells of a table, as tensors beside the user's frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.bounds import Bounds
from pyro_mnar.tables.positions import LongNames


@dataclass(frozen=True, eq=False)
class DenseStorage:
    """What a dense table keeps: every cell.

    Attributes:
        rows: All rows, standardised.
        frame: The user's frame, as it came in.
        applicable: Cells that have a value, seen or not; ``(rows, columns)``.
        codes: Per column of ``na_values``, the code that stood in each cell (missing where there was none).
        bounds: Least and greatest values of gaps; None where nothing is known of any.
        native: The user's frame as narwhals has it, if it is none of pandas', whose values ``frame`` then holds.
        file: What the rows were read from, to write completed ones as it was; None if nothing.
    """

    rows: Batch
    frame: pd.DataFrame
    applicable: Bool[Tensor, "rows columns"]
    codes: pd.DataFrame
    bounds: Bounds | None = None
    native: Any = None
    file: Any = None

    title = "Table"

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def counted(self) -> str:
        """How many values there are not, in words."""
        missing = int((~self.mask).sum())
        return f"{missing} values missing ({missing / self.mask.numel():.0%})"

    @property
    def num_entries(self) -> int:
        """Number of observed entries."""
        return int(self.mask.sum())

    @property
    def x(self) -> Float[Tensor, "rows columns"]:
        """Standardised values, zero where missing."""
        return self.rows.x

    @property
    def mask(self) -> Bool[Tensor, "rows columns"]:
        """True where observed."""
        return self.rows.mask

    @property
    def mask_modelled(self) -> Bool[Tensor, "rows columns"]:
        """Cells whose missingness the mechanism explains."""
        return self.rows.mask_modelled

    @property
    def aux(self) -> Float[Tensor, "rows auxiliaries"]:
        """U, standardised."""
        return self.rows.aux

    @property
    def row_labels(self) -> pd.Index:
        """Label of each row."""
        return self.frame.index

    @property
    def long_names(self) -> LongNames:
        """What rows, columns and values are called in a long frame."""
        return LongNames()

    def batch(self, device: torch.device | str | None = None) -> Batch:
        """All rows at once."""
        return self.rows if device is None else self.rows.to(device)

    def take(self, rows: Int[NDArray, " rows"]) -> DenseStorage:
        """Some of the rows, by position."""
        at = torch.from_numpy(rows)
        taken = self.rows.take(at)
        weight = None if taken.weight is None else taken.weight / taken.weight.mean()
        return replace(
            self,
            # A table of its own: its rows are counted from zero, and count once on average.
            rows=replace(taken, index=torch.arange(len(at)), size=len(at), weight=weight),
            frame=self.frame.iloc[rows],
            applicable=self.applicable[at],
            codes=self.codes.iloc[rows],
            bounds=None if self.bounds is None else self.bounds.take(rows),
            native=None if self.native is None else self.native[rows.tolist(), :],
            file=None,
        )

    def status(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Of some cells, whether each is observed, and whether it is applicable."""
        return self.mask[rows, columns].numpy(), self.applicable[rows, columns].numpy()

    def hide(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> DenseStorage:
        """The same rows with some cells missing, those that were observed by design."""
        hidden = torch.zeros_like(self.mask)
        hidden[rows, columns] = True
        return replace(
            self,
            rows=replace(
                self.rows,
                x=self.x.masked_fill(hidden, 0.0),
                mask=self.mask & ~hidden,
                mask_modelled=self.mask_modelled & ~(hidden & self.mask),
            ),
        )

    def gaps_by_design(self) -> DenseStorage:
        """The same rows with no gap that the mechanism explains."""
        return replace(self, rows=replace(self.rows, mask_modelled=self.mask_modelled & self.mask))

    def bounded(self, bounds: Bounds, incomplete: Bool[Tensor, " columns"]) -> DenseStorage:
        """The same rows with what is known of their gaps; no mechanism scores a gap that was answered roughly."""
        lower, upper = bounds.on_line
        modelled = self.mask_modelled & ~torch.from_numpy(bounds.answered)
        rows = replace(self.rows, mask_modelled=modelled, incomplete=incomplete, lower=lower, upper=upper)
        return replace(self, rows=rows, bounds=bounds)
