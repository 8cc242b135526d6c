"""Pictures hold the numbers that they are of."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from pyro_mnar import Fit, Imputations, Table
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import SelfMasking
from pyro_mnar.plots import bound_curve, imputed_against_observed, missingness_pattern


def table() -> Table:
    frame = pd.DataFrame({"age": np.arange(6.0), "income": np.arange(6.0) + 0.5, "town": list("aabbab")})
    frame.loc[[0, 1, 2], "income"] = np.nan
    frame.loc[[2, 4, 5], "town"] = None
    return Table.from_frame(frame, auxiliary=["age"], not_applicable={"town": np.arange(6) == 5})


def imputations() -> Imputations:
    """Two draws of income (three gaps) and of town (two)."""
    made = table()
    cells = np.stack(np.nonzero((~made.mask & made.applicable).numpy()))
    draws = np.where(cells[1] == 1, [[0.0], [1.0]], 7.0)
    return Imputations(made, cells, draws, draws.mean(0), np.full(6, np.inf))


def test_the_bound_is_that_of_the_history() -> None:
    history = pd.DataFrame({"epoch": [1, 2, 3], "bound": [-9.0, -2.0, -1.5], "held_out_bound": [-9.5, -3.0, -2.5]})
    result = Fit(SelfMasking(table(), latent_dim=1), ZeroImpute(table(), 1), table().schema, history)
    ax = bound_curve(result)
    for line, name in zip(ax.lines, ("bound", "held_out_bound"), strict=True):
        np.testing.assert_array_equal(line.get_xydata(), history[["epoch", name]])
    assert ax.get_ylabel() == "bound, nats per row"
    assert result.plot(ax) is ax
    with pytest.raises(ValueError, match="fit: expected one with a history, got none"):
        bound_curve(Fit(result.model, result.guide, result.schema))


def test_patterns_and_their_rows() -> None:
    """Rows 0 and 1 lack income, 2 both, 3 none, 4 the town; row 5 has no town to lack."""
    ax = missingness_pattern(table())
    (mesh,) = ax.collections
    shown = mesh.get_array().reshape(-1, 2)
    counts = [int(label.get_text()) for label in ax.get_yticklabels()]
    found = {tuple(map(int, pattern)): count for pattern, count in zip(shown, counts, strict=True)}
    assert found == {(0, 2): 2, (0, 0): 1, (2, 2): 1, (2, 0): 1, (2, 1): 1}
    assert [label.get_text() for label in ax.get_xticklabels()] == ["income\n50%", "town\n33%"]
    assert "grey: not applicable" in ax.get_title()


def test_levels_are_bars_of_shares() -> None:
    ax = imputed_against_observed(imputations(), "town")
    heights = [bar.get_height() for bars in ax.containers for bar in bars]
    np.testing.assert_allclose(heights, [2 / 3, 1 / 3, 0.5, 0.5])  # a, a, b were seen
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b"]


def test_densities_are_on_the_axes_given_and_integrate_to_one() -> None:
    given = Figure().subplots()
    ax = imputed_against_observed(imputations(), "income", ax=given)
    assert ax is given and ax.get_title() == "income: 3 observed, 3 imputed"
    assert imputations().plot("income").get_title() == ax.get_title()
    area = sum(bar.get_height() * bar.get_width() for bar in ax.containers[0])
    assert area == pytest.approx(1)
    with pytest.raises(ValueError, match=r"column 'age': expected one with imputed cells, of \['income', 'town'\]"):
        imputed_against_observed(imputations(), "age")


def test_codes_are_no_observed_values() -> None:
    frame = pd.DataFrame({"u": np.arange(6.0), "income": [-98, 2.0, 3.0, 4.0, -97, 6.0]})
    made = Table.from_frame(
        frame,
        auxiliary=["u"],
        kinds={"income": "positive"},
        na_values={"income": [-98]},
        not_applicable={"income": [-97]},
    )
    drawn = Imputations(made, np.array([[0], [0]]), np.array([[3.0]]), np.array([3.0]), np.full(6, np.inf))
    assert imputed_against_observed(drawn, "income").get_title() == "income: 4 observed, 1 imputed"
