"""Row constraints: checked on observed values, satisfied by every draw, with the law that conditioning gives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

from checks import Independent, check_mean, no_latents
from pyro_mnar import (
    Batch,
    Fit,
    InOrder,
    SumsTo,
    Table,
    impute,
    partially_observed,
    propose_missing,
    rows,
)
from pyro_mnar.kinds import Bounded

NAN = math.nan
ROWS = 400  # with every value missing, of which the law is known


def with_gaps(*complete: list[float], **options: Any) -> Table:
    """Complete rows, which fix the units, and many with nothing."""
    values = np.vstack([np.array(complete, dtype=float), np.full((ROWS, len(complete[0])), NAN)])
    return Table.from_frame(pd.DataFrame(values, columns=[*"abcd"[: values.shape[1]]]), auxiliary=[], **options)


def drawn(table: Table, model: Any, guide: Any = no_latents, **options: Any) -> tuple[np.ndarray, Any]:
    """Draws of the rows with nothing, ``(draws · rows, columns)``, and the imputations."""
    with pyro.get_param_store().scope():
        imputations = impute(Fit(model, guide, table.schema), table, num_draws=2, num_particles=200, **options)
    frames = [frame.iloc[-ROWS:].to_numpy(dtype=float) for frame in imputations.frames()]
    return np.concatenate(frames), imputations


# What is declared.


def test_an_order_passes_over_what_is_missing() -> None:
    values = {
        "a": np.array([1.0, 1.0, NAN, 3.0, NAN]),
        "b": np.array([1.0, NAN, 0.0, 2.0, NAN]),
        "c": np.array([2, 0.5, 1, 4, NAN]),
    }
    assert InOrder("a", "b", "c").holds(values).tolist() == [True, False, True, False, True]
    assert InOrder("a", "b", "c", strict=True).holds(values).tolist() == [False, False, True, False, True]


def test_a_sum_is_checked_where_all_its_parts_are_there() -> None:
    values = {"a": np.array([1.0, 1.0, NAN]), "b": np.array([2.0, 2.1, 5.0]), "t": np.array([3.0, 3.0, 1.0])}
    assert SumsTo(["a", "b"], 3).holds(values).tolist() == [True, False, True]
    assert SumsTo(["a", "b"], "t").holds(values).tolist() == [True, False, True]
    assert SumsTo(["a", "b"], "t").rest(values, "t").tolist()[:2] == pytest.approx([3.0, 3.1])
    assert SumsTo(["a", "b"], "t").rest(values, "a").tolist()[:2] == pytest.approx([1.0, 0.9])


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (InOrder("a", "b"), r"InOrder\('a', 'b'\): broken by the observed values of row 'q'"),
        (SumsTo(["a", "b"], 3), r"SumsTo\(\['a', 'b'\], 3\): broken by the observed values of rows 'p', 'q'"),
        (InOrder("a", "e"), r"InOrder\('a', 'e'\): expected columns among \['a', 'b', 'w'\], got 'e'"),
        (InOrder("a", "w"), "column 'w' has values without an order"),
    ],
)
def test_observed_rows_that_break_a_constraint_are_refused_by_their_labels(constraint: Any, message: str) -> None:
    frame = pd.DataFrame({"a": [1.0, 3, 1, NAN], "b": [3.0, 2, 2, 1], "w": [*"xyzx"]}, index=[*"pqrs"])
    with pytest.raises(ValueError, match=message):
        Table.from_frame(frame, auxiliary=[], constraints=[constraint])


def test_declarations_without_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="InOrder: expected at least two columns"):
        InOrder("a")
    with pytest.raises(TypeError, match="SumsTo: expected a list of at least two parts"):
        SumsTo("ab", 3)
    table = with_gaps([0.0, 1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="give others to impute"):
        table.new_rows(table.frame, constraints=[InOrder("a", "b")])


def test_declared_constraints_are_kept_with_a_fit(tmp_path: Any) -> None:
    table = with_gaps([0.0, 1.0], [1.0, 2.0], constraints=[InOrder("a", "b"), SumsTo(["a", "b"], 7, tolerance=9.0)])
    model = Independent([0, 0], [1, 1])
    with pyro.get_param_store().scope():
        Fit(model, no_latents, table.schema).save(tmp_path / "fit.pt")
        loaded = Fit.load(tmp_path / "fit.pt", model, no_latents)
    assert loaded.schema == table.schema
    with pytest.raises(ValueError, match="broken by the observed values of row 0"):
        impute(loaded, pd.DataFrame({"a": [2.0], "b": [1.0]}))


# The law of the draws.


def test_an_order_conditions_on_the_event() -> None:
    """Of two standard normals, the smaller and the larger have means -1/√π and 1/√π."""
    table = with_gaps([-1.0, -1.0], [1.0, 1.0], constraints=[InOrder("a", "b")])
    draws, imputations = drawn(table, Independent([0, 0], [1, 1]))
    assert (draws[:, 0] <= draws[:, 1]).all()
    check_mean(torch.tensor(draws), torch.tensor([-1.0, 1.0]) / math.pi**0.5)
    mean = imputations.mean().iloc[-ROWS:]
    assert (mean["a"] <= mean["b"]).all()


@pytest.mark.parametrize("proposes", [False, True])
@pytest.mark.parametrize("odds", [None, (0.2, 1.5)])
def test_a_sum_conditions_on_the_plane(odds: tuple[float, float] | None, proposes: bool) -> None:
    """Against quadrature over the plane, with and without a mechanism that looks at the determined part."""
    table = with_gaps([-1.0, -1.0, -1.0], [1.0, 1.0, 1.0])  # mean 0 and deviation 1: no units
    mean, scale = [0.3, 1.0, -0.5], [0.5, 1.0, 0.8]
    model = Independent(mean, scale, odds)

    def guide(batch: Batch) -> None:
        with rows(batch):
            propose_missing("x", dist.Normal(torch.tensor([0.5, 0.8, 0.0]).expand(len(batch), -1), 1.1), batch)

    constrained = Table.from_frame(table.frame.iloc[2:], schema=table.schema)
    draws, imputations = drawn(constrained, model, guide if proposes else no_latents, constraints=[SumsTo([*"abc"], 2)])
    assert np.abs(draws.sum(1) - 2.0).max() < 1e-12

    grid = torch.linspace(-6, 6, 601)
    a, c = torch.meshgrid(grid, grid, indexing="ij")
    point = torch.stack([a, 2.0 - a - c, c], dim=-1)
    log_p = dist.Normal(torch.tensor(mean), torch.tensor(scale)).log_prob(point).sum(-1)
    if odds is not None:
        log_p = log_p + torch.nn.functional.logsigmoid(-(odds[0] + odds[1] * point)).sum(-1)
    weight = log_p.flatten().softmax(0)
    expected = (weight[:, None] * point.flatten(0, 1)).sum(0)
    check_mean(torch.tensor(draws), expected)
    check_mean(torch.tensor(draws) ** 2, (weight[:, None] * point.flatten(0, 1) ** 2).sum(0))
    assert imputations.mean().sum(axis=1).to_numpy() == pytest.approx(2.0)


def test_a_sum_of_amounts_is_conditioned_in_the_users_units() -> None:
    """Two log-normal parts of 3: the density of the determined one is that of the amount, not of its logarithm."""
    e = math.e
    table = with_gaps([1 / e, 1 / e], [e, e], kinds={"a": "positive", "b": "positive"})  # logarithms of mean 0, scale 1
    constrained = Table.from_frame(table.frame.iloc[2:], schema=table.schema)
    draws, _ = drawn(constrained, Independent([0.2, -0.4], [0.6, 1.2]), constraints=[SumsTo(["a", "b"], 3)])
    a = torch.linspace(1e-4, 3 - 1e-4, 20_001)
    log_p = dist.LogNormal(0.2, 0.6).log_prob(a) + dist.LogNormal(-0.4, 1.2).log_prob(3 - a)
    check_mean(torch.tensor(draws[:, 0]), (log_p.softmax(0) * a).sum())
    assert np.abs(draws.sum(1) - 3).max() < 1e-12


@pytest.mark.parametrize("dtype", ["Int64", "float32"])
def test_parts_sum_in_the_frames_own_dtype(dtype: str) -> None:
    values = pd.DataFrame(
        {"a": [20, 50, None, None], "b": [30, 10, None, 15], "c": [50, 40, None, None], "d": [100, 100, 100, 60]}
    )
    table = Table.from_frame(
        values.astype(dtype),
        auxiliary=[],
        kinds=dict.fromkeys("abcd", "continuous"),
        constraints=[SumsTo([*"abc"], "d"), InOrder("b", "c")],
    )
    model = Independent([0.0] * 4, [1.0] * 4)
    with pyro.get_param_store().scope():
        imputations = impute(Fit(model, no_latents, table.schema), table, num_draws=20)
    for frame in imputations.frames():
        assert (frame.dtypes == dtype).all()
        assert np.abs(frame[[*"abc"]].sum(axis=1) - frame["d"]).max() <= (1e-4 if dtype == "float32" else 0)
        assert (frame["b"] <= frame["c"]).all()


def test_a_single_missing_part_is_the_rest_or_refused_by_name() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0, 1.5, NAN], "b": [2.0, 1.0, NAN, 2.5]}, index=[*"pqrs"])
    options: Any = {"auxiliary": [], "kinds": {"a": "positive", "b": "positive"}}
    table = Table.from_frame(frame, constraints=[SumsTo(["a", "b"], 3)], **options)
    model = Independent([0.0, 0.0], [1.0, 1.0])
    with pyro.get_param_store().scope():
        imputations = impute(Fit(model, no_latents, table.schema), table, num_draws=3, num_particles=2)
        assert all(
            done.loc[["r", "s"]].to_numpy().tolist() == [[1.5, 1.5], [0.5, 2.5]] for done in imputations.frames()
        )
        frame.loc["s", "b"] = 4.0
        table = Table.from_frame(frame, constraints=[SumsTo(["a", "b"], 3)], **options)
        with pytest.raises(ValueError, match="column 'a' cannot be -1, which the other parts leave to it, in row 's'"):
            impute(Fit(model, no_latents, table.schema), table)


def test_rows_that_nothing_satisfies_are_named() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0, 9.5], "b": [2.0, 3.0, NAN]}, index=[*"pqr"])
    table = Table.from_frame(frame, auxiliary=[], kinds={"b": Bounded(0, 5)}, constraints=[InOrder("a", "b")])
    fit = Fit(Independent([0.0, 0.0], [1.0, 1.0]), no_latents, table.schema)
    message = r"constraints InOrder\('a', 'b'\): none of 250 particles satisfies them in row 'r'"
    with pyro.get_param_store().scope(), pytest.raises(ValueError, match=message):
        impute(fit, table, num_draws=2, num_particles=5)


def test_rare_events_are_found_by_more_particles() -> None:
    table = with_gaps([-1.0, -1.0], [1.0, 1.0])
    constrained = Table.from_frame(table.frame.iloc[2:40], schema=table.schema)
    with pyro.get_param_store().scope():
        fit = Fit(Independent([0.0, 0.0], [1.0, 1.0]), no_latents, table.schema)
        imputations = impute(
            fit, constrained, num_draws=5, num_particles=50, constraints=[lambda x: x["a"] > x["b"] + 3]
        )
    assert all((frame["a"] > frame["b"] + 3).all() for frame in imputations.frames())
    assert (imputations.mean().eval("a - b") > 3).all()


def test_functions_see_candidate_rows_in_the_frames_own_dtypes() -> None:
    frame = pd.DataFrame(
        {
            "k": pd.array([1, 2, None, 3, 5], dtype="Int64"),
            "size": pd.Categorical(["S", "L", "S", None, "L"], ["S", "L"], ordered=True),
            "y": [0.1, 0.2, 0.3, NAN, 0.4],
        }
    )
    table = Table.from_frame(frame, auxiliary=[], kinds={"k": "continuous", "size": "ordinal"})
    seen: list[pd.DataFrame] = []

    def large_is_many(candidates: pd.DataFrame) -> Any:
        seen.append(candidates)
        return ((candidates["size"] == "S") | (candidates["k"] >= 2)).to_numpy(dtype=bool)

    class Mixed(Independent):
        def __call__(self, batch: Batch) -> None:
            with rows(batch):
                partially_observed("x", dist.Normal(torch.zeros(len(batch), 3), 1.0), batch)

    with pyro.get_param_store().scope():
        fit = Fit(Mixed([0.0], [1.0]), no_latents, table.schema)
        imputations = impute(fit, table, constraints=[large_is_many])
        for done in imputations.frames():
            assert large_is_many(done).all()
        assert all((candidates.dtypes == frame.dtypes).all() for candidates in seen)
        with pytest.raises(ValueError, match=r"constraint few: broken by rows 1, 4"):
            impute(fit, table, constraints=[_named("few", lambda x: x["y"].between(0.3, 0.3) | (x["y"] < 0.15))])
        with pytest.raises(ValueError, match="constraint count: expected a boolean for each of 3 rows, got int64"):
            impute(fit, table, constraints=[_named("count", lambda x: x["y"].notna().astype(int))])
        with pytest.raises(ValueError, match="cells: expected a table without row constraints"):
            impute(fit, table, cells=(np.array([2]), np.array([0])), constraints=[large_is_many])


def _named(name: str, function: Any) -> Any:
    function.__name__ = name
    return function
