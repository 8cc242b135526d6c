"""A fit beside its ignorable companion: the evidence is that of exact likelihoods, and weak evidence is said to be."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from scipy import optimize
from scipy.integrate import trapezoid
from sklearn.datasets import load_diabetes
from torch import nn

from pyro_mnar import (
    Fit,
    MissingnessGraph,
    OwnValueMechanism,
    Table,
    diagnose,
    fit,
    impute,
    observe_mask,
    partially_observed,
    rows,
)
from pyro_mnar.diagnostics import AgainstIgnorable, against_ignorable
from pyro_mnar.diagnostics.ignorable import IGNORABLE_ALREADY, NO_MASK
from pyro_mnar.diagnostics.seen_causes import law_of_seen, unseen_causes
from pyro_mnar.diagnostics.without_mechanism import WithoutMechanism
from pyro_mnar.graphs.gap_regressions import logistic_regression
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.infer.posterior import PosteriorDraws
from pyro_mnar.mechanisms import SelfMasking
from pyro_mnar.models import GINA, PartialVAE
from pyro_mnar.training.evidence import log_evidence

GRID = np.linspace(-9, 9, 2001)


def no_guide(batch):
    pass


class Regression(nn.Module):
    """y ~ N(a + b u, s²), summed out; R of y by u or by y itself."""

    def __init__(self, values, *, masks_itself, weight=1.0):
        super().__init__()
        self.masks_itself, self.weight = masks_itself, weight
        self.values = nn.Parameter(torch.as_tensor(values))

    def forward(self, batch):
        level, change, log_sd, intercept, slope = self.values
        of_u = None if self.masks_itself else batch.aux

        def log_odds(y):
            return intercept + slope * (y if of_u is None else of_u)

        own = OwnValueMechanism(log_odds, slope=slope.expand(1), telling=None if self.masks_itself else frozenset())
        with rows(batch):
            law = dist.Normal(level + change * batch.aux, log_sd.exp())
            y = partially_observed("y", law, batch, mechanism=own if self.weight == 1 else None)
            observe_mask("r", log_odds(y), batch, weight=self.weight)


def survey(count, slope, *, by_u=0.0, seed=0):
    """y says little of u, so that u is no rival where y masks itself."""
    random = np.random.default_rng(seed)
    u = random.normal(size=count)
    y = 0.3 * u + random.normal(size=count)
    gone = random.random(count) < 1 / (1 + np.exp(1.0 - slope * y - by_u * u))
    return Table.from_frame(pd.DataFrame({"u": u, "y": np.where(gone, np.nan, y)}), auxiliary=["u"])


def log_likelihood(parameters, table, *, masks_itself):
    """Exact, gaps by quadrature."""
    level, change, log_sd, intercept, slope = parameters
    batch = table.batch()
    u, y, seen = batch.aux[:, 0].numpy(), batch.x[:, 0].numpy(), batch.mask[:, 0].numpy()
    mean, scale = level + change * u, np.exp(log_sd)
    if masks_itself:
        missing = np.exp(-0.5 * GRID**2) / (1 + np.exp(intercept + slope * (mean[~seen, None] + scale * GRID)))
        of_gaps = np.log(trapezoid(missing, GRID) / (2 * np.pi) ** 0.5).sum()
        log_odds = intercept + slope * y
    else:
        log_odds = intercept + slope * u
        of_gaps = -np.logaddexp(0, log_odds[~seen]).sum()
    of_seen = -0.5 * ((y - mean) / scale) ** 2 - log_sd - 0.5 * np.log(2 * np.pi) - np.logaddexp(0, -log_odds)
    return float(of_seen[seen].sum() + of_gaps)


def best(table, *, masks_itself):
    start = [0.0, 0.5, 0.0, 0.5, -0.5 if masks_itself else 0.0]
    return optimize.minimize(lambda p: -log_likelihood(p, table, masks_itself=masks_itself), start).x


def exact_nats(table):
    """The difference of the two criteria: one slope each, the rival's chosen among one."""
    own, seen = (log_likelihood(best(table, masks_itself=m), table, masks_itself=m) for m in (True, False))
    free = table.mask[:, 0].double().mean().item()
    of_nothing = len(table) * (free * np.log(free) + (1 - free) * np.log(1 - free))
    u, r = table.batch().aux.numpy(), table.mask[:, 0].double().numpy()
    gained, price = logistic_regression(r, u).log_likelihood - of_nothing, 0.5 * np.log(len(table))
    return own - price - (seen - (gained if gained < price else price))


@pytest.mark.parametrize(
    ("slope", "by_u", "rows_", "steps"),
    [pytest.param(4.0, 0.0, 300, 400, marks=pytest.mark.slow), (0.0, 1.2, 400, 150)],
)
def test_nats_are_those_of_exact_likelihoods(slope, by_u, rows_, steps):
    """Nothing is drawn that weights depend on, so what is left is the distance of training from the maximum."""
    table = survey(rows_, slope, by_u=by_u, seed=int(by_u > 0))
    model = Regression(best(table, masks_itself=True), masks_itself=True)
    before = model.values.detach().clone()
    found = against_ignorable(Fit(model, no_guide, table.schema, table=table), steps=steps)
    exact = exact_nats(table)
    assert found.nats == pytest.approx(exact, abs=0.3)
    assert (exact > 5) if slope else (exact < -5)
    assert found.nats_error < 0.01
    assert found.weight == pytest.approx(1 / (1 + np.exp(-found.nats)))
    of_y = found.columns.loc["y"]
    assert of_y.averaged == pytest.approx(found.weight * of_y.imputed + (1 - found.weight) * of_y.ignorable)
    assert torch.equal(model.values, before)
    # Without the mechanism, gaps are where the regression of the seen values on u puts them.
    batch, seen = table.batch(), table.mask[:, 0]
    design = torch.cat([torch.ones(len(table), 1), batch.aux], 1)
    beta = torch.linalg.lstsq(design[seen], batch.x[seen]).solution
    column = table.schema.columns[0]
    expected = float((design[~seen] @ beta).mean()) * column.std + column.mean
    assert of_y.ignorable == pytest.approx(expected, abs=0.15 * column.std)  # an average of draws, 200 a row


def test_evidence_without_a_mechanism_and_the_law_of_seen_causes_are_the_evidence_of_an_ignorable_model():
    """Row by row: columns that go missing together as one event, a graph with u and another R, the rest by shares."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(300, 5)), columns=list("abcde"))
    frame.loc[:59, ["a", "b", "c"]] = np.nan
    frame.loc[random.random(300) < 1 / (1 + np.exp(1 - frame.e)), "a"] = np.nan
    frame.loc[random.random(300) < np.where(frame.a.isna(), 0.5, 0.2), "d"] = np.nan
    table = Table.from_frame(frame, auxiliary=["e"])
    graph = MissingnessGraph([("e", "R[a]"), ("R[a]", "R[d]")], table)
    model = GINA(table, latent_dim=1, graph=graph, blocks=True, seed=0)
    result = Fit(model, ZeroImpute(table, 1, seed=0), table.schema)
    law = law_of_seen(result, graph, table, np.arange(300))
    assert law.price == 0 and not unseen_causes(graph)
    _, events, batch = model.blocks(table.batch())
    intercept, slopes = torch.zeros(4), torch.zeros_like(model.mechanism.raw_other_slope)
    of_a = batch.mask[:, :1] | ~batch.mask_modelled[:, :1]
    causes = {0: batch.aux, 1: batch.aux[:, :0], 2: batch.aux[:, :0], 3: of_a}
    for at, inputs in causes.items():
        here = batch.mask_modelled[:, at]
        fitted = logistic_regression(batch.mask[here, at].double().numpy(), inputs[here].double().numpy())
        intercept[at] = min(fitted.intercept, 25.0)
        used = model.mechanism._other_parents[at]
        slopes[at, used] = torch.as_tensor(fitted.slopes)
    with torch.no_grad():
        model.blocks.log_odds.copy_(torch.logit(events.double().mean(0)))
        model.mechanism.put_lines(intercept)
        model.mechanism.raw_other_slope.copy_(slopes)
    with_r = log_evidence(result, table, num_particles=100).log_p
    without = log_evidence(Fit(WithoutMechanism(model), result.guide, table.schema), table, num_particles=100).log_p
    np.testing.assert_allclose(with_r, without + law.log_likelihood, atol=1e-6)


def test_gaps_that_are_taken_for_ignorable_cost_no_companion():
    table = survey(60, 0.0)
    for model, why in ((GINA(table, latent_dim=1, seed=0), IGNORABLE_ALREADY), (PartialVAE(table, seed=0), NO_MASK)):
        result = Fit(model, ZeroImpute(table, model.latent_dim, seed=0), table.schema, table=table)
        found = against_ignorable(result)
        assert (found.why, found.ignorable, str(found)) == (why, None, why)
    told = " ".join(str(result.summary()).split())
    assert f"Against an ignorable fit, in which gaps say nothing of the values behind them: {NO_MASK}" in told
    assert "Against an ignorable fit" not in str(result.summary(ignorable=False))


def beside(nats, moves, weak=()):
    columns = pd.DataFrame({"imputed": 1.0, "ignorable": 0.0, "distance_in_sd": moves, "averaged": 0.5}, list("abc"))
    return AgainstIgnorable(columns, nats, 0.1, dict(weak))


def test_columns_that_move_far_on_weak_evidence_are_warned_of():
    (said,) = beside(2.9, [0.6, -0.7, 0.4]).warnings()
    assert "(the data prefer this fit by 2.9 nats (± 0.1)): a by +0.60 sd and b by -0.70 sd; declare" in said
    (said,) = beside(-20.0, [0.6, 0.0, 0.4]).warnings()
    assert "the data prefer the ignorable fit by 20.0 nats" in said
    assert list(beside(3.1, [0.6, -0.7, 0.4]).warnings()) == []
    assert list(beside(2.9, [0.4, -0.4, 0.4]).warnings()) == []
    (said,) = beside(30.0, [0.6, -0.7, 0.4], {"b": 1.9, "c": 0.5}).warnings()
    assert said.startswith("imputed means of b move by -0.70 sd") and "1.9 nats alone" in said
    lines = list(beside(2.9, [0.6, -0.7, 0.01]).lines())
    assert lines[0] == "the data prefer this fit by 2.9 nats (± 0.1); at even odds its weight is 0.95"
    assert [line[0] for line in lines[1:]] == ["b", "a", "c"]
    assert "less than 0.05 sd" in lines[-1]


def test_where_likelihoods_do_not_compare_means_still_do(caplog):
    table = survey(100, 1.5)
    model = Regression([0.0, 0.5, 0.0, 0.5, -1.0], masks_itself=True, weight=0.5)
    found = against_ignorable(Fit(model, no_guide, table.schema, table=table), steps=20)
    assert np.isnan(found.nats) and found.columns.averaged.isna().all() and found.columns.distance_in_sd.notna().all()
    assert "unknown: expected a mechanism of weight β = 1, got β = 0.5" in str(found)
    assert not list(found.warnings())


def test_a_companion_is_not_made_of_what_cannot_be_trained():
    table = survey(60, 1.5)
    model = Regression([0.0, 0.5, 0.0, 0.5, -1.0], masks_itself=True)
    posterior = Fit(model, PosteriorDraws(), table.schema, table=table)
    assert against_ignorable(posterior).why == (
        "no ignorable fit to compare with: draws of a posterior are not fitted anew: give an ignorable fit"
    )
    with pytest.raises(ValueError, match="table: expected the rows that the fit was trained on"):
        against_ignorable(Fit(model, no_guide, table.schema))


@pytest.mark.slow
def test_a_summary_and_a_diagnosis_say_the_same(caplog):
    """The slope is wrong on purpose: high values of y are taken to go missing where u decides."""
    table = survey(300, 0.0, by_u=1.5, seed=3)
    model = Regression(best(table, masks_itself=True), masks_itself=True)
    result = Fit(model, no_guide, table.schema, table=table)
    with caplog.at_level(logging.WARNING, logger="pyro_mnar"):
        summary = result.summary()
    assert "imputed means move against an ignorable fit on weak evidence" in caplog.text
    told = " ".join(str(summary).split())
    assert "the data prefer the ignorable fit by" in told
    assert f"Warning: {summary.warnings[-1]}" in told and "y by +" in summary.warnings[-1]
    found = diagnose(result, impute(result, table), num_particles=500, replicates=20)
    assert found.against_ignorable.nats == summary.against_ignorable.nats
    line = found.to_frame().set_index("subject").loc["distance from what an ignorable fit imputes"]
    assert line.verdict == "problem" and "declare mechanism=Constant" in line.advice


@pytest.mark.slow
def test_nats_favour_self_masking_where_values_mask_themselves_and_not_where_a_column_does():
    """Diabetes, first four columns; measured: 16 and -97 nats, means 0.1 sd from the truth at best."""
    frame = load_diabetes(as_frame=True).data
    z, chance = (frame - frame.mean()) / frame.std(), np.random.default_rng(0).random(frame.shape)
    names = list(frame.columns[:4])
    for masks_itself in (True, False):
        gone = np.zeros(frame.shape, bool)
        for at in (0, 2, 3, 4):
            of = z.iloc[:, at] if masks_itself else z.iloc[:, -1]
            gone[:, at] = chance[:, at] < 1 / (1 + np.exp(1.3 - (2.5 if masks_itself else 1.5) * of))
        table = Table.from_frame(frame.mask(gone))
        model = GINA(table, mechanism=SelfMasking, seed=0)
        result = fit(model, ZeroImpute(table, model.latent_dim, seed=0), table, start="data", progress=False)
        found = against_ignorable(result)
        assert (found.nats > 5) if masks_itself else (found.nats < -30), names
        truth = pd.Series({n: frame[n][gone[:, frame.columns.get_loc(n)]].mean() for n in found.columns.index})
        near, far = ("imputed", "ignorable") if masks_itself else ("ignorable", "imputed")
        error = {one: ((found.columns[one] - truth).abs() / frame.std()[truth.index]).mean() for one in (near, far)}
        assert error[near] < 0.5 * error[far]
