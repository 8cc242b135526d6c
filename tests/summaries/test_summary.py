"""What a fit says of its mask, against exact maximum likelihood, bootstrap and the models' own parameters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDelta, AutoNormal
from scipy import optimize
from scipy.integrate import trapezoid
from torch import nn

from pyro_mnar import (
    Batch,
    Fit,
    MissingnessGraph,
    Table,
    fit,
    mechanisms,
    observe_mask,
    partially_observed,
    rows,
    shared_latents,
)
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import GINA, Ignorable, LatentDependent, NotMIWAE, PartialVAE, SelfMasking
from pyro_mnar.summaries import summarise

GRID = np.linspace(-12, 12, 2001)
Z = 1.959963984540054


def nothing(batch: Batch) -> None:
    """A guide that leaves everything to the model."""


class OneColumn(nn.Module):
    """A normal column that masks itself by a logistic curve: mean, log standard deviation, intercept, slope."""

    def __init__(self, values: np.ndarray) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.as_tensor(values))

    def forward(self, batch: Batch) -> None:
        mean, log_sd, intercept, slope = self.values
        with rows(batch):
            x = partially_observed("x", dist.Normal(mean.expand(len(batch), 1), log_sd.exp()), batch)
            observe_mask("r", intercept + slope * x, batch)


def self_masked(count: int = 1000, slope: float = 1.2) -> Table:
    random = np.random.default_rng(1)
    x = random.normal(2.0, 1.5, count)
    gone = random.random(count) < 1 / (1 + np.exp(1.0 - slope * (x - 2) / 1.5))
    return Table.from_frame(pd.DataFrame({"income": np.where(gone, np.nan, x)}), auxiliary=[])


def maximum_likelihood(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Exact estimates and their standard errors from the whole observed information; gaps by quadrature."""
    seen, gaps = table.x[table.mask].numpy(), int((~table.mask).sum())

    def loss(parameters: np.ndarray) -> float:
        mean, log_sd, intercept, slope = parameters
        scale = np.exp(log_sd)
        of_seen = -0.5 * ((seen - mean) / scale) ** 2 - log_sd - np.log1p(np.exp(-(intercept + slope * seen)))
        weights = np.exp(-0.5 * GRID**2) / (1 + np.exp(intercept + slope * (mean + scale * GRID)))
        return -float(of_seen.sum() + gaps * np.log(trapezoid(weights, GRID)))

    best = optimize.minimize(loss, [0.3, 0.1, 0.8, -0.8], options={"gtol": 1e-5}).x
    step = 1e-3 * np.eye(4)
    hessian = [
        [loss(best + a + b) - loss(best + a - b) - loss(best - a + b) + loss(best - a - b) for b in step] for a in step
    ]
    return best, np.sqrt(np.diag(np.linalg.inv(np.array(hessian) / 4e-6)))


@pytest.mark.slow
def test_slope_and_standard_error_of_self_masking_are_those_of_exact_maximum_likelihood() -> None:
    """Five times the error that the slope has with mean and scale held: within 6 % by 1,000 particles a row."""
    table = self_masked()
    best, errors = maximum_likelihood(table)
    summary = Fit(OneColumn(best), nothing, table.schema, table=table, num_rows=len(table)).summary(ignorable=False)
    (of_income,) = summary.dependences
    assert of_income.change == pytest.approx(best[3])
    assert of_income.is_same_in_all_rows
    assert (of_income.upper - of_income.lower) / (2 * Z) == pytest.approx(errors[3], rel=0.06)
    assert "observed information of the model's parameters" in summary.intervals
    words = f"income: each standard deviation up multiplies the odds of being observed by {np.exp(best[3]):.2f} ("
    assert words in str(summary)


def test_a_fit_at_which_the_bound_still_rises_has_no_intervals() -> None:
    table = self_masked(400)
    summary = Fit(OneColumn(np.array([1.0, 0.5, 0.5, 1.0])), nothing, table.schema, table=table).summary(
        ignorable=False
    )
    assert np.isnan(summary.dependences[0].lower)
    assert "has not converged" in summary.intervals


def survey() -> Table:
    """Amounts, shares and words with gaps; age is complete and serves as U."""
    random = np.random.default_rng(0)
    z = random.normal(size=300)
    frame = pd.DataFrame(
        {
            "income": 5000 + 1500 * (z + 0.6 * random.normal(size=300)),
            "rent": np.exp(6 + 0.5 * z + 0.3 * random.normal(size=300)),
            "region": random.choice(["north", "east", "south"], 300),
            "age": 40 + 10 * random.normal(size=300),
        }
    )
    for name in ("income", "rent", "region"):
        frame.loc[random.random(300) < 0.3, name] = None
    return Table.from_frame(frame, kinds={"rent": "positive"})


def spoken(model: nn.Module, table: Table, **options: object) -> str:
    """What a fit of these parameters says."""
    guide = ZeroImpute(table, model.latent_dim, hidden=[4], seed=1)
    fitted = Fit(model, guide, table.schema, table=table, **options)
    return " ".join(str(summarise(fitted, with_intervals=False, with_ignorable=False)).split())


def test_each_model_says_what_its_own_parameters_are() -> None:
    table = survey()
    model = SelfMasking(table, latent_dim=2, seed=0)
    model.mechanism.put_lines(slope=torch.tensor([-1.0, 0.5, 0.0, 0.0]))  # a graph's, since regions have no order
    with torch.no_grad():
        model.mechanism.raw_other_slope[2] = torch.tensor([0.7, -0.4])
    told = spoken(model, table)
    assert "income: each standard deviation up multiplies the odds of being observed by 0.37" in told
    assert "rent: each standard deviation of the logarithm up multiplies the odds of being observed by 1.65" in told
    levels = table.schema.columns[2].kind.levels
    assert f"region: level {levels[1]!r} multiplies the odds of being observed by 2.01" in told
    assert f"region: level {levels[2]!r} multiplies the odds of being observed by 0.67" in told
    assert f"against {levels[0]!r}" in told
    assert "Latents of a row: z of size 2" in told
    noises = [value for name, value in model.decoder.named_parameters() if name.endswith("log_noise")]
    size = noises[0][0].exp().item() * table.schema.columns[0].std
    assert f"in their own units: income {size:.3g}, rent a factor of" in told


def test_parents_come_from_graphs_latents_and_masks() -> None:
    table = survey()
    edges = [("Z", "R[income]"), ("rent", "R[income]"), ("R[rent]", "R[region]"), ("age", "R[rent]")]
    model = GINA(table, latent_dim=1, graph=MissingnessGraph(edges, table), seed=0)
    with torch.no_grad():
        model.mechanism.raw_other_slope.fill_(0.8)
    fitted = Fit(model, ZeroImpute(table, 1, hidden=[4], seed=1), table.schema, table=table)
    summary = summarise(fitted, with_intervals=False, with_ignorable=False)
    told = " ".join(str(summary).split())
    assert "income: each standard deviation of the logarithm of rent up multiplies the odds" in told
    assert "income: the latent moves the odds of being observed up or down by a factor of" in told
    assert "region: seeing rent multiplies the odds of being observed by 2.23" in told
    assert "rent: each standard deviation of age up multiplies the odds of being observed by 2.23" in told
    frame = summary.to_frame().set_index(["column", "cause"])
    assert frame.loc[("region", "R[rent]"), "factor"] == pytest.approx(np.exp(0.8))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda t: Ignorable(t, latent_dim=1, seed=0), "each standard deviation of age up multiplies"),
        (lambda t: NotMIWAE(t, latent_dim=1, mechanism=mechanisms.FullyConnected, seed=0), "on average over rows"),
        (lambda t: LatentDependent(t, latent_dim=1, seed=0), "the latent moves the odds"),
        (lambda t: PartialVAE(t, latent_dim=1, seed=0), "unknown: the model has no site made by observe_mask"),
    ],
)
def test_our_other_models_say_something_true(make: Callable, words: str) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(60, 3)), columns=["x", "y", "age"])
    frame.loc[random.random(60) < 0.3, "x"] = np.nan
    frame.loc[random.random(60) < 0.3, "y"] = np.nan
    table = Table.from_frame(frame)
    model = make(table)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("mechanism"):
                parameter.add_(0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    assert words in spoken(model, table)


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ("probit", "income: each standard deviation up moves the probit index of being observed by -0.70"),
        ("cloglog", "multiplies the rate -log(chance of being missing) by 0.50"),
        ("threshold", "income: a hard threshold in income, which has no slope"),
        (lambda eta: torch.sigmoid(2 * eta), "multiplies the odds of being observed by 0.25"),
    ],
)
def test_a_function_of_a_user_is_told_in_the_words_of_its_link(link: object, words: str) -> None:
    table = self_masked(100)

    def model(batch: Batch) -> None:
        slope = pyro.param("slope", torch.tensor(-0.7))
        with rows(batch):
            x = partially_observed("x", dist.Normal(batch.x.new_zeros(len(batch), 1), 1.0), batch)
            observe_mask("r", 0.3 + slope * x, batch, link=link)

    with pyro.get_param_store().scope():
        model(table.batch())
        fitted = Fit.from_svi(model, nothing, table)
    assert words in " ".join(str(summarise(fitted, with_intervals=False, with_ignorable=False)).split())


def test_a_bent_mechanism_says_that_its_number_is_a_mean_at_imputed_values() -> None:
    table = self_masked(200)

    def model(batch: Batch) -> None:
        with rows(batch):
            x = partially_observed("x", dist.Normal(batch.x.new_zeros(len(batch), 1), 1.0), batch)
            observe_mask("r", 1.0 - 0.5 * x**2, batch)

    summary = Fit(model, nothing, table.schema, table=table).summary(ignorable=False)
    (own,) = summary.dependences
    assert not own.is_same_in_all_rows
    assert "at imputed values" in str(summary)
    assert summary.intervals == "none: the model has no parameters"
    # (η(x + 1) - η(x - 1)) / 2 = -x, at observed and imputed x alike
    assert own.least < -1 < 1 < own.greatest
    assert own.change == pytest.approx(0.0, abs=0.5)


def test_known_slopes_have_no_interval() -> None:
    table = self_masked(300)

    class Known(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mean, self.mechanism = nn.Parameter(torch.zeros(1)), mechanisms.SelfMasking(1, slope=-0.4)

        def forward(self, batch: Batch) -> None:
            with rows(batch):
                x = partially_observed("x", dist.Normal(self.mean.expand(len(batch), 1), 1.0), batch)
                observe_mask("r", self.mechanism(x, x), batch)

    summary = Fit(Known(), nothing, table.schema, table=table).summary(ignorable=False)
    (own,) = summary.dependences
    assert own.change == pytest.approx(-0.4)
    assert np.isnan(own.lower)
    assert summary.intervals.startswith("observed information")


def test_wide_tables_are_not_looked_through_column_by_column() -> None:
    x = np.random.default_rng(0).normal(size=(20, 120))
    table = Table.from_numpy(np.where(x > 1, np.nan, x), auxiliary=[])
    told = spoken(SelfMasking(table, latent_dim=2, seed=0), table)
    assert "unknown: 120 columns and auxiliaries are too many to change one at a time" in told


def test_blocks_are_one_line_each() -> None:
    random = np.random.default_rng(3)
    frame = pd.DataFrame(random.normal(size=(200, 4)), columns=["rent", "heating", "size", "income"])
    frame.loc[random.random(200) < 0.3, ["rent", "heating", "size"]] = np.nan
    frame.loc[random.random(200) < 0.2, "income"] = np.nan
    table = Table.from_frame(frame, auxiliary=[])
    model = GINA(table, latent_dim=1, mechanism=mechanisms.SelfMasking, blocks=True, seed=0)
    share = float(frame["rent"].isna().mean())
    told = spoken(model, table)
    assert f"rent, heating and size: missing together in {share:.0%} of rows, one event" in told
    assert "income: each standard deviation up multiplies the odds of being observed by" in told
    assert "rent: " not in told


class WithPriors:
    """A known mean and a slope with a prior."""

    def __call__(self, batch: Batch) -> None:
        slope = pyro.sample("slope", dist.Normal(batch.x.new_zeros(()), 1.0))
        with rows(batch):
            x = partially_observed("x", dist.Normal(batch.x.new_zeros(len(batch), 1), 1.0), batch)
            observe_mask("r", 0.5 + slope * x, batch)


def test_a_posterior_of_the_parameters_gives_the_intervals_and_a_point_none() -> None:
    table, model = self_masked(100), WithPriors()
    guide = AutoNormal(shared_latents(model), init_scale=0.2)
    with pyro.get_param_store().scope():
        guide(table.batch())
    location = guide.locs.slope.item()
    (own,) = Fit(model, guide, table.schema, table=table).summary(ignorable=False).dependences
    # 100 draws: their 2.5 % quantile has an error of about 0.27 standard deviations.
    assert [own.lower, own.upper] == pytest.approx([location - Z * 0.2, location + Z * 0.2], abs=4 * 0.27 * 0.2)
    point = AutoDelta(shared_latents(model))
    with pyro.get_param_store().scope():
        point(table.batch())
    summary = Fit(model, point, table.schema, table=table).summary(ignorable=False)
    assert "the guide holds the parameters at a point" in summary.intervals


def test_print_is_short_and_a_loaded_fit_asks_for_its_rows(tmp_path) -> None:
    table = survey()
    model = SelfMasking(table, latent_dim=1, seed=0)
    fitted = fit(model, ZeroImpute(table, 1, seed=0), table, epochs=2, progress=False)
    fitted.interrupted = True
    lines = str(fitted).splitlines()
    assert lines[0] == "SelfMasking with guide ZeroImpute: 4 columns, 300 rows, 2 epochs, interrupted"
    assert lines[1].startswith("Bound: -")
    assert lines[2].startswith("Particles: K = 5; twice as many would add ")
    assert lines[3].startswith("Warning: interrupted after 2 epochs")
    assert len(lines) <= 6
    fitted.save(tmp_path / "fit.pt")
    loaded = Fit.load(tmp_path / "fit.pt")
    assert str(loaded) == str(fitted)
    assert "fit.summary(table)" in str(loaded.summary(ignorable=False))
    again, first = (
        summarise(one, table, with_intervals=False, with_ignorable=False).to_frame() for one in (loaded, fitted)
    )
    pd.testing.assert_frame_equal(again, first)


class Regression(nn.Module):
    """x given a complete y, x masking itself."""

    def __init__(self) -> None:
        super().__init__()
        self.of_x, self.of_mask = nn.Parameter(torch.tensor([0.0, 0.5, -0.3])), nn.Parameter(torch.tensor([0.5, -0.8]))

    def forward(self, batch: Batch) -> None:
        start, slope, log_sd = self.of_x
        with rows(batch):
            x = partially_observed("x", dist.Normal(start + slope * batch.x[:, 1:], log_sd.exp()), batch, columns=["x"])
            observe_mask("r", self.of_mask[0] + self.of_mask[1] * x, batch, columns=["x"])


@pytest.mark.slow
def test_bootstrap_and_curvature_agree() -> None:
    """The ratio of a standard deviation of 10 fits to the true one is √(χ²/9), outside the range with P = .002."""
    random = np.random.default_rng(0)
    y = random.normal(size=300)
    x = 0.8 * y + 0.6 * random.normal(size=300)
    frame = pd.DataFrame({"x": np.where(random.random(300) < 1 / (1 + np.exp(1 - 1.5 * x)), np.nan, x), "y": y})
    table = Table.from_frame(frame, auxiliary=[])
    fitted = fit(
        Regression(), nothing, table, epochs=300, num_particles=20, batch_size=300, bootstrap=10, progress=False
    )
    summary, alone = fitted.summary(ignorable=False), fitted.without_bootstrap().summary(ignorable=False)
    assert "10 bootstrap fits" in summary.intervals and "observed information" in alone.intervals
    (one,), (other,) = summary.dependences, alone.dependences
    assert one.change == pytest.approx(other.change)
    ratio = (one.upper - one.lower) / 2.26 / ((other.upper - other.lower) / Z)  # t_9's quantile for the normal's
    assert 0.38 < ratio < 1.75
