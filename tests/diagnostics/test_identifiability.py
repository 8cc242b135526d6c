"""The identifiability report: every line can say what it is for, no line says more than data can show, and twins are
found.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

from checks import gina_pair, table_with_gaps
from pyro_mnar import (
    Batch,
    Fit,
    MissingnessGraph,
    Table,
    check_identifiability,
    fit,
    mechanisms,
    observe_mask,
    rows,
)
from pyro_mnar.datasets import synthetic
from pyro_mnar.datasets.anova import Parameters, anova, log_evidence, twin
from pyro_mnar.diagnostics.other_sides import predicted
from pyro_mnar.diagnostics.plain_words import ORDER_OF_HELP, WORDS
from pyro_mnar.guides import ANOVAConditional, ZeroImpute
from pyro_mnar.models import ANOVA, GINA, Ignorable, PartialVAE, SelfMasking
from pyro_mnar.nn import priors

VERDICTS = {"violated", "not identified", "no sign against it", "assumed, not testable"}
TWINNED = Parameters(mu=np.zeros(3), zeta=1.0, intercept=-2.0, slope=-2.0)


def report(subject: object, table: Table, **options: object) -> pd.DataFrame:
    return check_identifiability(subject, table, search=False, **options).to_frame()


def line(frame: pd.DataFrame, start: str) -> pd.Series:
    (found,) = [row for _, row in frame.iterrows() if row["paper"].startswith(start)]
    return found


def fit_of(table: Table, **options: object) -> Fit:
    model, guide = gina_pair(table, **options)
    return Fit(model, guide, table.schema)


def test_the_verdicts_never_say_more_than_data_can_show(generators_untouched: None):
    table = table_with_gaps()
    fitted = fit_of(table)
    found = check_identifiability(fitted, table, search=False)
    frame = found.to_frame()
    assert set(frame["verdict"]) <= VERDICTS
    assert list(frame.columns) == ["assumption", "paper", "verdict", "evidence", "advice", "matters"]
    for paper in ("A1, A4", "D2"):
        assert line(frame, paper)["verdict"] == "assumed, not testable"
    assert not (frame["verdict"] == "not identified").any()
    text = found.to_text(detail=True)
    assert "proves nothing" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 120
    assert frame.equals(check_identifiability(fitted, table, search=False).to_frame())


def test_a_bare_model_is_checked_as_far_as_it_goes():
    table = table_with_gaps()
    frame = report(gina_pair(table)[0], table)
    for paper in ("Definition 2.1", "positivity"):
        assert line(frame, paper)["verdict"] == "assumed, not testable"
        assert "needs a fit" in line(frame, paper)["evidence"]
    with pytest.raises(TypeError, match="expected a Table beside a model"):
        check_identifiability(gina_pair(table)[0], table.frame)


def test_the_papers_own_setting_has_more_latents_than_columns():
    """B.1: five latents, three columns."""
    table = Table.from_frame(synthetic("A", 0, rows=300).frame)
    frame = report(GINA(table, latent_dim=5, seed=0), table)
    for paper in ("A5 (injective decoder)", "A5 (injective f_O)", "A3", "Theorem 1, condition 4"):
        assert line(frame, paper)["verdict"] == "violated", paper
    assert line(frame, "A5 (injective decoder)")["evidence"] == "5 latents, 3 columns"
    two = report(GINA(table, latent_dim=2, seed=0), table)
    assert line(two, "A5 (injective decoder)")["verdict"] == "no sign against it"


def test_a_decoder_that_forgets_a_latent_is_not_injective():
    table = table_with_gaps(200)
    model = gina_pair(table)[0]
    assert line(report(model, table), "A5 (injective f_O)")["verdict"] == "no sign against it"
    with torch.no_grad():
        model.decoder.network.linear.weight[:, 0] = 0.0
        model.decoder.network.correction[0].weight[:, 0] = 0.0
    found = line(report(model, table), "A5 (injective f_O)")
    assert found["verdict"] == "violated"
    assert "100% of rows below" in found["evidence"]


def test_a_column_never_seen_with_enough_others_breaks_the_cover():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3))
    x[:25, 0] = np.nan
    x[25:, 1:] = np.nan  # column 0 is always alone
    table = Table.from_frame(pd.DataFrame(x, columns=["a", "b", "c"]), auxiliary=[])
    found = line(report(GINA(table, latent_dim=2, mechanism=mechanisms.SelfMasking, seed=0), table), "A3")
    assert found["verdict"] == "violated"
    assert "2 patterns in 50 rows" in found["evidence"] and "never seen with 1 others: 'a'" in found["evidence"]
    fewer = GINA(table, latent_dim=1, mechanism=mechanisms.SelfMasking, seed=0)
    assert line(report(fewer, table), "A3")["verdict"] == "no sign against it"


def test_a_prior_that_does_not_move_with_u_is_seen():
    table = table_with_gaps(60)
    still = report(gina_pair(table, prior=priors.StandardNormal(2))[0], table)
    assert line(still, "p(Z|U)")["verdict"] == "violated"
    assert line(still, "Theorem 1, condition 4")["verdict"] == "violated"
    assert "rank 0 of 4" in line(still, "Theorem 1, condition 4")["evidence"]
    moving = report(gina_pair(table)[0], table)
    assert line(moving, "p(Z|U)")["verdict"] == "no sign against it"
    no_u = Table.from_frame(table.frame.drop(columns="u0"), auxiliary=[])
    assert line(report(gina_pair(no_u)[0], no_u), "p(Z|U)")["evidence"] == "there is no U"


def test_too_few_values_of_u_are_counted():
    frame = table_with_gaps(60).frame
    table = Table.from_frame(frame.assign(u0=np.arange(60) % 3), auxiliary=["u0"])
    found = line(report(gina_pair(table)[0], table), "Theorem 1, condition 4")
    assert found["verdict"] == "violated" and "3 distinct u, 5 needed" in found["evidence"]


def test_the_mask_as_u_is_flagged():
    table = Table.from_frame(table_with_gaps().frame.drop(columns="u0"), auxiliary="mask")
    assert line(report(gina_pair(table)[0], table), "U (section 2.3)")["verdict"] == "violated"


def test_columns_of_few_values_are_not_continuous():
    frame = table_with_gaps(60).frame
    frame["x1"] = frame["x1"].round().clip(-1, 1)
    for kinds, evidence in (({}, "discrete: 'x1'"), ({"x1": "continuous"}, "'x1' takes 3 values")):
        table = Table.from_frame(frame, auxiliary=["u0"], kinds=kinds)
        found = line(report(gina_pair(table)[0], table), "Theorem 1, x")
        assert found["verdict"] == "violated" and evidence in found["evidence"]


def test_shadow_variables_are_what_drives_a_column_and_not_its_mask():
    rng = np.random.default_rng(0)
    u = rng.normal(size=400)
    x = u[:, None] * [1.0, 1.0, 0.0] + rng.normal(size=(400, 3))
    x[rng.uniform(size=x.shape) < 0.3] = np.nan
    frame = pd.DataFrame(x, columns=["a", "b", "c"]).assign(u=u)
    table = Table.from_frame(frame, auxiliary=["u"])
    found = line(report(gina_pair(table, mechanism=mechanisms.SelfMasking)[0], table), "shadow")
    assert found["verdict"] == "violated"
    assert "none for 'c'" in found["evidence"] and "a: u (R 0." in found["evidence"]
    fewer = Table.from_frame(frame.drop(columns="c"), auxiliary=["u"])
    with_shadow = report(gina_pair(fewer, mechanism=mechanisms.SelfMasking)[0], fewer)
    assert line(with_shadow, "shadow")["verdict"] == "no sign against it"
    through_z = report(gina_pair(fewer, mechanism=mechanisms.General)[0], fewer)
    assert line(through_z, "shadow")["verdict"] == "violated"
    ignorable = report(Ignorable(fewer, latent_dim=1, seed=0), fewer)  # slopes on u: nothing to tell apart
    assert line(ignorable, "shadow")["verdict"] == "no sign against it"
    assert "not needed for 'a', 'b'" in line(ignorable, "shadow")["evidence"]


def test_edges_among_r_are_outside_the_theorem():
    table = table_with_gaps()
    graph = MissingnessGraph([("R[x0]", "R[x1]"), ("x0", "R[x0]")], table)
    frame = report(GINA(table, latent_dim=2, graph=graph, seed=0), table)
    found = line(frame, "D2")
    assert found["verdict"] == "violated" and "R[x0] → R[x1]" in found["evidence"]


def test_a_fit_that_ignores_the_mask_cannot_speak_of_positivity():
    table = table_with_gaps()
    found = report(Fit(PartialVAE(table, latent_dim=1), ZeroImpute(table, 1), table.schema), table)
    assert line(found, "positivity")["verdict"] == "assumed, not testable"
    assert line(found, "shadow")["verdict"] == "assumed, not testable"


def test_a_model_without_the_primitives_is_no_obstacle():
    table = table_with_gaps()

    def model(batch: Batch) -> None:
        with rows(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(batch), 1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).expand([len(batch), 3]).mask(batch.mask).to_event(1), obs=batch.x)
            observe_mask("r", z.expand(*z.shape[:-1], 3), batch)

    frame = report(model, table)
    assert line(frame, "A5 (injective f_O)")["verdict"] == "assumed, not testable"
    assert set(frame["verdict"]) <= VERDICTS


def test_the_search_leaves_the_fit_as_it_was_and_survives_a_model_that_cannot_be_copied():
    table = table_with_gaps()
    fitted = fit_of(table)
    before = [p.detach().clone() for p in fitted.model.parameters()]
    found = check_identifiability(fitted, table, epochs=1, num_particles=2, tolerance=1e6, profile=False)
    assert all(torch.equal(a, b) for a, b in zip(before, fitted.model.parameters(), strict=True))
    assert found.twins is not None
    assert list(found.twins.bounds.index) == ["the fit", "as fitted", "reversed", "shifted", "fresh 1"]

    def hidden(batch: Batch) -> torch.Tensor:
        pyro.module("decoder", fitted.model.decoder)
        return fitted.model(batch)

    blocked = check_identifiability(Fit(hidden, fitted.guide, table.schema), table, epochs=1).to_frame()
    assert "cannot be copied" in line(blocked, "Definition 2.1")["evidence"]


def test_predictions_are_least_squares_where_seen():
    rng = np.random.default_rng(0)
    a = rng.normal(size=5000)
    x = np.stack([a, 0.9 * a + 0.1 * rng.normal(size=5000)], 1)
    x[rng.uniform(size=x.shape) < 0.2] = np.nan
    batch = Table.from_numpy(x, auxiliary=[]).batch()
    seen_other = batch.mask[:, 0]
    error = (predicted(batch)[:, 1] - batch.x[:, 0])[seen_other]
    assert error.abs().mean() < 0.05
    assert predicted(batch)[~seen_other, 1].abs().mean() < 0.05


def test_the_twin_of_the_anova_example_has_the_same_law():
    other, log_c = twin(TWINNED)
    np.testing.assert_allclose(log_c, 0, atol=1e-15)
    np.testing.assert_allclose(other.mu, -2)
    assert (other.intercept, other.slope) == (2, 2)
    x = anova(0, rows=200, truth=TWINNED).frame
    difference = log_evidence(x, TWINNED, nodes=100) - log_evidence(x, other, nodes=100)
    np.testing.assert_allclose(difference, 0, atol=1e-7)  # of the quadrature


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_anova_example_at_c_1_is_not_identified(seed: int):
    table = Table.from_frame(anova(seed, rows=1000, truth=TWINNED).frame, auxiliary=[])
    model = ANOVA(table, noise=0.5)
    fitted = fit(model, ANOVAConditional(model), table, epochs=30, seed=seed, progress=False)
    found = check_identifiability(fitted, table, epochs=15, num_particles=5, seed=seed, profile=seed == 0)
    first = line(found.to_frame(), "Definition 2.1")
    assert first["verdict"] == "not identified"
    assert found.twins.means["X1"].max() - found.twins.means["X1"].min() > 0.5


@pytest.mark.slow
def test_self_masking_with_a_shadow_variable_is_not_called_not_identified():
    rng = np.random.default_rng(0)
    u = rng.normal(size=2000)
    z = 0.8 * u + 0.6 * rng.normal(size=2000)
    x = z[:, None] * [1.0, -1.0, 0.8] + 0.45 * rng.normal(size=(2000, 3))
    x[rng.uniform(size=x.shape) > 1 / (1 + np.exp(2 * x - 1))] = np.nan
    table = Table.from_frame(pd.DataFrame(x, columns=["a", "b", "c"]).assign(u=u), auxiliary=["u"])
    model = SelfMasking(table, latent_dim=1, seed=0)
    guide = ZeroImpute(table, 1, hidden=[32], seed=0)
    fitted = fit(model, guide, table, epochs=100, num_particles=10, progress=False)
    frame = check_identifiability(fitted, table, epochs=60, num_particles=10).to_frame()
    assert line(frame, "Definition 2.1")["verdict"] == "no sign against it"
    assert line(frame, "shadow")["verdict"] == "no sign against it"
    assert line(frame, "positivity")["verdict"] == "no sign against it"


@pytest.mark.slow
def test_hard_thresholds_violate_positivity():
    rng = np.random.default_rng(0)
    z = rng.normal(size=1000)
    x = z[:, None] * [1.0, -1.0, 1.0] + 0.5 * rng.normal(size=(1000, 3))
    x[:, 1:][x[:, 1:] > 0] = np.nan
    table = Table.from_frame(pd.DataFrame(x, columns=["a", "b", "c"]))
    model = SelfMasking(table, latent_dim=1, sign=-1, seed=0)
    guide = ZeroImpute(table, 1, hidden=[32], seed=0)
    fitted = fit(model, guide, table, epochs=60, num_particles=10, progress=False)
    found = line(report(fitted, table), "positivity")
    assert found["verdict"] == "violated", found["evidence"]


def test_plain_words_start_with_a_bottom_line_and_leave_no_column_out():
    random = np.random.default_rng(0)
    names = [f"item{number}" for number in range(9)]
    frame = pd.DataFrame(random.normal(size=(60, 9)).round(1), columns=names).mask(random.random((60, 9)) < 0.3)
    table = Table.from_frame(frame.assign(u=random.normal(size=60)), auxiliary=["u"])
    own = check_identifiability(GINA(table, latent_dim=2, mechanism=mechanisms.SelfMasking, seed=0), table)
    text = " ".join(repr(own).split())
    assert text.startswith("Nothing here contradicts your graph, but ")
    assert "each column's own value alone decides whether it is seen" in text
    assert all(f"'{name}'" in text for name in names)  # none of them has a shadow variable, and each is named
    assert "Jacobian" not in text and "Theorem" not in text and "Jacobian" in own.to_text(detail=True)
    chance = check_identifiability(GINA(table, latent_dim=2, mechanism=mechanisms.Constant, seed=0), table)
    frame = chance.to_frame()
    violated = frame[frame["verdict"] == "violated"]
    assert len(violated) and not violated["matters"].any()  # by chance: whatever identifies a cause is not needed
    text = " ".join(repr(chance).split())
    assert text.startswith("Nothing here contradicts your graph. What you assume and cannot test: that no missing")
    assert "It does not matter here" in text


def test_every_line_has_plain_words():
    table = table_with_gaps()
    lines = check_identifiability(gina_pair(table)[0], table).lines
    assert {line.paper for line in lines} == set(WORDS) == {*ORDER_OF_HELP, "A1, A4"}
