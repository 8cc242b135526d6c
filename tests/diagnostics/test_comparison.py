"""Comparing graphs: the number is the exact held-out evidence outside U, on equal terms or not at all."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

from checks import gina_pair, table_with_gaps
from pyro_mnar import Batch, Fit, Table, compare, fit, mechanisms, observe_mask, partially_observed, rows
from pyro_mnar.diagnostics.probe import empty_guide
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import GINA, Ignorable, PartialVAE, SelfMasking
from pyro_mnar.nn import MLP
from pyro_mnar.nn.likelihoods import Decoder, GaussianNoise
from pyro_mnar.training.evidence import log_evidence


def table_with_complete_column(num_rows: int = 8) -> Table:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num_rows, 2))
    x[::2, 1] = np.nan
    return Table.from_frame(pd.DataFrame(x, columns=["u", "x"]))


def pair(table: Table, **options: object) -> Fit:
    model, guide = gina_pair(table, **options)
    return Fit(model, guide, table.schema)


def one_latent(table: Table) -> Fit:
    decoder = Decoder(MLP([1, 2]), GaussianNoise([True, True], noise=1.0))
    model = GINA(table, latent_dim=1, mechanism=mechanisms.FullyConnected, decoder=decoder, seed=0)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return Fit(model, empty_guide, table.schema)  # z from the prior, which 40,000 particles cover


def exact(fit: Fit, batch: Batch, *, outside_u: bool) -> np.ndarray:
    """log p(x_o, r | u) on a grid of z and of the missing x; column 0 is complete and serves as U."""
    model, grid = fit.model, torch.linspace(-9, 9, 1501)
    found = []
    with torch.no_grad():
        for n in range(len(batch)):
            row = batch.take(torch.tensor([n]))
            fn = model.decoder(grid[:, None])
            log_p = model.prior(row.aux).log_prob(grid[:, None])
            if not outside_u:
                log_p = log_p + fn.log_prob(row.x)[:, 0]
            if row.mask[0, 1]:
                log_p = log_p + fn.log_prob(row.x)[:, 1]
                odds = model.mechanism(row.x, grid[:1, None])[0, 1]
                log_p = log_p + torch.nn.functional.logsigmoid(odds)
            else:
                x = torch.stack([row.x[0, :1].expand(len(grid)), grid], -1)  # the mechanism sees u as it is
                missing = torch.nn.functional.logsigmoid(-model.mechanism(x, grid[:, None])[:, 1])
                density = dist.Normal(fn.loc, fn.scale)
                each = density.log_prob(grid[:, None, None].expand(-1, len(grid), 2))[..., 1]  # (x, z)
                log_p = log_p + (each + missing[:, None]).logsumexp(0) + (grid[1] - grid[0]).log()
            found.append((log_p.logsumexp(0) + (grid[1] - grid[0]).log()).item())
    return np.array(found)


@pytest.mark.parametrize("outside_u", [True, False])
def test_the_evidence_outside_u_is_exact_where_the_mechanism_sees_u(outside_u: bool):
    table = table_with_complete_column()
    fitted = one_latent(table)
    expected = exact(fitted, table.batch(), outside_u=outside_u)
    found = log_evidence(fitted, table, num_particles=40_000, outside_u=outside_u)
    np.testing.assert_allclose(found.log_p, expected, atol=0.03)
    assert found.gain.max() < 0.01


def test_leaving_u_out_changes_nothing_where_no_column_serves_as_u():
    table = table_with_gaps()
    fitted = pair(table)
    with_u, without = (
        log_evidence(fitted, table, num_particles=20, outside_u=outside).log_p for outside in (False, True)
    )
    np.testing.assert_array_equal(with_u, without)


def test_doubling_the_particles_never_lowers_the_bound_and_chunks_do_not_matter():
    table = table_with_complete_column()
    fitted = one_latent(table)
    whole = log_evidence(fitted, table, num_particles=20_000)
    assert (whole.gain >= 0).all()
    chunked = log_evidence(fitted, table, num_particles=20_000, elements_at_once=3000)
    np.testing.assert_allclose(chunked.log_p, whole.log_p, atol=0.1)


def test_a_comparison_has_paired_differences_and_a_caution():
    table = table_with_gaps(60)
    train, held_out = table.take(range(40)), table.take(range(40, 60))
    fits = {
        name: pair(train, mechanism=m) for name, m in {"own": mechanisms.SelfMasking, "all": mechanisms.General}.items()
    }
    found = compare(fits, held_out)
    bounds = found.to_frame()
    per_row = {name: log_evidence(one, held_out, num_particles=1000).log_p for name, one in fits.items()}
    best = max(per_row, key=lambda name: per_row[name].mean())
    other = next(name for name in per_row if name != best)
    assert list(bounds.index) == list(found.per_row.columns) == [best, other]
    assert bounds.loc[best, "log_evidence"] == pytest.approx(per_row[best].mean())
    difference = per_row[other] - per_row[best]
    assert bounds.loc[other, "difference"] == pytest.approx(difference.mean())
    assert bounds.loc[other, "difference_error"] == pytest.approx(difference.std(ddof=1) / 20**0.5)
    assert bounds.loc[best, "difference"] == 0.0
    assert found.paired().loc[(best, other), "difference"] == pytest.approx(-difference.mean())
    assert "cannot tell graphs apart" in " ".join(repr(found).split())
    assert "cannot tell graphs" in found._repr_html_() and "start alike" not in repr(found)


def test_fits_that_did_not_start_alike_are_compared_with_a_warning(caplog: pytest.LogCaptureFixture):
    random = np.random.default_rng(0)
    x = random.normal(size=(100, 1)) + 0.5 * random.normal(size=(100, 4))
    x[random.random(x.shape) < [0.3, 0.3, 0.0, 0.0]] = np.nan
    table = Table.from_frame(pd.DataFrame(x, columns=list("abuv")))
    fits = {
        start: fit(
            GINA(table, mechanism=mechanisms.Constant, seed=0),
            ZeroImpute(table, 3, seed=0),
            table,
            start=start,
            epochs=1,
            progress=False,
        )
        for start in ("data", "random")
    }
    with caplog.at_level("WARNING", logger="pyro_mnar"):
        found = compare(fits, table)
    said = "data started from the data and stayed near a linear law, random did not"
    assert said in caplog.text and said in " ".join(repr(found).split()) and said in found._repr_html_()


def test_a_frame_is_encoded_in_the_units_of_the_training_rows():
    table = table_with_gaps(60)
    train = Table.from_frame(table.frame.iloc[:40], auxiliary=["u0"])
    fits = {"a": pair(train), "b": pair(train, mechanism=mechanisms.SelfMasking)}
    frame = table.frame.iloc[40:]
    pd.testing.assert_frame_equal(compare(fits, frame).to_frame(), compare(fits, train.new_rows(frame)).to_frame())


def refused(other: Fit, match: str, table: Table) -> None:
    with pytest.raises(ValueError, match=match):
        compare({"one": pair(table), "other": other}, table)


def test_fits_of_other_quantities_are_refused_by_what_differs():
    table = table_with_gaps()
    frame = table.frame
    refused(pair(Table.from_frame(frame.drop(columns="x2"), auxiliary=["u0"])), "modelled columns: .*'x2'", table)
    refused(pair(Table.from_frame(frame.drop(columns="u0"), auxiliary=[])), r"U: .*\['u0'\]", table)
    refused(pair(Table.from_frame(frame.iloc[5:], auxiliary=["u0"])), "units of columns .*other", table)
    without = frame.assign(x2=frame["x2"].fillna(0.0))
    refused(pair(Table.from_frame(without, auxiliary=["u0"])), "columns that go missing", table)
    refused(pair(table, mechanism_weight=0.5), "fit 'other': expected .* β = 1, got β = 0.5", table)
    refused(pair(table, mechanism_weight=0.0), "fit 'other': expected .* β = 1, got β = 0", table)
    vae = PartialVAE(table, latent_dim=2)
    refused(Fit(vae, ZeroImpute(table, 2), table.schema), "fit 'other': its model does not score the mask", table)


def test_the_mask_as_u_too_few_fits_and_too_few_particles_are_refused():
    frame = table_with_gaps().frame.drop(columns="u0")
    by_mask = Table.from_frame(frame, auxiliary="mask")
    with pytest.raises(ValueError, match="U is the mask itself"):
        compare({"a": pair(by_mask), "b": pair(by_mask)}, by_mask)
    table = table_with_gaps()
    with pytest.raises(ValueError, match="at least two"):
        compare({"a": pair(table)}, table)
    with pytest.raises(ValueError, match="num_particles: expected at least 1000, got 100"):
        compare({"a": pair(table), "b": pair(table)}, table, num_particles=100)


def test_a_model_without_the_primitives_cannot_leave_u_out():
    table = table_with_complete_column()

    def model(batch: Batch) -> None:
        with rows(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(batch), 1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).expand([len(batch), 2]).mask(batch.mask).to_event(1), obs=batch.x)
            observe_mask("r", z.expand(*z.shape[:-1], 2), batch)

    own = Fit(model, ZeroImpute(table, 1), table.schema)
    with pytest.raises(ValueError, match="no site made by partially_observed"):
        log_evidence(own, table, num_particles=5, outside_u=True)


def test_a_model_of_the_users_own_compares():
    table = table_with_gaps()
    weight = torch.nn.Parameter(torch.ones(3))

    def model(batch: Batch) -> None:
        with rows(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(batch), 1), 1.0).to_event(1))
            x = partially_observed("x", dist.Normal(z * weight.detach(), 1.0), batch)
            observe_mask("r", 0.5 + 0 * x, batch)

    own = Fit(model, ZeroImpute(table, 1), table.schema)
    assert np.isfinite(compare({"own": own, "gina": pair(table)}, table).to_frame()["log_evidence"]).all()


@pytest.mark.slow
def test_the_true_graph_wins_where_the_data_can_tell():
    rng = np.random.default_rng(0)
    u = rng.normal(size=3000)
    z = 0.8 * u + 0.6 * rng.normal(size=3000)
    x = z[:, None] * [1.0, -1.0, 1.0] + 0.4 * rng.normal(size=(3000, 3))
    x[rng.uniform(size=x.shape) > 1 / (1 + np.exp(2 * x - 1))] = np.nan
    frame = pd.DataFrame(x, columns=["a", "b", "c"]).assign(u=u)
    table = Table.from_frame(frame.iloc[:2000], auxiliary=["u"])
    fits = {}
    for name, model in {
        "self": SelfMasking(table, latent_dim=1, sign=-1, seed=0),
        "ignorable": Ignorable(table, latent_dim=1, seed=0),
    }.items():
        guide = ZeroImpute(table, 1, hidden=[32], seed=1)
        fits[name] = fit(model, guide, table, epochs=40, learning_rate=1e-2, progress=False)
    found = compare(fits, table.new_rows(frame.iloc[2000:])).to_frame()
    assert found.index[0] == "self"
    assert found.loc["ignorable", "difference"] < -4 * found.loc["ignorable", "difference_error"]
