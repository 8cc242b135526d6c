"""Derived values that were seen where several arguments are missing: held by every draw, with the law that they leave.

Laws are compared with closed forms and quadrature; each comparison fails by chance once in 100,000 (``check_mean``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from checks import Independent, check_mean, no_latents
from pyro_mnar import Batch, Fit, SumsTo, Table, fit, impute, partially_observed, rows
from pyro_mnar.distributions import Levels
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import GINA

NAN, ROWS = np.nan, 400  # rows with nothing but the derived values


def with_seen(complete: dict[str, list[float]], seen: dict[str, tuple[str, float]], **options: Any) -> Table:
    """Two complete rows, which fix the units, and many of which derived values alone were seen."""
    frame = pd.DataFrame(complete)
    derived = {name: formula for name, (formula, _) in seen.items()}
    told = pd.DataFrame({name: np.full(ROWS, NAN) for name in complete} | {n: value for n, (_, value) in seen.items()})
    frame = frame.assign(**{name: frame.eval(formula) for name, formula in derived.items()})
    return Table.from_frame(pd.concat([frame, told], ignore_index=True), auxiliary=[], derived=derived, **options)


def imputed(model: Any, table: Any, guide: Any = no_latents, schema: Any = None, **options: Any) -> Any:
    options = {"num_draws": 2, "num_particles": 200, **options}
    with pyro.get_param_store().scope():
        return impute(Fit(model, guide, table.schema if schema is None else schema), table, **options)


def check_law(table: Table, model: Any, seen: dict[str, tuple[str, float]], **expected: float) -> Any:
    """Draws and means follow a law with these means of expressions, and give what was seen."""
    found = imputed(model, table)
    draws = pd.concat([frame.iloc[-ROWS:] for frame in found.frames()])
    for formula, value in seen.values():
        np.testing.assert_allclose(draws.eval(formula), value, rtol=1e-9)
    for name, value in expected.items():
        check_mean(torch.tensor(draws.eval(_expression(name)).to_numpy()), value)
        if name in table.schema.names:
            check_mean(torch.tensor(found.mean()[name].iloc[-ROWS:].to_numpy()), value)
    return found


def _expression(name: str) -> str:
    return name.replace("_squared", "**2").replace("_times_", " * ")


class Latent:
    """z ~ N(0, 1), x_d = mean_d + load_d z + noise_d ε."""

    mean, load, noise = torch.tensor([0.3, -0.2]), torch.tensor([0.8, 0.4]), torch.tensor([0.5, 0.7])

    def __call__(self, batch: Batch) -> None:
        with rows(batch):
            z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch)), 1.0))
            partially_observed("x", dist.Normal(self.mean + self.load * z.unsqueeze(-1), self.noise), batch)


def test_a_sum_of_normal_values_leaves_a_normal_law() -> None:
    seen = {"d": ("a + b", 1.5)}
    covariance = torch.outer(Latent.load, Latent.load) + torch.diag(Latent.noise**2)
    gain = covariance.sum(1) / covariance.sum()
    mean = Latent.mean + gain * (1.5 - Latent.mean.sum())
    left = covariance - torch.outer(gain, gain) * covariance.sum()
    a, b = mean.tolist()
    squares = {"a_squared": a * a + float(left[0, 0]), "a_times_b": a * b + float(left[0, 1])}
    found = check_law(with_seen({"a": [-1.0, 1.0], "b": [-1.0, 1.0]}, seen), Latent(), seen, a=a, b=b, **squares)
    assert (found.effective_sample_size[-ROWS:] < 400).all() and np.isinf(found.effective_sample_size[:2]).all()


ODDS = (0.2, 1.5)
# Where each is 0.7: a and b on a line t, and the density of the formula's value there by that of t.
LAWS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]] = {
    "a * b": lambda t: (0.7 / t, t, 1 / t.abs()),
    "a / b": lambda t: (0.7 * t, t, t.abs()),
    "a**3 + b": lambda t: (t, 0.7 - t**3, torch.ones_like(t)),
    "exp(a) - b": lambda t: (t, t.exp() - 0.7, torch.ones_like(t)),
    "sqrt(exp(b)) * (a + 1)": lambda t: (0.7 * (-t / 2).exp() - 1, t, (-t / 2).exp()),
}


@pytest.mark.slow
@pytest.mark.parametrize("odds", [None, ODDS], ids=["", "mask"])
@pytest.mark.parametrize("formula", LAWS)
def test_a_formula_leaves_the_law_on_its_surface(formula: str, odds: Any) -> None:
    """Against quadrature along the line, with and without a mechanism, which sees the argument that is solved for."""
    seen = {"d": (formula, 0.7)}
    mean, scale = torch.tensor([0.3, 1.0]), torch.tensor([0.5, 0.8])
    *of_line, slope = LAWS[formula](torch.linspace(-4.0, 6.0, 200_001) + 1e-7)
    point = torch.stack(of_line, -1)
    log_p = dist.Normal(mean, scale).log_prob(point).sum(-1) + slope.log()
    if odds is not None:
        log_p = log_p + torch.nn.functional.logsigmoid(-(odds[0] + odds[1] * point)).sum(-1)
    weight = log_p.softmax(0)[:, None]
    a, b = (weight * point).sum(0).tolist()
    a_squared = float((weight * point**2).sum(0)[0])
    table = with_seen({"a": [-1.0, 1.0], "b": [-1.0, 1.0]}, seen)
    check_law(table, Independent(mean.tolist(), scale.tolist(), odds), seen, a=a, b=b, a_squared=a_squared)


def test_amounts_are_conditioned_in_their_own_units() -> None:
    """Of a / b² with log-normal a and b the logarithms are normal: two of them on a line."""
    seen, e = {"d": ("a / b**2", 0.4)}, np.e
    table = with_seen({"a": [1 / e, e], "b": [1 / e, e]}, seen, kinds={"a": "positive", "b": "positive"})
    mean, variance = np.array([0.2, -0.4]), np.array([0.6, 0.3]) ** 2
    slope = np.array([1.0, -2.0])
    gain = variance * slope / (variance * slope**2).sum()
    expected = mean + gain * (np.log(0.4) - mean @ slope)
    found = imputed(Independent([0.2, -0.4], [0.6, 0.3]), table)
    draws = np.concatenate([frame.iloc[-ROWS:][["a", "b"]] for frame in found.frames()])
    np.testing.assert_allclose(draws[:, 0] / draws[:, 1] ** 2, 0.4, rtol=1e-9)
    check_mean(torch.tensor(np.log(draws)), torch.tensor(expected))
    left = variance - gain * slope * variance
    check_mean(torch.tensor(np.log(draws)) ** 2, torch.tensor(expected**2 + left))
    # The mean of a log-normal amount.
    check_mean(torch.tensor(found.mean()["b"].iloc[-ROWS:].to_numpy()), float(np.exp(expected[1] + left[1] / 2)))


def test_three_arguments_are_drawn_from_the_surface() -> None:
    seen = {"d": ("a * b + c", 2.0)}
    mean, scale = torch.tensor([0.5, 1.0, -0.5]), torch.tensor([0.6, 0.5, 0.9])
    grid = torch.linspace(-4, 5, 901)
    a, b = torch.meshgrid(grid, grid, indexing="ij")
    point = torch.stack([a, b, 2.0 - a * b], -1).flatten(0, 1)
    weight = dist.Normal(mean, scale).log_prob(point).sum(-1).softmax(0)
    expected = dict(zip("abc", (weight[:, None] * point).sum(0).tolist(), strict=True))
    expected["a_times_b"] = float((weight * point[:, 0] * point[:, 1]).sum())
    table = with_seen({"a": [-1.0, 1.0], "b": [-1.0, 1.0], "c": [-1.0, 1.0]}, seen)
    check_law(table, Independent(mean.tolist(), scale.tolist()), seen, **expected)


@pytest.mark.parametrize("formulas", [("a + b", "b - c"), ("a + b + c", "a - b")])
def test_two_formulas_that_share_an_argument_hold_together(formulas: tuple[str, str]) -> None:
    seen = {"d": (formulas[0], 1.0), "e": (formulas[1], -0.5)}
    rows_of = {"a + b": [1, 1, 0], "b - c": [0, 1, -1], "a + b + c": [1, 1, 1], "a - b": [1, -1, 0]}
    design = np.array([rows_of[formula] for formula in formulas], dtype=float)
    mean, variance = np.array([0.3, 1.0, -0.5]), np.diag(np.array([0.5, 1.0, 0.8]) ** 2)
    gain = variance @ design.T @ np.linalg.inv(design @ variance @ design.T)
    expected = mean + gain @ (np.array([1.0, -0.5]) - design @ mean)
    left = variance - gain @ design @ variance
    table = with_seen({"a": [-1.0, 1.0], "b": [-1.0, 1.0], "c": [-1.0, 1.0]}, seen)
    of = dict(zip("abc", expected.tolist(), strict=True)) | {"b_squared": expected[1] ** 2 + left[1, 1]}
    check_law(table, Independent(mean.tolist(), [0.5, 1.0, 0.8]), seen, **of)


class Packs:
    """How many packs, 0 to 2, and the price of one."""

    def __call__(self, batch: Batch) -> None:
        points = batch.x.new_tensor([0.0, 1.0, 2.0])
        points = (points - points.mean()) / points.std(unbiased=False)
        with rows(batch):
            levels = Levels(torch.tensor([0.3, 0.4, 0.3]).log().expand(len(batch), 1, 3), points.expand(1, 3))
            partially_observed("n", levels, batch, columns=["packs"])
            partially_observed("p", dist.Normal(batch.x.new_zeros(len(batch), 1), 1.0), batch, columns=["price"])


@pytest.mark.parametrize("spent", [0.0, 3.0])
def test_what_holds_whatever_an_argument_is_outweighs_what_has_a_density(spent: float) -> None:
    """Nothing was spent: no packs, and any price; else one pack or two, by the density of their price."""
    seen = {"spent": ("packs * price", spent)}
    price = [2.5, 1.5, 3.5]  # standardised by 2.5 and √(2/3)
    table = with_seen({"packs": [0.0, 1.0, 2.0], "price": price}, seen, kinds={"packs": "ordinal"})
    found = imputed(Packs(), table)
    draws = pd.concat([frame.iloc[-ROWS:] for frame in found.frames()])
    np.testing.assert_allclose(draws["packs"] * draws["price"], spent)
    if spent == 0:
        assert (draws["packs"] == 0).all()
        check_mean(torch.tensor(draws["price"].to_numpy()), 2.5)
        assert (found.effective_sample_size[-ROWS:] > 50).all()  # three particles in ten
    else:
        law = dist.Normal(2.5, (2 / 3) ** 0.5)
        one, two = (float(p * law.log_prob(torch.tensor(3.0 / n)).exp() / n) for n, p in ((1, 0.4), (2, 0.3)))
        check_mean(torch.tensor((draws["packs"] == 2).to_numpy(dtype=float)), two / (one + two))


def people(**changes: Any) -> pd.DataFrame:
    random = np.random.default_rng(0)
    height = np.rint(170 + 10 * random.normal(size=60))
    weight = 22 * (height / 100) ** 2 + 5 * random.normal(size=60)
    frame = pd.DataFrame({"weight": weight, "height": height, "x": random.normal(size=60)}).assign(**changes)
    frame["bmi"] = frame["weight"] / (frame["height"] / 100) ** 2
    frame.loc[10:15, ["weight", "height"]] = NAN
    return frame


BMI = {"bmi": "weight / (height / 100)**2"}


def trained(table: Table) -> Fit:
    model = GINA(table, latent_dim=1, seed=0)
    guide = ZeroImpute(table, model.latent_dim, hidden=(8,), seed=0)
    return fit(model, guide, table, epochs=3, seed=0, progress=False)


class TestSeenBodyMass:
    def test_follows_from_whole_heights_and_weights_that_are_not(self) -> None:
        frame = people()
        table = Table.from_frame(frame, auxiliary=["x"], derived=BMI)
        for completed in impute(trained(table), table, num_draws=3).frames():
            assert completed.loc[:, "bmi"].equals(frame["bmi"])
            np.testing.assert_allclose(completed.eval(BMI["bmi"]), frame["bmi"], rtol=1e-12)
            assert (completed["height"] == completed["height"].round()).all()

    def test_is_given_to_rounding_where_all_are_whole(self) -> None:
        frame = people(weight=np.rint(people()["weight"].fillna(65.0)))
        table = Table.from_frame(frame.astype({"weight": "Int64"}), auxiliary=["x"], derived=BMI)
        for completed in impute(trained(table), table, num_draws=3).frames():
            assert completed["weight"].dtype == "Int64"
            low, high = ((completed["weight"] + half) / (completed["height"] / 100) ** 2 for half in (-0.51, 0.51))
            assert (low <= frame["bmi"]).all() and (frame["bmi"] <= high).all()

    def test_holds_in_a_row_that_comes_alone_and_by_key(self) -> None:
        frame = people().assign(id=range(60))
        fitted = trained(Table.from_frame(frame, auxiliary=["x"], carry=["id"], derived=BMI))
        alone = next(impute(fitted, frame.iloc[[12]], num_draws=2, key="id").frames())
        together = next(impute(fitted, frame.iloc[[3, 15, 12]], num_draws=2, key="id").frames())
        np.testing.assert_allclose(alone.eval(BMI["bmi"]), frame.loc[[12], "bmi"])
        np.testing.assert_allclose(alone["height"], together.loc[[12], "height"])
        single = frame.iloc[[30]].assign(weight=NAN)  # no other row tells what weights are like
        np.testing.assert_allclose(next(impute(fitted, single, num_draws=1).frames())["weight"], frame["weight"][30])

    def test_single_cells_know_of_it(self) -> None:
        table = Table.from_frame(people(), auxiliary=["x"], derived=BMI)
        fitted = trained(table)
        cells = (np.repeat(np.arange(10, 16), 2), np.tile([0, 1], 6))
        found = impute(fitted, table, cells=cells, num_draws=4, num_particles=50)
        weight, height = found.draws[:, ::2], found.draws[:, 1::2]
        expected = np.broadcast_to(table.frame["bmi"].iloc[10:16], weight.shape)
        np.testing.assert_allclose(weight / (height / 100) ** 2, expected, rtol=1e-5)  # of float32

    def test_is_not_moved_away_by_a_delta(self) -> None:
        table = Table.from_frame(people(), auxiliary=["x"], derived=BMI)
        found = impute(trained(table), table, num_draws=2)
        assert (found.shifted({"weight": 0.0}).draws == found.draws).all()
        with pytest.raises(ValueError, match=r"derived column 'bmi': expected draws that still satisfy.*rows 10, 11"):
            found.shifted({"weight": -0.5})

    def test_that_no_arguments_give_is_refused_by_its_row(self) -> None:
        frame = people()
        frame.loc[11, "bmi"] = -3.0
        kinds = {"weight": "positive", "height": "positive"}
        table = Table.from_frame(frame, auxiliary=["x"], derived=BMI, kinds=kinds)
        with pytest.raises(ValueError, match=r"'bmi': none of 500 particles satisfies them in row 11 .*na_values"):
            impute(trained(table), table, num_draws=1, num_particles=10)


class TestWhatCannotFollow:
    @pytest.mark.parametrize(
        ("formula", "options"),
        [
            ("(a - 2)**2 * c", {"kinds": {"c": "ordinal"}}),  # not monotone; a level
            ("floor(a) + 0 * c", {}),  # constant between whole numbers, and in c
        ],
    )
    def test_is_warned_of(self, formula: str, options: dict[str, Any]) -> None:
        frame = pd.DataFrame({"a": [1.3, 2.6, 3.1, 4.7, NAN], "c": [1.0, 2, 1, 2, NAN], "x": range(5)})
        frame["d"] = [*frame.eval(formula)[:4], 3.0]
        with pytest.warns(
            UserWarning, match=r"'d': in 1 rows, the first of them 4, it was seen and no single argument"
        ):
            table = Table.from_frame(frame, auxiliary=["x"], derived={"d": formula}, **options)
        assert impute(trained(table), table, num_draws=1).conditions is None

    def test_is_the_second_of_two_formulas_of_the_same_arguments(self) -> None:
        frame = pd.DataFrame({"a": [1.3, 2.6, 3.1, 4.7, NAN], "c": [1.2, 2, 1.1, 2, NAN], "x": range(5)})
        frame = frame.assign(d=frame["a"] + frame["c"], e=frame["a"] - frame["c"])
        frame.loc[4, ["d", "e"]] = [4.0, 1.0]
        with pytest.warns(UserWarning, match=r"derived column 'e': in 1 rows, the first of them 4, it was seen and no"):
            table = Table.from_frame(frame, auxiliary=["x"], derived={"d": "a + c", "e": "a - c"})
        completed = next(impute(trained(table), table, num_draws=1).frames())
        assert completed.loc[4, ["a", "c"]].sum() == pytest.approx(4.0)

    def test_is_what_a_sum_has_used(self) -> None:
        frame = people().assign(rest=lambda f: 300.0 - f["weight"] - f["height"])
        table = Table.from_frame(frame, auxiliary=["x"], derived=BMI)
        with pytest.warns(UserWarning, match=r"'bmi': in 6 rows"):
            impute(trained(table), table, num_draws=1, constraints=[SumsTo(["weight", "height", "rest"], 300)])


def test_one_formula_may_leave_another_with_a_single_argument() -> None:
    frame = pd.DataFrame({"a": [1.3, 2.6, 3.1, 4.7, NAN], "b": [1.25, 2, 1.1, 2, NAN], "x": range(5)})
    frame = frame.assign(d=frame["a"] - frame["b"], e=2 * frame["b"])
    frame.loc[4, ["d", "e"]] = [0.0, 3.0]
    table = Table.from_frame(frame, auxiliary=["x"], derived={"d": "a - b", "e": "2 * b"})
    assert table.frame.loc[4, ["a", "b"]].tolist() == pytest.approx([1.5, 1.5])


def test_a_code_for_no_value_is_no_argument() -> None:
    frame = people()
    frame.loc[:3, ["weight", "bmi"]] = [-97, NAN]
    table = Table.from_frame(frame, auxiliary=["x"], derived=BMI, not_applicable={"weight": -97})
    found = impute(trained(table), table, num_draws=2)
    for completed in (*found.frames(), found.mean()):
        assert completed["bmi"].isna().to_numpy().nonzero()[0].tolist() == [0, 1, 2, 3]
