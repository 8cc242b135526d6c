"""What a table says of the causes of its gaps, and GINA's default, which goes by it."""

from __future__ import annotations

import logging
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import check_grad
from scipy.stats import norm

from pyro_mnar import Fit, ImportanceWeightedELBO, Table, fit
from pyro_mnar.graphs.gap_evidence import _Law, gap_evidence, nats_of_own_bend
from pyro_mnar.graphs.likely import GIVEN, NOTHING, OWN, STRONG, likely_causes
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.mechanisms import SelfMasking
from pyro_mnar.models import GINA

CAUSES = {
    NOTHING: lambda y, u: np.full(len(y), -0.8),
    GIVEN: lambda y, u: -1.0 + 1.5 * u[:, 0],
    OWN: lambda y, u: -1.5 + 2.0 * y,
}


def table_of(cause: str, seed: int, *, rows: int = 400, columns: int = 3, skewed: bool = False) -> Table:
    """Columns that two complete ones explain half of, with a third of their values missing."""
    random = np.random.default_rng([seed, len(cause)])
    u = random.normal(size=(rows, 2))
    noise = random.exponential(size=(rows, columns)) - 1 if skewed else random.normal(size=(rows, columns))
    y = u @ random.choice([-0.5, 0.5], (2, columns)) + 0.7 * noise
    frame = pd.DataFrame(np.concatenate([y, u], axis=1), columns=[*[f"y{d}" for d in range(columns)], "u0", "u1"])
    for d in range(columns):
        chance = 1 / (1 + np.exp(-CAUSES[cause](y[:, d], u)))
        frame.loc[random.random(rows) < chance, f"y{d}"] = np.nan
    return Table.from_frame(frame, kinds="continuous")


@pytest.fixture
def law() -> _Law:
    random = np.random.default_rng(0)
    y, w = random.normal(size=60), random.normal(size=(60, 2))
    return _Law(y, random.random(60) < 0.6, w, masks_itself=True)


PARAMETERS = np.array([0.3, -0.2, -0.1, 0.7, -0.3, 0.2, -0.4, 0.5, 0.4])


def test_the_gradient_of_the_likelihood_is_that_of_differences(law: _Law) -> None:
    at = PARAMETERS
    assert check_grad(lambda theta: law._loss(theta)[0], lambda theta: law._loss(theta)[1], at) < 1e-4
    plain = _Law(np.where(law.seen, 0.3, 0.0) + law.design[:, 0], law.seen, law.design, masks_itself=False)
    assert check_grad(lambda theta: plain._loss(theta)[0], lambda theta: plain._loss(theta)[1], at[:-2]) < 1e-4


def test_a_missing_value_is_summed_out_exactly(law: _Law) -> None:
    """Against quadrature over the mixture."""
    parts = law._parts(PARAMETERS)
    beta, middle, log_scale, log_share, (log_k, c) = parts
    (w,) = law.design[:1]
    expected = sum(
        share * quad(lambda y, m=m, s=s: norm.pdf(y, w @ beta + m, s) * norm.cdf(np.exp(log_k) * (y - c)), -12, 12)[0]
        for share, m, s in zip(np.exp(log_share), middle, np.exp(log_scale), strict=True)
    )
    assert np.exp(law._log_missing(parts, law.design[:1])[1][0]) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("cause", [NOTHING, GIVEN, OWN])
def test_causes_are_told_apart(cause: str) -> None:
    found = likely_causes(table_of(cause, seed=0))
    assert (found.evidence.cause == cause).all(), str(found)
    parents = {NOTHING: (), GIVEN: ("u0",), OWN: ("y1",)}[cause]
    assert found.graph.parents("y1") == parents
    if cause == OWN:  # high values go missing, with slope -2 per unit
        assert found.slopes["y1"] < -0.5


@pytest.mark.slow
def test_how_often_causes_are_mistaken() -> None:
    """Of 60 columns of 20 tables: own values are taken for the cause of at most 3 columns that lose values at random or
    for a complete column's sake (none is), and of at least 45 that do mask themselves (52 are).
    """
    own = {
        cause: sum((likely_causes(table_of(cause, seed)).evidence.cause == OWN).sum() for seed in range(20))
        for cause in CAUSES
    }
    assert own[NOTHING] <= 3 and own[GIVEN] <= 3 and own[OWN] >= 45, own


def test_a_skewed_column_is_not_taken_for_one_that_masks_itself() -> None:
    for seed in range(2):
        found = likely_causes(table_of(NOTHING, seed, columns=2, skewed=True))
        assert (found.evidence.cause == NOTHING).all(), str(found)


@pytest.mark.parametrize(("rise", "told"), [(0.6, True), (0.3, False)])
def test_groups_of_rows_do_not_turn_the_side_that_goes_missing(rise: float, told: bool) -> None:
    """Within each of two groups y rises with w, over both it falls (Simpson 1951); its high values go missing.

    Where it rises little, hardly a value of the higher group is seen, so that nothing may tell the side.
    """
    for seed in range(2):
        random = np.random.default_rng(seed)
        group = random.random(400) < 0.4
        w = np.where(group, 1.3, -0.8) + 0.6 * random.normal(size=400)
        y = np.where(group, -1.8, 1.1) + rise * w + 0.4 * random.normal(size=400)
        y = (y - y.mean()) / y.std()
        gaps = random.random(400) < 1 / (1 + np.exp(1.0 - 3 * y))
        frame = pd.DataFrame({"y": np.where(gaps, np.nan, y), **{n: w + 0.2 * random.normal(size=400) for n in "vw"}})
        found = likely_causes(Table.from_frame(frame))
        assert found.slopes.get("y", 0.0) <= 0 and (not told or "y" in found.slopes), str(found)


@pytest.mark.parametrize(("followed", "looked_at"), [(0.0, False), (2.0, True)])
def test_an_own_value_is_looked_at_where_gaps_follow_the_regression_by_a_line_or_a_square(
    followed: float, looked_at: bool
) -> None:
    """Of a column with two peaks the values of one may go missing that lie in the middle of what predicts them."""
    random = np.random.default_rng(0)
    w = random.normal(size=800)
    y = w + 0.3 * random.normal(size=800)
    seen = random.random(800) < 1 / (1 + np.exp(followed * (w**2 - 1) - 1))
    assert (gap_evidence(y, seen, w[:, None]).slope != 0) == looked_at


def test_where_no_column_says_anything_of_the_gaps_nothing_moves() -> None:
    """A single column cut off at a threshold: its shape alone is no evidence."""
    y = np.random.default_rng(0).normal(size=300)
    found = likely_causes(Table.from_frame(pd.DataFrame({"y": np.where(y > 0.5, np.nan, y)}), auxiliary=[]))
    assert (found.evidence.cause == NOTHING).all()


@pytest.mark.parametrize(("curve", "told"), [(0.0, 0), (0.5, 12)])
@pytest.mark.parametrize("rows", [300, 1_000])
def test_a_bend_is_told_from_selection_by_the_own_value(curve: float, told: int, rows: int) -> None:
    """Low values go missing.  Where y rises by a line, what is seen flattens towards them too, and is no bend: at most
    0 nats in twelve tables.  Where it flattens by itself, 12 nats and more.
    """
    found = []
    for seed in range(12):
        random = np.random.default_rng(seed)
        u = random.normal(size=rows)
        y = (np.expm1(curve * u) / curve if curve else u) + 0.5 * random.normal(size=rows)
        y = (y - y.mean()) / y.std()
        seen = random.random(rows) > 1 / (1 + np.exp(2 + 4 * y))
        found.append(nats_of_own_bend(y, seen, u[:, None], 4.0))
    assert sum(nats > 3 for nats in found) == told, found


def cut_off(seed: int, side: int) -> pd.DataFrame:
    """A lognormal column, half explained, of which the three in ten farthest on one side are missing."""
    random = np.random.default_rng(seed)
    u = random.normal(size=500)
    y = 100 * side * np.exp(0.6 * u + 0.8 * random.normal(size=500))
    return pd.DataFrame({"u": u, "y": np.where(y > np.quantile(y, 0.7), np.nan, y) * side})


@pytest.mark.parametrize("side", [1, -1])
def test_a_threshold_that_no_slope_fits_is_said(side: int, caplog: pytest.LogCaptureFixture) -> None:
    """The truth is four times what is imputed, or a fifth of it; said of at least 6 of 10 tables (7 and 10 are)."""
    frames = [cut_off(seed, side) for seed in range(10)]
    found = [likely_causes(Table.from_frame(frame, kinds="continuous")) for frame in frames]
    assert sum(list(causes.ends) == ["y"] for causes in found) >= 6
    causes, frame = next((causes, frame) for causes, frame in zip(found, frames, strict=True) if causes.ends)
    end = causes.ends["y"]
    assert end.is_upper == (side > 0) and end.at == pytest.approx(frame.y.max() if side > 0 else frame.y.min())
    causes.say()
    assert f"seen values stop at {end.at:.4g}" in caplog.text and f"none is seen {end.beyond}" in str(causes)


def test_no_threshold_is_said_where_gaps_are_gradual() -> None:
    """Of 36 columns one may stop by chance; of skewed ones the natural end is not where gaps are."""
    tables = [table_of(cause, seed, skewed=skewed) for cause in CAUSES for seed in range(2) for skewed in (False, True)]
    assert sum(len(likely_causes(table).ends) for table in tables) <= 1


def test_levels_atoms_and_few_values_are_not_judged() -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"u": random.normal(size=200), "level": random.choice(["a", "b"], 200)})
    frame["atom"] = np.where(random.random(200) < 0.7, 0.0, random.normal(size=200))
    frame["few"] = random.normal(size=200)
    frame.loc[random.random(200) < 0.3, ["atom"]] = np.nan
    frame.loc[random.random(200) < 0.3, ["level"]] = None
    frame.loc[:4, "few"] = np.nan
    found = likely_causes(Table.from_frame(frame, kinds={"atom": "continuous", "few": "continuous"}))
    assert found.evidence.own.isna().all() and not found.slopes


def test_evidence_needs_predictors_that_gaps_follow() -> None:
    random = np.random.default_rng(0)
    y, w = random.normal(size=400), random.normal(size=(400, 1))
    assert gap_evidence(y, y < 0.3, w).own < 0  # w says nothing of y, so that only its shape could


def test_gina_goes_by_it_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="pyro_mnar"):
        model = GINA(table_of(OWN, seed=0), seed=0)
    assert "gaps of 'y0': caused by its own value" in caplog.text
    assert [(edge.parent, edge.child) for edge in model.graph.edges] == [(f"y{d}", f"R[y{d}]") for d in range(3)]
    slopes = model.mechanism.slope_in_own_value([0, 1, 2])
    assert slopes is not None and bool((slopes[:3] < -0.5).all())  # held where the evidence is
    ignorable = GINA(table_of(GIVEN, seed=1), seed=0)
    assert ignorable.graph.kind().overall == "MAR" and bool((ignorable.mechanism.own_slope == 0).all())


def test_weak_evidence_moves_nothing_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="pyro_mnar"):
        model = GINA(table_of(OWN, seed=1), seed=0)
    assert model.causes is not None
    probability = model.causes.evidence.probability
    assert 0.9 < probability["y0"] < STRONG < probability["y1"]
    assert model.graph.parents("y0") == ("u0", "u1") and model.graph.parents("y1") == ("y1",)
    assert "column 'y0': its own values may cause its gaps, on weak evidence (probability 0.94)" in caplog.text
    assert "perhaps by its own value (probability 0.94)" in str(model.causes)
    assert "'y1'" not in caplog.text


def test_what_is_declared_is_taken_as_it_was() -> None:
    table = table_of(OWN, seed=1)
    model = GINA(table, mechanism=SelfMasking, seed=0)
    assert model.causes is None and not model.shrinkage and isinstance(model.mechanism, SelfMasking)
    assert isinstance(GINA(table.schema, seed=0).mechanism, SelfMasking)  # a schema says nothing of the gaps


def test_shrinkage_counts_once_and_only_lowers_the_bound(own_store: None) -> None:
    table = table_of(GIVEN, seed=1, rows=60)
    model = GINA(table, latent_dim=2, seed=0)
    guide, objective = ZeroImpute(table, 2, seed=0), ImportanceWeightedELBO(2)
    network = model.decoder.network
    with torch.no_grad():
        network.linear.weight.fill_(0.5)
        network.correction[0].weight.fill_(1.0)
        network.correction[2].weight.fill_(0.2)
        expected = 0.5 * (2 * 10 * 0.25 + 2 * 20 * 1.0 + 50 * 0.04 / 0.1**2)
        network.linear.weight[0, 0] = 3.0  # squares of the first column sum to 9.25, which counts as 1 + log 9.25
        expected += 0.5 * 2 * (1 + math.log(9.25) - 0.5)
    losses = []
    for model.shrinkage in (True, False):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            losses.append(objective.loss(model, guide, table.batch().take(torch.arange(20))))
    assert losses[0] - losses[1] == pytest.approx(expected)
    with pytest.raises(ValueError, match="shrinkage, decoder: expected one of them"):
        GINA(table, decoder=model.decoder, shrinkage=True)


def test_a_saved_fit_keeps_what_was_found(tmp_path) -> None:
    table = table_of(OWN, seed=1, rows=120)
    model = GINA(table, latent_dim=1, seed=0)
    result = fit(model, ZeroImpute(table, 1, seed=0), table, epochs=1, progress=False, compile="eager")
    result.save(tmp_path / "fit")
    loaded = Fit.load(tmp_path / "fit").model
    assert loaded.graph == model.graph and loaded.shrinkage
    torch.testing.assert_close(loaded.mechanism.own_slope, model.mechanism.own_slope)
    torch.testing.assert_close(loaded.state_dict(), model.state_dict())
