"""A table of scenarios holds what pooling each of them gives."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pyro_mnar import Fit, Table, compare, fit, impute, sensitivity
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import Ignorable, SelfMasking


@pytest.fixture(scope="module")
def table() -> Table:
    rng = np.random.default_rng(0)
    u = rng.normal(size=80)
    frame = pd.DataFrame({"u": u, "a": u + rng.normal(size=80), "b": rng.normal(size=80)})
    frame.loc[rng.random(80) < 0.3, "a"] = np.nan
    return Table.from_frame(frame, auxiliary=["u"])


@pytest.fixture(scope="module")
def fits(table: Table) -> dict[str, Fit]:
    models = {"MAR": Ignorable(table, latent_dim=1, seed=0), "self-masked": SelfMasking(table, latent_dim=1, seed=0)}
    guide = ZeroImpute(table, 1, seed=0)
    return {name: fit(model, guide, table, epochs=2, progress=False) for name, model in models.items()}


def analysis(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    errors = pd.Series({"mean": frame.a.std() / 80**0.5, "slope": 0.1})
    return pd.Series({"mean": frame.a.mean(), "slope": np.polyfit(frame.u, frame.a, 1)[0]}), errors


OPTIONS: dict[str, Any] = {"num_draws": 4, "num_particles": 10}


def test_every_pair_of_fit_and_delta_is_pooled(table: Table, fits: dict[str, Fit]) -> None:
    deltas = [{}, {"a": 0.5}, {"a": -0.5}]
    found = sensitivity(analysis, fits, table=table, deltas=deltas, dfcom=79, **OPTIONS)
    frame = found.to_frame("mean")
    assert frame[["scenario", "delta"]].to_numpy().tolist() == [
        [name, delta] for name in fits for delta in ("none", "a +0.5", "a -0.5")
    ]
    assert "bound" not in frame
    for row, (name, delta) in enumerate((name, delta) for name in fits for delta in deltas):
        drawn = impute(fits[name], table, delta=delta, **OPTIONS)
        expected = drawn.pool(analysis, dfcom=79).to_frame().loc["mean"]
        assert frame.loc[row, ["estimate", "lower", "upper", "p"]].tolist() == pytest.approx(
            expected[["estimate", "lower", "upper", "p"]].tolist()
        )
    assert len(found.to_frame()) == 12
    assert "all deltas of a fit have the fit's bound" in repr(found)


def test_bounds_stand_beside_fits_and_are_shared_by_deltas(table: Table, fits: dict[str, Fit]) -> None:
    held_out = table.take(np.arange(20))
    found = sensitivity(
        analysis, fits, table=table, held_out=held_out, deltas={"as fitted": {}, "half": {"a": 0.5}}, **OPTIONS
    )
    bounds = compare(fits, held_out).to_frame()
    for name in fits:
        rows = found.to_frame().query("scenario == @name")
        assert set(rows["bound"]) == {bounds.loc[name, "log_evidence"]}
        assert set(rows["bound_error"]) == {bounds.loc[name, "standard_error"]}


def test_imputations_stand_beside_fits(table: Table, fits: dict[str, Fit]) -> None:
    drawn = impute(fits["MAR"], table, **OPTIONS)
    found = sensitivity(analysis, {"drawn": drawn, "fitted": fits["MAR"]}, table=table, **OPTIONS)
    drawn_rows, fitted_rows = (part.pooled.estimates for part in found.scenarios)
    np.testing.assert_array_equal(drawn_rows, fitted_rows)
    alone = sensitivity(analysis, drawn)
    np.testing.assert_array_equal(alone.scenarios[0].pooled.estimates, drawn_rows)


def test_plot_has_a_line_a_scenario(table: Table, fits: dict[str, Fit]) -> None:
    found = sensitivity(analysis, fits, table=table, deltas=[{}, {"a": 0.5}], **OPTIONS)
    axes = found.plot("slope")
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["MAR none", "MAR a +0.5", "self-masked none", "self-masked a +0.5"]
    assert axes.get_xlabel() == "slope (95% interval)"
    with pytest.raises(ValueError, match="coefficient: expected one of"):
        found.plot()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"scenarios": {}}, ValueError, "scenarios: expected at least one fit or imputations, got none"),
        (
            {"table": None},
            ValueError,
            "table: expected the table to impute with the fits ['MAR', 'self-masked']",
        ),
        ({"scenarios": {"x": 1.0}}, TypeError, "scenario 'x': expected a fit or imputations, got float"),
        ({"deltas": {"a": 0.5}}, TypeError, "deltas: expected several, as a list or by name"),
        ({"deltas": [{"a": [0.5] * 80}]}, TypeError, "deltas: expected names for deltas that are not plain numbers"),
    ],
)
def test_refuses(
    table: Table, fits: dict[str, Fit], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    settings: dict[str, Any] = {"scenarios": fits, "table": table, **OPTIONS}
    with pytest.raises(error, match=re.escape(message)):
        sensitivity(analysis, **{**settings, **options})
