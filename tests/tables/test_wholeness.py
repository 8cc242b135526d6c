"""Whole is whole: draws where only whole numbers were seen, constants, and draws outside what was seen."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_mnar import Fit, Imputations, Table, fit, impute
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.imputation.ranges import far_beyond_seen, negative_where_none_was
from pyro_mnar.kinds import Bounded, Continuous, Positive
from pyro_mnar.mechanisms import Constant
from pyro_mnar.models import GINA

ROWS = 120


def survey() -> pd.DataFrame:
    """Months and hours that gaps made floats, and an income with fractions."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=ROWS)
    frame = pd.DataFrame(
        {
            "age": 40 + 9 * z + rng.normal(size=ROWS),
            "months": np.rint(20 + 4 * z + rng.normal(size=ROWS)),
            "hours": np.rint(np.exp(1 + 0.8 * z)) + 1,
            "share": np.clip(np.rint(5 + 3 * z), 0, 10),
            "income": 9.5 + z + rng.normal(size=ROWS),
        }
    )
    for column in frame.columns[1:]:
        frame[column] = frame[column].where(rng.random(ROWS) < 0.7)
    return frame


KINDS: dict[Any, Any] = {"hours": "positive", "share": Bounded(0, 10), "months": "continuous"}


def imputed(table: Table, **options: Any) -> Any:
    model = GINA(table, seed=0)
    fitted = fit(model, ZeroImpute(table, model.latent_dim, seed=0), table, seed=0, epochs=3, progress=False)
    return impute(fitted, table, num_draws=3, num_particles=10, **options)


def read(frame: pd.DataFrame, how: str, folder: Path) -> Table:
    if how == "csv":
        frame.to_csv(folder / "survey.csv", index=False)
        return Table.from_csv(folder / "survey.csv", kinds=KINDS)
    return Table.from_frame(frame.astype(how) if how != "float64" else frame, kinds=KINDS)


@pytest.mark.parametrize("how", ["float64", "Float64", "object", "csv"])
def test_draws_are_whole_where_all_that_was_seen_is(how: str, tmp_path: Path) -> None:
    frame = survey()
    imputations = imputed(read(frame, how, tmp_path))
    for completed in imputations.frames():
        for name in ("months", "hours", "share"):
            values = completed[name].to_numpy(dtype=float)
            np.testing.assert_array_equal(values, np.rint(values))
        assert (completed["hours"].to_numpy(dtype=float) >= 1).all()
        income = completed["income"].to_numpy(dtype=float)
        assert (income != np.rint(income))[frame["income"].isna()].all()
    mean = imputations.mean()["months"].to_numpy(dtype=float)[frame["months"].isna()]
    assert (mean != np.rint(mean)).all()


def test_single_cells_are_whole_too() -> None:
    frame = survey()
    table = Table.from_frame(frame, kinds=KINDS)
    rows = np.flatnonzero(frame["months"].isna())
    for completed in imputed(table, cells=(rows, np.full(len(rows), 1))).frames():
        np.testing.assert_array_equal(completed["value"], np.rint(completed["value"]))


@pytest.mark.parametrize("kind", [Continuous(whole=False), Positive(whole=False)], ids=["continuous", "positive"])
def test_a_kind_overrules(kind: Any) -> None:
    frame = survey()
    values = next(imputed(Table.from_frame(frame, kinds={**KINDS, "months": kind})).frames())["months"]
    assert (values != np.rint(values))[frame["months"].isna()].all()


def test_two_different_values_tell_nothing() -> None:
    kinds = Table.from_frame(pd.DataFrame({"a": [-1.0, 1.0, None], "b": [-1.0, 1.0, 2.0]}), auxiliary=[]).schema.columns
    assert [column.kind.is_whole for column in kinds] == [False, True]


def test_the_schema_keeps_it() -> None:
    schema = Table.from_frame(survey(), kinds=KINDS).schema
    assert type(schema).from_dict(schema.to_dict()) == schema


# Constants ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("constant", [0.0, 1e-6, -3.25, 7e12, 0.1])
@pytest.mark.filterwarnings("ignore:constant columns")
def test_a_constant_column_is_completed_by_its_constant(constant: float) -> None:
    frame = survey()[["age", "months"]].assign(same=constant)
    frame["same"] = frame["same"].where(np.arange(ROWS) % 3 > 0)
    table = Table.from_frame(frame)
    imputations = imputed(table)
    for completed in (imputations.mean(), *imputations.frames()):
        assert (completed["same"] == constant).all()
    rows = np.flatnonzero(frame["same"].isna())
    cells = imputed(table, cells=(rows, np.full(len(rows), 2)))
    for long in (cells.mean(), *cells.frames()):
        assert (long["value"] == constant).all()


# Outside what was seen ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made_up() -> Imputations:
    """Three draws of known cells: 0.25 to 4 was seen of the weight, 1 to 9 of the score."""
    frame = pd.DataFrame({"weight": [0.25, 4.0, 1.0, None, None], "score": [1.5, 9.0, 3.0, 2.0, None]})
    table = Table.from_frame(frame, auxiliary=[])
    draws = np.array([[-0.5, -0.1, 9.5], [0.1, 0.5, 2.0], [1.0, 5.0, 2.0]])
    cells = np.array([[3, 4, 4], [0, 0, 1]])
    return Imputations(table, cells, draws, draws.mean(0), np.ones(5))


def test_values_outside_the_range_ever_seen_are_counted(made_up: Imputations) -> None:
    found = made_up.out_of_range()
    assert found.index.tolist() == ["weight", "score"]
    np.testing.assert_allclose(found["below"], [3 / 6, 0.0])
    np.testing.assert_allclose(found["above"], [1 / 6, 1 / 3])
    np.testing.assert_array_equal(found[["least_seen", "greatest_seen"]], [[0.25, 4.0], [1.5, 9.0]])
    assert found.loc["weight", "said"] == (
        "33% of weight's imputations are negative; nothing below 0.25 was seen: kinds={'weight': 'positive'}"
    )
    of_cells = made_up.table.schema.columns, made_up.cells, made_up.draws
    assert negative_where_none_was(*of_cells) == [found.loc["weight", "said"]]
    assert found.loc["score", "said"] == "33% of score's imputations are above 9, the greatest value seen"


@pytest.mark.parametrize(("mean", "said"), [(7.7, ""), (8.0, "average 8, farther above 4"), (-4.0, "below 0.25")])
def test_means_far_outside_the_range_ever_seen_are_said(made_up: Imputations, mean: float, said: str) -> None:
    draws = made_up.draws.copy()
    draws[:, :2] = mean + np.array([[-1.0, 1.0], [0.5, -0.5], [np.nan, np.nan]])
    found = far_beyond_seen(made_up.table.schema.columns, made_up.cells, draws)
    assert [said in one for one in found] == ([True] if said else [])


def test_single_gaps_farther_outside_the_range_ever_seen_are_said(made_up: Imputations) -> None:
    columns, cells, draws = made_up.table.schema.columns, made_up.cells, made_up.draws.copy()
    draws[:, 1] = -37.0  # so that the column's mean stays near
    draws[:, 0] = [40.0, 42.0, 44.0]
    (found,) = far_beyond_seen(columns, cells, draws)
    assert found.startswith("1 of weight's 2 gaps are imputed as far as 42, ten times farther above 4, the greatest")
    draws[:, 0], draws[:, 1] = -38.0, 41.0
    (found,) = far_beyond_seen(columns, cells, draws)
    assert found.startswith("1 of weight's 2 gaps are imputed as far as -38, ten times farther below 0.25, the least")
    draws[:, 0] = -37.0
    assert not far_beyond_seen(columns, cells, draws)


def test_imputing_says_what_lies_far_outside(caplog: pytest.LogCaptureFixture) -> None:
    """Values above a threshold go missing, and a factor of e³ is between the highest seen and what is imputed."""
    frame = pd.DataFrame({"a": np.exp(np.linspace(-3.0, 0.0, 40)), "b": np.linspace(0.0, 1.0, 40)})
    frame.loc[30:, "a"] = np.nan
    table = Table.from_frame(frame, kinds={"a": "positive"}, auxiliary=["b"])
    model = GINA(table, mechanism=Constant, latent_dim=1, seed=0)
    with torch.no_grad():
        model.decoder.likelihood.log_noise.fill_(-2.0)  # pyright: ignore
        model.decoder.network.linear.bias.fill_(8.0)  # pyright: ignore
    with caplog.at_level(logging.WARNING, logger="pyro_mnar"):
        impute(Fit(model, ZeroImpute(table, 1, seed=0), table.schema), table, num_draws=2, num_particles=5)
    assert "a's imputations average" in caplog.text and "mechanism=Constant" in caplog.text


def test_columns_whose_draws_stay_inside_are_not_named(made_up: Imputations) -> None:
    inside = Imputations(made_up.table, made_up.cells, np.full((2, 3), 2.0), np.full(3, 2.0), np.ones(5))
    assert inside.out_of_range().empty


# Kinds by shape -------------------------------------------------------------------------------------------------------

SHAPES = {
    "log-normal": (lambda rng: np.exp(rng.normal(size=400)), "positive"),
    "exponential": (lambda rng: rng.exponential(size=400), "positive"),
    "normal, far above zero": (lambda rng: 50 + rng.normal(size=400), "continuous"),
    "uniform": (lambda rng: rng.uniform(0.01, 1.0, 400), "continuous"),
    "log-normal with one zero": (lambda rng: np.exp(rng.normal(size=400)) * (np.arange(400) > 0), "continuous"),
    "log-normal below zero": (lambda rng: -np.exp(rng.normal(size=400)), "continuous"),
    "whole and skewed": (lambda rng: np.ceil(1000 * np.exp(rng.normal(size=400))), "positive"),
    "too few": (lambda rng: np.exp(rng.normal(size=20)), "continuous"),
}


@pytest.mark.parametrize("case", SHAPES)
def test_strongly_skewed_amounts_above_zero_are_proposed_as_positive(case: str) -> None:
    made, expected = SHAPES[case]
    frame = pd.DataFrame({"a": made(np.random.default_rng(0))})
    table = Table.from_frame(frame, auxiliary=[])
    assert table.schema.kinds == {"a": expected}
    assert ("positive since strongly skewed: 'a'" in repr(table)) == (expected == "positive")
    assert Table.from_frame(frame, auxiliary=[], kinds={"a": "continuous"}).schema.kinds == {"a": "continuous"}
