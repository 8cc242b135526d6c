"""What printed imputations say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pyro_mnar import Imputations, Table


def imputations(num_draws: int = 3, **told: bool) -> Imputations:
    """Of four gaps in two columns, beside two cells that are not applicable."""
    frame = pd.DataFrame({"age": np.arange(6.0), "income": np.arange(6.0), "rent": np.arange(6.0)})
    frame.loc[[0, 1, 2], "income"] = np.nan
    frame.loc[[2, 4, 5], "rent"] = np.nan
    table = Table.from_frame(frame, auxiliary=["age"], not_applicable={"rent": np.arange(6) >= 4})
    cells = np.stack(np.nonzero((~table.mask & table.applicable).numpy()))
    return Imputations(table, cells, np.zeros((num_draws, 4)), np.zeros(4), np.full(6, np.inf), **told)


def test_cells_rows_and_draws() -> None:
    """Cells that are not applicable are neither counted nor called missing."""
    first, by_column, rest, _ = repr(imputations()).splitlines()
    assert first == "Imputations: 3 draws of 4 cells in 3 of 6 rows"
    assert by_column == "  by column: income 3, rent 1"
    assert rest == "  not imputed: 2 cells without a value to miss (not applicable)"


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({}, "the same in every draw, so intervals leave out their uncertainty"),
        ({"from_bootstrap": True}, "a fit of its own for each draw"),
        ({"from_posterior": True}, "a posterior draw of their own for each"),
    ],
)
def test_whose_uncertainty_the_draws_carry(told: dict[str, bool], words: str) -> None:
    assert words in repr(imputations(**told)).splitlines()[-1]


def test_one_draw_is_one_draw() -> None:
    assert repr(imputations(1)).startswith("Imputations: 1 draw of")
