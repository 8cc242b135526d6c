"""Bounds of a table's gaps: how they are read, refused, kept with a fit, and kept to by imputations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule
from scipy import optimize, stats
from torch import nn

from pyro_mnar import Batch, Fit, Imputations, Table, fit, impute, partially_observed, rows
from pyro_mnar.cli import main
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.kinds import Bounded, Ordinal
from pyro_mnar.models import GINA

NAN = math.nan


def no_latents(batch: Batch) -> None:
    """A guide that leaves everything to the model."""


def survey(dtype: str = "float64") -> pd.DataFrame:
    return pd.DataFrame(
        {"u": [1.0, 2.0, 3.0, 5.0], "y": pd.array([0.5, None, 1.0, None], dtype=dtype)}, index=[*"abcd"]
    )


def table(frame: pd.DataFrame | None = None, **options: Any) -> Table:
    return Table.from_frame(survey() if frame is None else frame, auxiliary=["u"], **options)


def test_a_bound_of_a_column_is_knowledge_and_the_mechanism_scores_its_gaps() -> None:
    bounded = table(lower={"y": 0})
    assert bounded.mask_modelled.all()
    assert bounded.schema.columns[0].incomplete
    batch, column = bounded.batch(), bounded.schema.columns[0]
    assert batch.lower is not None
    assert batch.upper is not None
    assert batch.lower.flatten().tolist() == pytest.approx(column.encode(np.zeros(4)).tolist())
    assert batch.upper.isinf().all()
    assert bounded.schema.bounds == (("y", 0.0, math.inf),)


@pytest.mark.parametrize("given", [pd.Series([NAN, 0.2, NAN, NAN], index=[*"abcd"]), np.array([NAN, 0.2, NAN, NAN])])
def test_a_bound_of_a_cell_is_an_answer_and_the_mechanism_does_not_score_it(given: Any) -> None:
    bounded = table(upper={"y": given})
    assert bounded.mask_modelled.flatten().tolist() == [True, False, True, True]
    assert bounded.schema.columns[0].incomplete
    assert bounded.schema.bounds == ()


def test_a_column_that_never_goes_missing_but_is_censored_has_no_mechanism_and_does_not_serve_as_u() -> None:
    with pytest.warns(UserWarning, match="no auxiliary columns"):
        bounded = Table.from_frame(survey()[["y"]], upper={"y": [NAN, 0.2, NAN, 0.3]})
    assert not bounded.schema.columns[0].incomplete
    assert not bounded.schema.columns[0].is_auxiliary


def test_bounds_of_column_and_cell_together_are_the_tighter_ones() -> None:
    bounded = table(lower={"y": 0}, upper={"y": [NAN, 0.2, 3.0, NAN]})
    assert bounded.bounds is not None
    assert bounded.bounds.lower.ravel().tolist() == [0, 0, 0, 0]
    assert bounded.bounds.upper.ravel().tolist() == [math.inf, 0.2, math.inf, math.inf]
    fresh = bounded.new_rows(survey(), lower={"y": [NAN, -1.0, NAN, 0.5]})
    assert fresh.bounds is not None
    assert fresh.bounds.lower.ravel().tolist() == [0, 0, 0, 0.5]


def test_whole_numbers_and_levels_are_bounded_halfway_to_the_next_one() -> None:
    frame = pd.DataFrame(
        {
            "k": pd.array([0, 3, None, 5], dtype="Int64"),
            "size": pd.Categorical(["S", "M", None, "L"], ["S", "M", "L"], ordered=True),
            "age": pd.array([20, 33, None, 51], dtype="Int64"),
        }
    )
    last = {"k": [NAN, NAN, 2.5, NAN], "size": [None, None, "M", None], "age": [NAN, NAN, 39.7, NAN]}
    kinds = {"k": "count", "age": "continuous"}
    bounded = Table.from_frame(frame, auxiliary=[], kinds=kinds, upper=last, lower={"age": [NAN, NAN, 30.2, NAN]})
    assert bounded.bounds is not None
    columns, line = bounded.schema.columns, bounded.bounds.on_line[:, 2]
    assert line[0].tolist() == pytest.approx([-math.inf, -math.inf, columns[2].encode(np.array([30.5])).item()])
    expected = [c.encode(np.array([v])).item() for c, v in zip(columns, (2.5, 1.5, 39.5), strict=True)]
    assert line[1].tolist() == pytest.approx(expected)
    assert bounded.bounds.lower[2, 2] == 31
    assert bounded.bounds.upper[2, 2] == 39


def test_ends_of_a_kinds_range_are_no_bounds_on_its_line() -> None:
    frame = pd.DataFrame({"p": [1.0, 2.0, NAN], "b": [1.0, 2.0, NAN]})
    options: Any = {"auxiliary": [], "kinds": {"p": "positive", "b": Bounded(0, 10)}}
    ends = Table.from_frame(frame, lower={"p": 0, "b": -1}, upper={"b": 10}, **options).bounds
    assert ends is not None
    assert ends.on_line.isinf().all()
    inner = Table.from_frame(frame, upper={"b": [NAN, NAN, 1e-6]}, **options)
    assert inner.bounds is not None
    column, line = inner.schema.columns[1], inner.bounds.on_line[1, 2, 1].item()
    assert 10 / (1 + math.exp(-(line * column.std + column.mean))) == pytest.approx(1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lower": {"y": 0.7}}, "column 'y': expected values from the lower bound 0.7, got 0.5 in row 'a'"),
        ({"upper": {"y": [NAN, NAN, 0.9, NAN]}}, "column 'y': expected values up to the upper .* got 1 in row 'c'"),
        ({"lower": {"y": [NAN, 2.0, NAN, NAN]}, "upper": {"y": [NAN, 1.0, NAN, NAN]}}, "got 2 and 1 in row 'b'"),
        ({"lower": {"y": [NAN, 2.0, NAN, NAN]}, "upper": {"y": [NAN, 2.0, NAN, NAN]}}, "room for a value"),
        ({"lower": {"u": 0}}, "lower of column 'u': expected one of the modelled columns"),
        ({"upper": {"y": [1.0, 2.0]}}, "upper of column 'y': expected 4 bounds, one a row, got 2"),
        ({"upper": {"y": pd.Series([1.0] * 4)}}, "upper of column 'y': expected the frame's own index"),
        ({"upper": {"y": "much"}}, "upper of column 'y': expected numbers, got 'much'"),
        ({"upper": {"y": [NAN, "n/a", NAN, NAN]}}, "upper of column 'y': expected numbers, got 'n/a' in row 'b'"),
    ],
)
def test_wrong_bounds_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table(**options)


def test_words_without_an_order_are_refused_and_unknown_levels_too() -> None:
    frame = pd.DataFrame({"town": ["Ulm", "Bonn", None, "Bern"], "size": ["S", "L", None, "M"]})
    with pytest.raises(ValueError, match="column 'town': expected a column whose values have an order"):
        Table.from_frame(frame, auxiliary=[], lower={"town": "Bonn"})
    kinds: Any = {"size": Ordinal(("S", "M", "L"))}
    with pytest.raises(ValueError, match=r"lower of column 'size': expected one of .*'XL'"):
        Table.from_frame(frame, auxiliary=[], kinds=kinds, lower={"size": "XL"})


def test_held_out_cells_get_the_columns_bound_and_no_cells_own() -> None:
    bounded = table(lower={"y": 0}, upper={"y": [2.0, NAN, NAN, 1.0]})
    held = bounded.hold_out([[True], [False], [False], [False]])
    bounds = held.batch().bounds
    assert bounds is not None
    assert bounds[0][0].isfinite()
    assert bounds[1].isfinite().flatten().tolist() == [False, False, False, True]
    assert held.take([3]).batch().upper == held.batch().upper[3:]


class Regression(PyroModule):
    """y = a + b·u + noise."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(1, 1)
        self.log_noise = nn.Parameter(torch.zeros(1))

    def forward(self, batch: Batch) -> None:
        with rows(batch):
            partially_observed("y", dist.Normal(self.line(batch.aux), self.log_noise.exp()), batch)


@pytest.mark.slow
def test_a_regression_on_a_left_censored_response_is_tobits_maximum_likelihood() -> None:
    rng = np.random.default_rng(0)
    u = rng.normal(size=400)
    y = 0.5 + 1.5 * u + rng.normal(size=400)
    below = y < 0.0
    frame = pd.DataFrame({"u": u, "y": np.where(below, NAN, y)})
    censored = Table.from_frame(frame, auxiliary=["u"], upper={"y": np.where(below, 0.0, NAN)})
    model = Regression()
    fit(model, no_latents, censored, epochs=300, batch_size=400, learning_rate=0.05, num_particles=1, progress=False)

    def loss(theta: np.ndarray) -> float:
        mean, scale = theta[0] + theta[1] * u, np.exp(theta[2])
        terms = np.where(below, stats.norm.logcdf(-mean / scale), stats.norm.logpdf(y, mean, scale))
        return -terms.sum()

    tobit = optimize.minimize(loss, np.zeros(3)).x
    column, auxiliary = censored.schema.columns[0], censored.schema.auxiliaries[0]
    slope = model.line.weight.item() * column.std / auxiliary.std
    intercept = column.mean + column.std * model.line.bias.item() - slope * auxiliary.mean
    found = [intercept, slope, model.log_noise.item() + math.log(column.std)]
    assert found == pytest.approx(tobit.tolist(), abs=2e-3)
    complete_cases = np.polyfit(u[~below], y[~below], 1)
    assert abs(complete_cases[0] - tobit[1]) > 0.3  # what leaving the cells out costs


@pytest.fixture(scope="module")
def mixed() -> tuple[pd.DataFrame, dict[str, Any], dict[str, Any]]:
    """Each kind censored in some rows, and the bounds."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=150)
    frame = pd.DataFrame(
        {
            "u": z + rng.normal(size=150),
            "normal": 2 * z + rng.normal(size=150),
            "heavy": z + rng.standard_t(3, size=150),
            "positive": np.exp(z + 0.5 * rng.normal(size=150)),
            "count": pd.array(rng.poisson(np.exp(1 + 0.4 * z)), dtype="Int64"),
            "whole": pd.array(np.rint(50 + 10 * z), dtype="Int64"),
            "level": pd.Categorical.from_codes(np.clip(np.rint(2 + z), 0, 4).astype(int), [*"abcde"], ordered=True),
            "single": (3 * z + rng.normal(size=150)).astype("float32"),
        }
    )
    ends = {
        "normal": (None, -1.0),
        "heavy": (0.7, None),
        "positive": (None, 0.5),
        "count": (5, None),
        "whole": (55.3, 65.9),
        "level": ("d", None),
        "single": (-0.1, 2.7),
    }
    bounds: tuple[dict[str, Any], dict[str, Any]] = {}, {}
    for name, both in ends.items():
        inside = pd.Series(True, index=frame.index)
        for side, end in enumerate(both):
            if end is not None:
                inside &= (frame[name] <= end) if side else (frame[name] >= end)
        for side, end in enumerate(both):
            if end is not None:
                bounds[side][name] = pd.Series(end, index=frame.index, dtype=object).where(inside, None)
        frame[name] = frame[name].mask(inside)
    return frame, *bounds


@pytest.fixture(scope="module", params=[torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)])
def imputed(request: pytest.FixtureRequest, mixed: Any) -> tuple[Fit, Imputations]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    try:
        frame, lower, upper = mixed
        kinds: Any = {"heavy": "heavy_tailed", "positive": "positive", "count": "count"}
        censored = Table.from_frame(frame, auxiliary=["u"], kinds=kinds, lower=lower, upper=upper)
        model = GINA(censored, latent_dim=1, seed=0)
        result = fit(model, ZeroImpute(censored, 1, seed=0), censored, epochs=3, progress=False)
        return result, impute(result, censored, num_draws=5, num_particles=10)
    finally:
        torch.set_default_dtype(before)


@pytest.mark.slow
def test_draws_and_means_of_every_kind_lie_inside_in_the_frames_own_dtypes(mixed: Any, imputed: Any) -> None:
    frame, lower, upper = mixed
    _, imputations = imputed
    for completed, is_mean in [(imputations.mean(), True), *((draw, False) for draw in imputations.frames())]:
        for name in frame.columns[1:]:
            gaps = frame[name].isna()
            assert gaps.any()
            assert is_mean or completed[name].dtype == frame[name].dtype
            for bounds, holds in ((lower, lambda x, b: x >= b), (upper, lambda x, b: x <= b)):
                if name in bounds:
                    assert holds(completed[name][gaps], bounds[name][gaps].iloc[0]).all()


def test_single_cells_lie_inside_too(mixed: Any, imputed: Any) -> None:
    frame, _, upper = mixed
    result, imputations = imputed
    rows, column = np.flatnonzero(frame["positive"].isna()), imputations.table.schema.names.index("positive")
    before = torch.get_default_dtype()
    torch.set_default_dtype(result.dtype)
    try:
        cells = impute(
            result, imputations.table, cells=(rows, np.full(len(rows), column)), num_draws=3, num_particles=5
        )
    finally:
        torch.set_default_dtype(before)
    assert (cells.draws <= upper["positive"][frame["positive"].isna()].iloc[0]).all()


def test_probabilities_of_levels_outside_are_zero(imputed: Any) -> None:
    _, imputations = imputed
    shares = imputations.probabilities("level")
    assert (shares[[*"abc"]] == 0).all(axis=None)
    assert shares.sum(axis=1).to_numpy() == pytest.approx(1.0, abs=1e-5)


def test_bounds_of_columns_are_kept_with_a_fit(tmp_path: Any) -> None:
    bounded = table(lower={"y": 0})
    model = Regression()
    result = Fit(model, no_latents, bounded.schema)
    with pyro.get_param_store().scope():
        result.save(tmp_path / "fit.pt")
        loaded = Fit.load(tmp_path / "fit.pt", Regression(), no_latents)
    assert loaded.schema == bounded.schema
    fresh = survey()
    fresh.loc["a", "y"] = -1.0
    with pytest.raises(ValueError, match="lower bound 0, got -1 in row 'a'"):
        impute(loaded, fresh)
    draws = impute(loaded, survey(), num_draws=20, num_particles=5)
    assert (draws.draws >= 0).all()


def test_the_command_line_takes_bounds_of_columns(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.normal(size=40), "a=b": rng.exponential(size=40)})
    frame.loc[:10, "a=b"] = NAN
    frame.to_csv(tmp_path / "data.csv", index=False)
    common = ["impute", str(tmp_path / "data.csv"), "--auxiliary", "age", "--epochs", "1", "--draws", "2", "--quiet"]
    out = tmp_path / "out"
    assert main([*common, "--out", str(out), "--lower", "a=b=0", "--upper", "a=b=9"]) == 0
    assert pd.read_csv(out / "draw_01.csv")["a=b"].between(0, 9).all()
    assert main([*common, "--out", str(out), "--lower", "age"]) == 2
    assert "--lower: expected COLUMN=NUMBER, got 'age'" in capsys.readouterr().err


@pytest.mark.slow
def test_long_runs_with_bounds_are_captured(caplog: pytest.LogCaptureFixture) -> None:
    """Which cells are bounded differs from batch to batch, but not the shape of what is computed."""
    caplog.set_level("INFO")
    bounded = table(upper={"y": [NAN, 0.2, NAN, 0.3]})
    fit(Regression(), no_latents, bounded, epochs=2, batch_size=2, num_particles=1, progress=False, compile="graph")
    assert "not captured" not in caplog.text and "graph" in caplog.text
