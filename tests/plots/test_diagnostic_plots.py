"""Pictures of draws, mechanisms and diagnostics hold the numbers that they are of."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from pyro_mnar import Fit, Imputations, Table, TwinSearch, mechanisms, plots, pool_scalar
from pyro_mnar.diagnostics import AgainstIgnorable, Diagnosis
from pyro_mnar.diagnostics.replicates import Replicates
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import GINA, PartialVAE


@pytest.fixture
def table() -> Table:
    """Twenty incomes, of which the last eight are missing, and towns, of which the first four are."""
    frame = pd.DataFrame({"age": np.arange(20.0), "income": np.arange(20.0), "town": list("aabb" * 5)})
    frame.loc[12:, "income"] = np.nan
    frame.loc[:3, "town"] = None
    return Table.from_frame(frame, auxiliary=["age"])


@pytest.fixture
def imputations(table: Table) -> Imputations:
    """Four draws; of income the row's number, plus the number of the draw."""
    cells = np.stack(np.nonzero((~table.mask).numpy()))
    draws = np.where(cells[1] == 0, cells[0] + np.arange(4.0)[:, None], 1.0)
    return Imputations(table, cells, draws, draws.mean(0), np.full(20, np.inf))


def test_columns_missing_together(table: Table) -> None:
    frame = table.frame.assign(rent=table.frame["income"])
    ax = plots.co_missingness(Table.from_frame(frame, auxiliary=["age"]))
    np.testing.assert_allclose(ax.images[0].get_array(), [[1, 0, 1], [0, 1, 0], [1, 0, 1]])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["income  40%", "town  20%", "rent  40%"]
    with pytest.raises(ValueError, match="expected one with gaps"):
        plots.co_missingness(Table.from_frame(frame[["age"]], auxiliary=[]))


def test_the_response_curve_is_the_mechanism_s(table: Table) -> None:
    model = GINA(table, latent_dim=1, mechanism=mechanisms.SelfMasking, seed=0)
    fit = Fit(model, ZeroImpute(table, 1, seed=0), table.schema)
    ax = plots.response_curve(fit, table, "income")
    curve = ax.lines[0].get_xydata()
    at = torch.as_tensor(table.schema.columns[0].encode(curve[:, 0]))
    x = torch.zeros(len(at), 2, dtype=at.dtype)
    x[:, 0] = at
    logits = mechanisms.log_odds(model.mechanism, x, torch.zeros(len(at), 1, dtype=at.dtype), table.batch())[:, 0]
    np.testing.assert_allclose(curve[:, 1], logits.sigmoid().detach(), rtol=1e-4)
    shade = ax.patches[0].get_extents().transformed(ax.transData.inverted())
    np.testing.assert_allclose([shade.x0, shade.x1], [0, 11], atol=1e-5)  # the values that were seen
    levels = plots.response_curve(fit, table, "town")
    assert [label.get_text() for label in levels.get_xticklabels()] == ["a", "b"]
    with pytest.raises(ValueError, match=r"column 'age': expected one that goes missing, of \['income', 'town'\]"):
        plots.response_curve(fit, table, "age")
    silent = Fit(PartialVAE(table, latent_dim=1, seed=0), ZeroImpute(table, 1, seed=0), table.schema)
    with pytest.raises(ValueError, match="does not say why"):
        plots.response_curve(silent, table, "income")


def test_draws_and_their_means(imputations: Imputations) -> None:
    given = Figure().subplots()
    ax = plots.draws_trace(imputations, "income", ax=given)
    assert ax is given
    running, single = (line.get_ydata() for line in ax.lines)
    np.testing.assert_allclose(single, 15.5 + np.arange(4))
    np.testing.assert_allclose(running, [15.5, 16, 16.5, 17])
    strip = plots.draws_strip(imputations, "income")
    assert [len(points.get_offsets()) for points in strip.collections] == [12, 8, 8, 8, 8]
    np.testing.assert_allclose(strip.lines[0].get_ydata(), single)
    words = plots.draws_strip(imputations, "town")
    assert [label.get_text() for label in words.get_yticklabels()] == ["a", "b"]
    with pytest.raises(ValueError, match="'town': expected numbers, got words"):
        plots.draws_trace(imputations, "town")


def test_intervals_that_miss_the_truth_are_counted(table: Table, imputations: Imputations) -> None:
    truth = table.frame.assign(income=np.arange(20.0) + 1.5)
    truth.loc[19, "income"] = 100.0  # the draws of this row are 19 to 22
    ax = plots.intervals_against_truth(imputations, truth, "income")
    assert "88% of the 90% intervals" in ax.get_title()
    hit, missed = (len(lines.get_segments()) for lines in ax.collections)
    assert (hit, missed) == (7, 1)
    with pytest.raises(ValueError, match="truth: expected 20 rows, as in the table, got 19"):
        plots.intervals_against_truth(imputations, truth.iloc[1:], "income")


def test_what_the_cause_moves_is_the_difference_of_means(imputations: Imputations) -> None:
    other = Imputations(
        imputations.table, imputations.cells, imputations.draws - 2, imputations.means - 2, np.full(20, np.inf)
    )
    ax = plots.imputed_against_ignorable(imputations, other, "income")
    assert ax.get_title() == "income: the cause moves the mean by +2"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "observed",
        "imputed",
        "imputed, cause ignored",
    ]


def test_rows_to_distrust_and_statistics_that_differ(table: Table, imputations: Imputations) -> None:
    rows = pd.DataFrame({"pareto_k": [0.1, 0.9, 0.3], "label": ["p1", "p2", "p3"]}, index=[4, 6, 9])
    checks = pd.DataFrame(
        {
            "check": ["missing", "values where missing"],
            "of": ["income", "age | income"],
            "observed": [0.5, 1.0],
            "replicated": [0.2, 1.5],
            "spread": [0.1, 0.5],
            "flagged": [True, False],
        }
    )
    none = pd.Series(dtype=float)
    made = Replicates(table, np.zeros((1, 20, 2)), np.ones((1, 20, 2), dtype=bool), scores_mask=False)
    diagnosis = Diagnosis((), rows, none, checks, none, AgainstIgnorable(pd.DataFrame()), made, imputations)
    ax = plots.pareto_k(diagnosis)
    assert "1 of 3 rows above 0.7" in ax.get_title() and [text.get_text() for text in ax.texts] == ["p2"]
    ax = plots.predictive_checks(diagnosis)
    fine, differs = (line.get_xydata() for line in ax.lines[1:])
    np.testing.assert_allclose(fine, [[-1, 0]])
    np.testing.assert_allclose(differs, [[3, 1]])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["age where income is missing", "missing: income"]


def test_twins_are_filled_where_their_bounds_are_equal() -> None:
    starts = pd.Index(["the fit", "reversed", "fresh 1"], name="start")
    means = pd.DataFrame({"income": [10.0, 14.0, 11.0]}, index=starts)
    ranges = {"range": [4.0], "range_in_sd": [2.0], "range_all": [4.0], "range_all_in_sd": [2.0]}
    spread = pd.DataFrame(ranges, index=["income"])
    bounds = pd.DataFrame({"equal": [True, True, False]}, index=starts)
    ax = plots.twin_means(TwinSearch(bounds, means, spread, found=True, is_best=True))
    np.testing.assert_allclose([line.get_xdata()[0] for line in ax.lines[:3]], [0, 2, 0.5])
    assert [line.get_markerfacecolor() == "none" for line in ax.lines[:3]] == [False, False, True]
    assert ax.get_title() == "Twins: the data do not decide"


def test_a_forest_has_a_line_a_scenario() -> None:
    results = {name: pool_scalar([at, at + 0.1], [1.0, 1.0]) for name, at in (("own value", 1.0), ("latent", 2.0))}
    ax = plots.forest(results)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["own value", "latent"]
    np.testing.assert_allclose(np.asarray(ax.lines[0].get_xdata(), dtype=float), [1.05, 2.05])
    with pytest.raises(ValueError, match="expected at least one pooled analysis"):
        plots.forest({})


def test_contours_are_of_the_truth_and_points_of_the_model() -> None:
    random = np.random.default_rng(0)
    truth = pd.DataFrame(random.normal(size=(300, 2)), columns=["a", "b"])
    ax = plots.contours(truth.head(50), truth, ("a", "b"))
    np.testing.assert_allclose(np.sort(ax.collections[0].get_offsets()[:, 0]), np.sort(truth["a"].head(50)))
    with pytest.raises(ValueError, match="generated: expected the column 'b'"):
        plots.contours(truth[["a"]], truth, ("a", "b"))
