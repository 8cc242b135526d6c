"""A likelihood of one's own: the column's distribution in the model's units, and refusals where values leave it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from pyro_mnar import Batch, Table, fit, impute, partially_observed, rows
from pyro_mnar.distributions import Levels, StandardizedCounts, distribution_for
from pyro_mnar.training.telling_rows import telling_rows

pytestmark = pytest.mark.usefixtures("own_store")

N = 60
KINDS = {"visits": "count", "smokes": "binary", "grade": "ordinal", "colour": "categorical", "income": "positive"}


def frame_of() -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "visits": random.poisson(3.0, N).astype(float),
            "smokes": random.choice(["no", "yes"], N),
            "grade": random.integers(1, 5, N).astype(float),
            "colour": random.choice(["blue", "green", "red"], N),
            "income": random.lognormal(size=N),
            "height": random.normal(170, 10, N),
        }
    )
    frame.iloc[:12] = frame.iloc[:12].where(pd.DataFrame(False, index=range(12), columns=frame.columns))
    frame.loc[0, "height"] = 170.0
    return frame


def table_of(**options: object) -> Table:
    return Table.from_frame(frame_of(), auxiliary=[], kinds=KINDS, **options)


def standardised(table: Table, column: str) -> torch.Tensor:
    at = table.schema.names.index(column)
    return table.x[table.mask[:, at], at][:, None]


def test_each_kind_has_the_probabilities_of_its_own_units() -> None:
    table, frame = table_of(), frame_of()
    one = torch.ones(1)
    values = {name: frame[name].dropna().to_numpy() for name in frame}

    def found(column: str, **parameters: object) -> np.ndarray:
        return distribution_for(table, column, parameters).log_prob(standardised(table, column))[:, 0].numpy()

    close = np.testing.assert_allclose
    close(found("visits", rate=2.5 * one), stats.poisson.logpmf(values["visits"], 2.5))
    close(
        found("visits", total_count=4.0 * one, probs=0.3 * one),
        stats.nbinom.logpmf(values["visits"], 4, 0.7),
    )
    inflated = np.log(0.2 * (values["visits"] == 0) + 0.8 * stats.poisson.pmf(values["visits"], 2.5))
    close(found("visits", rate=2.5 * one, gate=0.2 * one), inflated)
    close(found("smokes", probs=0.3 * one), np.log(np.where(values["smokes"] == "yes", 0.3, 0.7)))
    shares = {"blue": 0.2, "green": 0.3, "red": 0.5}
    close(found("colour", probs=torch.tensor([[0.2, 0.3, 0.5]])), np.log(pd.Series(values["colour"]).map(shares)))
    cuts = torch.tensor([-1.0, 0.0, 1.5])
    below = np.concatenate([[0.0], 1 / (1 + np.exp(-(cuts.numpy() - 0.4))), [1.0]])
    codes = values["grade"].astype(int) - 1
    close(found("grade", predictor=0.4 * one, cutpoints=cuts), np.log(below[codes + 1] - below[codes]))
    column = table.schema.columns[4]
    lognormal = stats.lognorm.logpdf(values["income"], s=0.5 * column.std, scale=np.exp(column.mean + 0.1 * column.std))
    close(found("income", loc=0.1 * one, scale=0.5 * one), lognormal + np.log(values["income"] * column.std))


def test_parameters_of_another_kind_and_unknown_columns_are_refused() -> None:
    table = table_of()
    with pytest.raises(ValueError, match=r"column 'visits' of kind 'count': expected \['rate'\] or .*, got \['loc'\]"):
        distribution_for(table, "visits", {"loc": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"column 'colour': expected \(..., rows, 1, 3\) numbers"):
        distribution_for(table, "colour", {"logits": torch.zeros(1, 2)})
    with pytest.raises(ValueError, match="column 'weight': expected one of"):
        distribution_for(table, "weight", {"loc": 0.0, "scale": 1.0})


def of_one(column: str, fn: Callable[[Batch, torch.Tensor], dist.Distribution]) -> Callable[[Batch], None]:
    """A model of one column by a likelihood of its own, and of the others by a plain one."""

    def model(batch: Batch) -> None:
        level = pyro.param("level", torch.tensor(0.0))
        others = [name for name in batch.names if name != column]
        with rows(batch):
            partially_observed("y", fn(batch, level), batch, columns=[column])
            scale = batch.x.new_ones(len(batch), len(others))
            partially_observed("x", dist.StudentT(4.0, 0.0 * scale, scale), batch, columns=others)

    return model


def nothing(batch: Batch) -> None:
    pass


WRONG = {
    "visits": lambda batch, level: dist.Poisson(level.exp().expand(len(batch), 1)),
    "smokes": lambda batch, level: dist.Bernoulli(logits=level.expand(len(batch), 1)),
    "income": lambda batch, level: dist.LogNormal(level.expand(len(batch), 1), 1.0),
    "colour": lambda batch, level: Levels(level.expand(len(batch), 1, 3), torch.tensor([[0.0, 1.0, 2.0]])),
    "grade": lambda batch, level: StandardizedCounts(
        dist.Poisson(level.exp().expand(len(batch), 1)), torch.zeros(1), torch.ones(1)
    ),
}


@pytest.mark.parametrize("column", WRONG)
def test_values_outside_the_support_are_refused_by_column_with_the_cure(column: str) -> None:
    """Nothing is observed of these columns in the first twelve rows, and the check is not of the first rows alone."""
    message = rf"site 'y', column '{column}': expected observed values within the support of .*distribution_for"
    with pytest.raises(ValueError, match=message):
        fit(of_one(column, WRONG[column]), nothing, table_of(), epochs=1, progress=False)


def test_a_column_in_its_own_units_takes_a_plain_likelihood() -> None:
    """The rate is the mean of the counts, exactly, and imputed counts are counts."""
    table = table_of(standardize={"visits": False})
    fitted = fit(
        of_one("visits", WRONG["visits"]), nothing, table, epochs=200, batch_size=N, learning_rate=0.1, progress=False
    )
    rate = fitted.store["params"]["level"].exp().item()
    assert rate == pytest.approx(np.nanmean(frame_of()["visits"]), abs=1e-3)
    drawn = impute(fitted, table, num_draws=3, num_particles=5)
    visits = drawn.draws[:, drawn.cells[1] == 0]
    assert (visits == visits.round()).all() and visits.std() > 0


def test_the_same_likelihood_of_the_standardised_column_gives_the_same_rate() -> None:
    table = table_of()
    model = of_one(
        "visits",
        lambda batch, level: distribution_for(table, "visits", {"rate": level.exp().expand(len(batch), 1)}),
    )
    fitted = fit(model, nothing, table, epochs=200, batch_size=N, learning_rate=0.1, progress=False)
    assert fitted.store["params"]["level"].exp().item() == pytest.approx(np.nanmean(frame_of()["visits"]), abs=1e-3)


def test_unknown_columns_are_not_left_unstandardised() -> None:
    with pytest.raises(ValueError, match=r"standardize: expected modelled columns, .* got 'weight'"):
        table_of(standardize={"weight": False})


def test_values_come_back_from_own_units_as_they_went_in() -> None:
    table = table_of(standardize=False)
    assert [(column.mean, column.std) for column in table.schema.columns] == [(0.0, 1.0)] * 6
    heights = table.schema.columns[5]
    assert heights.std_in_units == pytest.approx(frame_of()["height"].std(ddof=0))
    np.testing.assert_array_equal(standardised(table, "visits")[:, 0].numpy(), frame_of()["visits"].dropna())


def test_rows_that_tell_hold_the_extremes_of_each_column() -> None:
    x = torch.full((9_000, 2), torch.nan)
    x[:, 0] = torch.arange(9_000.0)
    x[4_500:, 1] = 0.0
    x[8_999, 1], x[5_000, 1] = 1.0, -1.0
    assert telling_rows(Batch.of(x)).tolist() == [0, 5_000, 8_999]
