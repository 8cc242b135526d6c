"""Deltas: exact shifts of numbers, exact tilts of levels, refusals by name, and nothing at all by zero."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from checks import check_mean
from pyro_mnar import Imputations, InOrder, SumsTo, Table, fit, impute
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import Ignorable

JOBS = ["clerk", "manual", "none", "teacher"]


def survey(seed: int = 0) -> pd.DataFrame:
    """A column of each kind; a third of every column but the first is missing."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.normal(40, 10, 60),
            "score": rng.normal(5, 2, 60),
            "income": rng.lognormal(1, 0.5, 60),
            "share": rng.uniform(0.1, 0.9, 60),
            "visits": rng.poisson(6, 60).astype(float),
            "ill": rng.integers(0, 2, 60).astype(float),
            "health": pd.Categorical.from_codes(rng.integers(0, 3, 60), ["bad", "fair", "good"], ordered=True),
            "job": pd.Categorical.from_codes(rng.integers(0, 4, 60), JOBS),
        },
        index=[f"r{i}" for i in range(60)],
    )
    for name in frame.columns[1:]:
        frame.loc[rng.random(60) < 1 / 3, name] = None
    return frame


KINDS = {"income": "positive", "share": "bounded", "visits": "count"}


@pytest.fixture(scope="module")
def imputations() -> Imputations:
    """Draws that are arbitrary but possible, with shares to match: what is moved need not be a fit's."""
    torch.manual_seed(0)  # of nothing that is drawn here; the table's columns are all that is needed
    table = Table.from_frame(survey(), auxiliary=["age"], kinds=KINDS)
    return drawn_from(table)


def drawn_from(table: Table, num_draws: int = 400) -> Imputations:
    rng = np.random.default_rng(1)
    cells = np.stack(np.nonzero(~table.mask.numpy()))
    draws, shares = np.empty((num_draws, cells.shape[1])), {}
    for at, column in enumerate(table.schema.columns):
        here = cells[1] == at
        if column.kind.has_levels:
            shares[at] = rng.dirichlet(np.ones(len(column.kind.levels)), here.sum())
            uniform = rng.random((num_draws, here.sum(), 1))
            draws[:, here] = column.kind.points[(shares[at].cumsum(1) < uniform).sum(-1)]
        else:
            draws[:, here] = column.decode(rng.normal(0, 0.5, (num_draws, here.sum())))
    return Imputations(table, cells, draws, draws.mean(0), np.full(60, 9.0), shares)


def of_column(imputations: Imputations, name: str) -> np.ndarray:
    return imputations.cells[1] == imputations.table.schema.names.index(name)


def test_delta_on_an_ignorable_fit_moves_the_pooled_mean_by_share_missing_times_delta() -> None:
    frame = survey()[["age", "score"]]
    table = Table.from_frame(frame, auxiliary=["age"])
    trained = fit(Ignorable(table, latent_dim=1, seed=0), ZeroImpute(table, 1, seed=0), table, epochs=1, progress=False)

    def pooled_mean(**options: Any) -> float:
        drawn = impute(trained, table, num_draws=4, num_particles=10, seed=3, **options)
        return drawn.pool(lambda completed: (completed.score.mean(), completed.score.std() / 60**0.5)).estimates[0]

    unmoved = pooled_mean()
    missing, sd = frame.score.isna().mean(), frame.score.std(ddof=0)
    assert pooled_mean(delta={"score": 0.5}) - unmoved == pytest.approx(missing * 0.5 * sd, abs=1e-12)
    moved = pooled_mean(delta={"score": -2.0}, delta_scale="outcome")
    assert moved - unmoved == pytest.approx(missing * -2.0, abs=1e-12)
    for options in ({"delta": {"score": 0.0}}, {"delta": {"score": 1.0}, "delta_scale": "factor"}, {"delta": {}}):
        assert pooled_mean(**options) == unmoved


@pytest.mark.parametrize("name", ["score", "income", "share", "visits", "ill", "health", "job"])
def test_zero_changes_nothing_and_a_delta_changes_its_column_alone(imputations: Imputations, name: str) -> None:
    unmoved, moved = imputations.shifted({name: 0.0}), imputations.shifted({name: 0.7})
    for part in ("draws", "means"):
        np.testing.assert_array_equal(getattr(unmoved, part), getattr(imputations, part))
    other = ~of_column(imputations, name)
    np.testing.assert_array_equal(moved.draws[:, other], imputations.draws[:, other])
    np.testing.assert_array_equal(moved.means[other], imputations.means[other])
    assert (moved.draws[:, ~other] != imputations.draws[:, ~other]).any()
    for at, share in imputations.shares.items():
        np.testing.assert_array_equal(unmoved.shares[at], share)


def test_amounts_and_shares_move_on_the_scale_of_their_kind(imputations: Imputations) -> None:
    columns = {column.name: column for column in imputations.table.schema.columns}
    moved = imputations.shifted({"income": 0.5, "share": -1.0})
    for name, delta in (("income", 0.5), ("share", -1.0)):
        here = of_column(imputations, name)
        line = columns[name].encode(moved.draws[:, here]) - columns[name].encode(imputations.draws[:, here])
        np.testing.assert_allclose(line, delta, rtol=1e-9)
        np.testing.assert_allclose(moved.means[here], moved.draws[:, here].mean(0), rtol=1e-9)
    here = of_column(imputations, "income")
    tenth_more = imputations.shifted({"income": 1.1}, scale="factor")
    np.testing.assert_allclose(tenth_more.draws[:, here], 1.1 * imputations.draws[:, here])
    np.testing.assert_allclose(tenth_more.means[here], 1.1 * imputations.means[here])


def test_counts_stay_whole_and_move_by_the_delta_on_average(imputations: Imputations) -> None:
    here = of_column(imputations, "visits")
    moved = imputations.shifted({"visits": 0.3}, scale="outcome")
    step = moved.draws[:, here] - imputations.draws[:, here]
    assert set(np.unique(step)) == {0.0, 1.0}
    check_mean(torch.from_numpy(step.ravel()), 0.3)
    np.testing.assert_allclose(moved.means[here] - imputations.means[here], 0.3)
    whole = imputations.shifted({"visits": 2}, scale="outcome")
    np.testing.assert_array_equal(whole.draws[:, here] - imputations.draws[:, here], 2.0)


def log_odds(share: np.ndarray) -> np.ndarray:
    return np.log(share) - np.log1p(-share)


@pytest.mark.parametrize("name", ["ill", "health"])
def test_cumulative_log_odds_of_ordered_levels_move_by_the_delta(imputations: Imputations, name: str) -> None:
    at = imputations.table.schema.names.index(name)
    moved = imputations.shifted({name: -1.3})
    for k in range(1, imputations.shares[at].shape[1]):
        before, after = (log_odds(i.shares[at][:, k:].sum(1)) for i in (imputations, moved))
        np.testing.assert_allclose(after - before, -1.3, rtol=1e-9)
    here = of_column(imputations, name)
    assert (moved.draws[:, here] <= imputations.draws[:, here]).all()


@pytest.mark.parametrize("delta", [0.8, {"manual": 1.5, "clerk": -0.5}])
def test_log_odds_of_levels_without_an_order_move_against_the_first(imputations: Imputations, delta: Any) -> None:
    at = imputations.table.schema.names.index("job")
    moved = imputations.shifted({"job": delta})
    expected = [0, 0.8, 0.8, 0.8] if delta == 0.8 else [-0.5, 1.5, 0, 0]
    change = np.log(moved.shares[at]) - np.log(imputations.shares[at])
    np.testing.assert_allclose(
        change - change[:, :1], np.broadcast_to(np.subtract(expected, expected[0]), change.shape)
    )


@pytest.mark.parametrize(("name", "delta"), [("ill", 0.9), ("health", -0.7), ("job", 1.2), ("job", {"none": 2.0})])
def test_draws_of_levels_follow_the_tilted_shares(imputations: Imputations, name: str, delta: Any) -> None:
    moved = imputations.shifted({name: delta}, seed=5)
    at, here = imputations.table.schema.names.index(name), of_column(imputations, name)
    kind = imputations.table.schema.columns[at].kind
    came = kind.codes(moved.draws[:, here])[..., None] == np.arange(len(kind.levels))
    check_mean(torch.from_numpy(came.astype(float)), torch.from_numpy(moved.shares[at]))
    stayed = (moved.draws[:, here] == imputations.draws[:, here]).mean(0)
    most = np.minimum(moved.shares[at], imputations.shares[at]).sum(1)
    if not kind.has_order:
        check_mean(
            torch.from_numpy((moved.draws[:, here] == imputations.draws[:, here]).astype(float)), torch.tensor(most)
        )
    assert stayed.mean() > 0.5


def test_larger_deltas_move_the_same_draws_and_more(imputations: Imputations) -> None:
    for name in ("ill", "health", "visits"):
        here = of_column(imputations, name)
        steps = [imputations.shifted({name: delta}).draws[:, here] for delta in (0.0, 0.2, 0.4, 0.8)]
        assert all((one <= other).all() and (one < other).any() for one, other in pairwise(steps))


def test_levels_that_bounds_leave_out_stay_out() -> None:
    frame = survey()
    gap = frame.health.isna().to_numpy()
    table = Table.from_frame(frame, auxiliary=["age"], kinds=KINDS)
    imputations = drawn_from(table)
    at = table.schema.names.index("health")
    share = imputations.shares[at].copy()
    share[:, 2] = 0.0
    share /= share.sum(1, keepdims=True)
    draws = imputations.draws.copy()
    here = of_column(imputations, "health")
    draws[:, here] = np.random.default_rng(0).random((400, gap.sum())) > share[:, 0]
    bounded = Imputations(
        table, imputations.cells, draws, imputations.means, np.ones(60), {**imputations.shares, at: share}
    )
    moved = bounded.shifted({"health": 3.0})
    assert (moved.shares[at][:, 2] == 0).all() and moved.draws[:, here].max() == 1.0
    np.testing.assert_allclose(log_odds(moved.shares[at][:, 1]) - log_odds(share[:, 1]), 3.0)


def test_deltas_by_row(imputations: Imputations) -> None:
    frame, here = imputations.table.frame, of_column(imputations, "score")
    rows = imputations.cells[0][here]
    by_row = np.linspace(-1, 1, 60)
    expected = imputations.shifted({"score": by_row}, scale="outcome")
    np.testing.assert_array_equal(expected.draws[:, here], imputations.draws[:, here] + by_row[rows])
    series = pd.Series(by_row, index=frame.index).where(frame.score.isna())  # no delta where there is a value
    for given in (series[::-1], lambda frame: pd.Series(by_row, index=frame.index), by_row.tolist()):
        np.testing.assert_array_equal(imputations.shifted({"score": given}, scale="outcome").draws, expected.draws)
    scale = {"score": "outcome", "income": "factor"}
    both = imputations.shifted({"score": by_row, "income": 2.0, "ill": 0.0}, scale=scale)
    np.testing.assert_array_equal(both.draws[:, here], expected.draws[:, here])


@pytest.mark.parametrize(
    ("delta", "scale", "message"),
    [
        ({"wealth": 1.0}, "sd", "delta of column 'wealth': expected one of the modelled columns"),
        ({"age": 1.0}, "sd", "delta of column 'age': expected one of the modelled columns"),
        ({"score": 1.0}, "units", "delta_scale: expected one of ['sd', 'outcome', 'factor'], got 'units'"),
        (
            {"job": 1.0},
            {"job": "outcome"},
            "delta_scale of column 'job': expected none, for deltas of levels are log-odds",
        ),
        ({"score": np.nan}, "sd", "delta of column 'score': expected a finite number for every gap, got nan in row 'r"),
        (
            {"score": [1.0, 2.0]},
            "sd",
            "delta of column 'score': expected a number or 60 of them, one a row, got shape (2,)",
        ),
        ({"score": "much"}, "sd", "delta of column 'score': expected a number, or one a row, got str"),
        ({"score": pd.Series([1.0], index=["r0"])}, "sd", "expected a finite number for every gap, got nan in row"),
        (
            {"job": {"pilot": 1.0}},
            "sd",
            "delta of column 'job': expected levels among ['clerk', 'manual', 'none', 'teacher']",
        ),
        ({"health": {"bad": 1.0}}, "sd", "delta of column 'health': expected a number, for its levels have an order"),
        ({"income": -50.0}, "outcome", "delta of column 'income': expected values that it can take, got -"),
        ({"visits": -50.0}, "outcome", "no value of kind 'count', from "),
    ],
)
def test_refuses_by_name(imputations: Imputations, delta: Any, scale: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        imputations.shifted(delta, scale=scale)


def test_bounds_and_constraints_are_kept_or_the_delta_is_refused() -> None:
    frame = survey()[["age", "score", "income"]]
    table = Table.from_frame(frame, auxiliary=["age"], upper={"score": 12.0})
    trained = fit(Ignorable(table, latent_dim=1, seed=0), ZeroImpute(table, 1, seed=0), table, epochs=1, progress=False)
    impute(trained, table, num_draws=2, num_particles=5, delta={"score": 0.1})
    with pytest.raises(ValueError, match=r"delta of column 'score': .* outside of its bounds"):
        impute(trained, table, num_draws=2, num_particles=5, delta={"score": 9.0})
    gap = pd.DataFrame({"row": frame.index[frame.score.isna()][:1], "column": ["score"]})
    with pytest.raises(ValueError, match="cells: expected no delta"):
        impute(trained, table, cells=gap, delta={"score": 1.0})


def test_an_order_is_kept_or_the_delta_is_refused() -> None:
    frame = survey()[["age", "score", "income"]].assign(income=lambda frame: frame.score - frame.income)
    table = Table.from_frame(frame, auxiliary=["age"])
    trained = fit(Ignorable(table, latent_dim=1, seed=0), ZeroImpute(table, 1, seed=0), table, epochs=1, progress=False)

    def below(rows: pd.DataFrame) -> np.ndarray:
        return (rows.income <= rows.score).to_numpy()

    for constraint in (InOrder("income", "score"), below):
        drawn = impute(trained, table, num_draws=2, num_particles=50, constraints=[constraint])
        with pytest.raises(ValueError, match="expected draws that still satisfy them when moved, got others in"):
            drawn.shifted({"score": -9.0})
        assert all(below(done).all() for done in drawn.shifted({"score": 0.5}).frames())


def test_a_part_of_a_sum_moves_only_with_the_others() -> None:
    rng = np.random.default_rng(0)
    parts = pd.DataFrame(rng.dirichlet([5, 5, 5], 40), columns=["a", "b", "c"])
    parts.loc[:9, ["a", "b"]] = np.nan
    table = Table.from_frame(parts, auxiliary=[], constraints=[SumsTo(["a", "b", "c"], 1.0)])
    trained = fit(Ignorable(table, latent_dim=1, seed=0), ZeroImpute(table, 1, seed=0), table, epochs=1, progress=False)
    drawn = impute(trained, table, num_draws=2, num_particles=20)
    with pytest.raises(ValueError, match="expected draws that still satisfy them when moved"):
        drawn.shifted({"a": 0.1}, scale="outcome")
    moved = drawn.shifted({"a": 0.01, "b": -0.01}, scale="outcome")
    assert np.allclose(next(moved.frames()).sum(axis=1), 1.0)
