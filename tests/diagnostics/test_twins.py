"""The search for twins against a model that has an exact one, and one that the data identify."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_mnar import Batch, Fit, Table, fit, observe_mask, partially_observed, rows
from pyro_mnar.diagnostics import search_twins
from pyro_mnar.diagnostics.steering import Aimed, Steered
from pyro_mnar.infer.session import Session

LINE = np.linspace(-14, 14, 8001)
SLOPE = -1.5
INTERCEPT = -(SLOPE**2) / 2  # so that c = 1: see pyro_mnar.diagnostics.twins


def nothing(batch: Batch) -> None:
    """A guide that leaves everything to the model."""


class SelfMasked(nn.Module):
    """x ~ N(mean + slope · beside, sd²), seen with log-odds linear in x; what stands beside is complete."""

    def __init__(self, of_x: list[float], of_mask: list[float]) -> None:
        super().__init__()
        self.of_x, self.of_mask = (nn.Parameter(torch.tensor(values)) for values in (of_x, of_mask))

    def forward(self, batch: Batch) -> None:
        mean, log_sd, *slopes = self.of_x
        center = mean + sum((s * batch.x[:, d + 1 : d + 2] for d, s in enumerate(slopes)), batch.x.new_zeros(()))
        with rows(batch):
            law = dist.Normal(center.expand(len(batch), 1), log_sd.exp())
            x = partially_observed("x", law, batch, columns=["x"])
            observe_mask("r", self.of_mask[0] + self.of_mask[1] * x, batch, columns=["x"])


def missing_mean(mean: float, intercept: float, slope: float) -> float:
    """E[x | missing] for x ~ N(mean, 1), by the trapezium rule."""
    weights = np.exp(-0.5 * (LINE - mean) ** 2) / (1 + np.exp(intercept + slope * LINE))
    return float((LINE * weights).sum() / weights.sum())


def amputed(count: int, slopes: list[float], noise: float, of_mask: tuple[float, float], seed: int = 0) -> Table:
    random = np.random.default_rng(seed)
    beside = random.normal(size=(count, len(slopes)))
    x = beside @ np.array(slopes) + noise * random.normal(size=count)
    seen = random.random(count) < 1 / (1 + np.exp(-of_mask[0] - of_mask[1] * x))
    frame = pd.DataFrame({"x": np.where(seen, x, np.nan)})
    for at in range(len(slopes)):
        frame[f"beside{at}"] = beside[:, at]
    return Table.from_frame(frame, auxiliary=[], standardize=dict.fromkeys(frame.columns, False))


@pytest.mark.slow
def test_the_search_spans_an_exact_twin() -> None:
    """N(0, 1) seen by σ(λ₀ + λ₁ x) and N(λ₁, 1) seen by σ(-λ₀ - λ₁ x) have one law of what is observed.

    Imputed means of 0.34 and -1.84; between them the bound has a valley, at which other starts stop.
    """
    table = amputed(1000, [], 1.0, (INTERCEPT, SLOPE))
    fitted = Fit(SelfMasked([0.0, 0.0], [INTERCEPT, SLOPE]), nothing, table.schema)
    found = search_twins(fitted, table, fresh=0, epochs=30)
    span = missing_mean(0.0, INTERCEPT, SLOPE) - missing_mean(SLOPE, -INTERCEPT, -SLOPE)
    assert span == pytest.approx(2.17, abs=0.01)
    assert found.found
    assert found.spread.loc["x", "range"] > 0.8 * span


def test_a_start_with_a_worse_bound_is_no_twin() -> None:
    """Starts stay where they are, the rate being next to nothing; the redrawn one imputes elsewhere, and worse."""

    class Redrawn(SelfMasked):
        def reset_parameters(self) -> None:
            with torch.no_grad():
                self.of_x.copy_(torch.tensor([4.0, 0.0]))

    table = amputed(100, [], 1.0, (0.0, -0.5))
    fitted = Fit(Redrawn([0.0, 0.0], [0.0, -0.5]), nothing, table.schema)
    found = search_twins(fitted, table, fresh=1, profile=False, epochs=1, learning_rate=1e-9)
    assert found.bounds.index[~found.bounds["equal"]].tolist() == ["fresh 1"]
    assert not found.found and found.is_best
    assert found.spread.loc["x", "range"] < 0.01 and found.spread.loc["x", "range_all"] > 2


@pytest.mark.slow
def test_the_search_claims_no_twin_where_a_complete_column_tells_the_values() -> None:
    table = amputed(1000, [1.0], 0.3, (0.5, -1.0))
    model = SelfMasked([0.0, -1.2, 1.0], [0.5, -1.0])
    fitted = fit(model, nothing, table, epochs=30, num_particles=20, progress=False)
    found = search_twins(fitted, table, fresh=0, epochs=30)
    assert not found.found
    assert any(str(name).startswith("less of x") for name in found.bounds.index)
    assert found.spread.loc["x", "range_in_sd"] < 0.15


def test_a_steered_fit_is_where_it_was_steered_to() -> None:
    """The mean that the objective holds is the posterior mean over gaps, by quadrature."""
    table = amputed(400, [], 1.0, (0.0, -1.0))
    model = SelfMasked([0.2, 0.0], [0.0, -1.0])
    with Session(0).running():
        batch = table.batch()
        mean = Steered(2000).mean(Aimed(model, batch.x, 1, 0), nothing, batch)
        aimed = [Aimed(model, batch.x, 1, 0, target) for target in (mean, mean + 1)]
        loss = [Steered(200).loss_and_grads(one, nothing, batch) for one in aimed]
    assert mean == pytest.approx(missing_mean(0.2, 0.0, -1.0), abs=0.02)
    assert (loss[1] - loss[0]) / len(table) == pytest.approx(5.0, abs=0.5)
