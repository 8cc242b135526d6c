"""Both ends go missing: summed out by quadrature, recovered from simulated tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_expit, logsumexp

from pyro_mnar import Fit, Table, impute
from pyro_mnar.distributions.own_value import OwnValueMechanism, given_missing
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.mechanisms import TwoSided
from pyro_mnar.models import GINA

POINTS, WEIGHTS = np.polynomial.hermite_e.hermegauss(80)


@pytest.mark.parametrize("curvature", [0.01, 1.0, 20.0])
def test_missing_values_are_summed_out_as_by_fine_quadrature(curvature: float) -> None:
    made, at = TwoSided(1), torch.linspace(-9.0, 9.0, 200_001)
    with torch.no_grad():
        made.raw_curvature.fill_(np.log(np.expm1(np.arcsinh(curvature))))
        made.raw_level.fill_(0.8)
        made.middle.fill_(-0.4)
    assert made.curvature.item() == pytest.approx(curvature)
    fn = dist.Normal(torch.tensor([[0.3]]), 0.9)
    log_odds = lambda x: made(x, x[..., :0])  # noqa: E731
    found = given_missing(fn, OwnValueMechanism(log_odds), torch.zeros(1, 1), (0,), torch.ones(1, 1, dtype=torch.bool))
    missing = torch.sigmoid(-log_odds(at[:, None, None])) * fn.log_prob(at[:, None, None]).exp()
    total = torch.trapezoid(missing.flatten(), at)
    torch.testing.assert_close(found.log_missing.item(), total.log().item(), rtol=0, atol=1e-6)
    mean = torch.trapezoid(missing.flatten() * at, at) / total
    torch.testing.assert_close(found.mean.item(), mean.item(), rtol=0, atol=1e-5)


def table_of(rows: int) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """y = 0.8 u + 0.6 e, seen with log-odds 1.5 - 1.2 (y - 0.3)²."""
    random = np.random.default_rng(7)
    u = random.normal(size=rows)
    y = 0.8 * u + 0.6 * random.normal(size=rows)
    seen = random.random(rows) < 1 / (1 + np.exp(-(1.5 - 1.2 * (y - 0.3) ** 2)))
    return pd.DataFrame({"u": u, "y": np.where(seen, y, np.nan)}), y


def maximum_likelihood(frame: pd.DataFrame) -> NDArray[np.float64]:
    """a, b, c of the mechanism, with the law of y given u estimated beside them."""
    u, y = frame["u"].to_numpy(), frame["y"].to_numpy()
    seen = ~np.isnan(y)

    def loss(theta: NDArray[np.float64]) -> float:
        a, log_b, c, intercept, slope, log_s = theta
        mean, s = intercept + slope * u, np.exp(log_s)
        log_odds = lambda x: a - np.exp(log_b) * (x - c) ** 2  # noqa: E731
        log_seen = -0.5 * ((y - mean) / s)[seen] ** 2 - log_s + log_expit(log_odds(y[seen]))
        log_missing = logsumexp(log_expit(-log_odds(mean[~seen, None] + s * POINTS)), axis=1, b=WEIGHTS / WEIGHTS.sum())
        return -(log_seen.sum() + log_missing.sum()) / len(u)

    a, log_b, c, *_ = minimize(loss, [1.0, 0.0, 0.0, 0.0, 0.5, -0.5], method="BFGS").x
    return np.array([a, np.exp(log_b), c])


@pytest.mark.slow
def test_a_mechanism_is_found_as_by_exact_maximum_likelihood() -> None:
    """Here the law of y given u is known, there it is estimated too: so both differ a little."""
    frame, _ = table_of(400)
    u, y = (torch.tensor(frame[name].to_numpy())[:, None] for name in ("u", "y"))
    gaps, made = y.isnan(), TwoSided(1)
    row = y.nan_to_num()
    law = dist.Normal(0.8 * u, 0.6)

    def log_odds(x: torch.Tensor) -> torch.Tensor:
        return made(x, x[..., :0])

    def loss() -> torch.Tensor:
        descent.zero_grad()
        missing = given_missing(law, OwnValueMechanism(log_odds), row, (0,), gaps).log_missing
        value = -(missing.sum() + torch.nn.functional.logsigmoid(log_odds(row))[~gaps].sum()) / len(row)
        value.backward()
        return value

    descent = torch.optim.LBFGS(made.parameters(), max_iter=25, line_search_fn="strong_wolfe")
    descent.step(loss)
    found = [made.level.item(), made.curvature.item(), made.middle.item()]
    np.testing.assert_allclose(found, maximum_likelihood(frame), atol=0.3)


def test_a_fit_comes_back_from_its_file(tmp_path: Path) -> None:
    table = Table.from_frame(table_of(30)[0], dtype=torch.float64)
    model = GINA(table, mechanism=TwoSided, numbers="summed", seed=0)
    assert model.summed_columns == {0, 1}
    Fit(model, ZeroImpute(table, model.latent_dim, hidden=[2], seed=0), table.schema).save(tmp_path / "fit")
    loaded = Fit.load(tmp_path / "fit")
    torch.testing.assert_close(loaded.model.mechanism.level, model.mechanism.level)
    assert np.isfinite(impute(loaded, table, num_draws=2, seed=0).draws).all()


def test_levels_without_an_order_have_no_ends() -> None:
    table = Table.from_frame(pd.DataFrame({"a": ["x", "y", None, "z"] * 5, "b": np.arange(20.0)}))
    with pytest.raises(ValueError, match=r"column 'a' has levels without an order, which have no ends"):
        GINA(table, mechanism=TwoSided)
