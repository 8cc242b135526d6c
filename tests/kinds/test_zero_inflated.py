"""A share at zero, then positive: read, scored against SciPy, drawn, fitted, imputed, self-masked."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from pyro_mnar import Fit, Table, fit, impute
from pyro_mnar.distributions import PointOrDensity
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.kinds import ZeroInflated, from_plain, to_plain
from pyro_mnar.models import GINA, SelfMasking
from pyro_mnar.nn.likelihoods import MixedLikelihood

ROWS = 200


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    z = rng.normal(size=ROWS)
    rain = np.where(rng.random(ROWS) < 0.4, 0.0, np.exp(1 + 0.8 * z + 0.3 * rng.normal(size=ROWS)))
    return pd.DataFrame(
        {"cloud": z + 0.3 * rng.normal(size=ROWS), "rain": np.where(rng.random(ROWS) < 0.8, rain, np.nan)}
    )


@pytest.fixture
def table(frame: pd.DataFrame) -> Table:
    return Table.from_frame(frame, kinds={"rain": "zero_inflated"})


def fitted_to(table: Table, model_class: type = GINA) -> Fit:
    model = model_class(table, seed=0)
    return fit(model, ZeroImpute(table, model.latent_dim, seed=0), table, seed=0, epochs=3, progress=False)


def test_zero_goes_to_a_point_and_back(table: Table, frame: pd.DataFrame) -> None:
    column = table.schema.columns[1]
    seen = frame["rain"].dropna().to_numpy()
    found = column.decode(column.encode(seen))
    np.testing.assert_allclose(found, seen, rtol=1e-12)
    np.testing.assert_array_equal(found == 0, seen == 0)
    single = column.decode(column.encode(seen).astype(np.float32))
    np.testing.assert_array_equal(single == 0, seen == 0)
    assert from_plain(to_plain(column.kind)) == column.kind


def test_the_likelihood_is_a_bernoulli_times_a_log_normal(table: Table) -> None:
    likelihood = MixedLikelihood(table.schema)
    outputs = torch.randn(ROWS, likelihood.num_outputs, generator=torch.Generator().manual_seed(1))
    number = likelihood.positions.index((1,))
    logits, mean = outputs.split(likelihood.widths, -1)[number].numpy().T
    column, seen = table.schema.columns[1], table.mask[:, 1].numpy()
    values = table.frame["rain"].to_numpy()
    scale = column.std * likelihood.parts[number].noise.noise.item()
    with np.errstate(divide="ignore"):
        density = stats.lognorm.logpdf(values, s=scale, scale=np.exp(column.mean + column.std * mean))
        density = density + np.log(column.std * values)  # from the user's units to the standardised logarithm
    share = 1 / (1 + np.exp(-logits))
    expected = np.where(values == 0, np.log(share), np.log1p(-share) + density)
    found = likelihood(outputs).log_prob(table.x)[:, 1].detach().numpy()
    np.testing.assert_allclose(found[seen], expected[seen], rtol=1e-9)


def test_draws_have_the_share_and_the_mean(table: Table) -> None:
    """40,000 draws; each check fails by chance once in 100,000 runs."""
    likelihood = MixedLikelihood(table.schema)
    number, column = likelihood.positions.index((1,)), table.schema.columns[1]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fn = likelihood.parts[number](torch.tensor([[0.5, 0.3]]))
        x = fn.sample((40_000,))[:, 0, 0]
    values = column.decode(x.numpy())
    share = 1 / (1 + np.exp(-0.5))
    assert (values >= 0).all()
    assert abs((values == 0).mean() - share) < 4.4 * np.sqrt(share * (1 - share) / 40_000)
    expected = fn.mean.item()
    assert abs(x.mean() - expected) < 4.4 * x.std() / 200


@pytest.mark.parametrize("model", [GINA, SelfMasking])
def test_fitted_and_imputed(table: Table, frame: pd.DataFrame, model: type) -> None:
    imputations = impute(fitted_to(table, model), table, num_draws=10, num_particles=20)
    gaps = frame["rain"].isna()
    drawn = np.stack([completed["rain"][gaps] for completed in imputations.frames()])
    assert (drawn >= 0).all()
    assert 0.05 < (drawn == 0).mean() < 0.95
    assert (imputations.mean()["rain"] >= 0).all()
    for completed in imputations.frames():
        pd.testing.assert_frame_equal(completed[~gaps], frame[~gaps])


def test_refusals(frame: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"'cloud': expected numbers from 0 \(kind 'zero_inflated'\), got -"):
        Table.from_frame(frame, kinds={"cloud": "zero_inflated"})
    with pytest.raises(ValueError, match=r"'rain': expected zeros and two different values above .* got 0 zeros"):
        Table.from_frame(frame.replace({"rain": 0.0}, np.nan), kinds={"rain": ZeroInflated()})


def test_bounds_hold_draws_and_decide_about_zero(frame: pd.DataFrame) -> None:
    gaps = frame["rain"].isna()
    upper = pd.Series(np.where(np.arange(ROWS) % 2, 3.0, np.nan)).where(gaps)
    lower = pd.Series(np.where(np.arange(ROWS) % 2, np.nan, 1.0)).where(gaps)
    kinds = {"rain": "zero_inflated"}
    table = Table.from_frame(frame, kinds=kinds, lower={"rain": lower}, upper={"rain": upper})
    drawn = pd.concat([f["rain"] for f in impute(fitted_to(table), table, num_draws=20, num_particles=10).frames()])
    below, above = upper.notna()[drawn.index].to_numpy(), lower.notna()[drawn.index].to_numpy()
    assert drawn[below].between(0, 3).all()
    assert (drawn[below] == 0).any()
    assert (drawn[above] >= 1).all()
    with pytest.raises(ValueError, match="'zero_inflated': expected lower bounds of 0 or near the values above it"):
        Table.from_frame(frame, kinds=kinds, lower={"rain": pd.Series(1e-9, index=frame.index).where(gaps)})


def test_the_mass_between_bounds_is_that_of_point_and_density() -> None:
    from pyro_mnar.distributions.truncation.families import truncate

    normal = stats.norm(0.3, 0.7)
    density, point = dist.Normal(0.3, 0.7).expand([1, 1]), torch.tensor([-2.0])
    fn = PointOrDensity(torch.tensor([[0.5]]), density, point, 1e-4 * torch.ones(1))
    share = 1 / (1 + np.exp(-0.5))
    for lower, upper in ((-3.0, 0.5), (-1.0, 0.5), (-np.inf, 0.1)):
        of = truncate(fn, torch.tensor([lower]), torch.tensor([upper]), torch.ones(1, 1, dtype=torch.bool))
        expected = share * (lower <= -2 <= upper) + (1 - share) * (normal.cdf(upper) - normal.cdf(lower))
        np.testing.assert_allclose(of.log_mass().exp().item(), expected, rtol=1e-6)
