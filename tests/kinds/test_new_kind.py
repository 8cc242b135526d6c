"""Kinds that the package does not know: a percentage as files write it, a waiting time with a likelihood of its own.

Each is a class, an entry in a registry, and for the waiting time a likelihood; the rest of the package asks the kind.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import nn

from pyro_mnar import Fit, Table, fit, impute
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.imputation.averages import Averages
from pyro_mnar.kinds import KINDS, Bounded, Kind, Ordinal, from_plain, register, to_plain
from pyro_mnar.kinds.numbers import Numbers
from pyro_mnar.kinds.reading import numbers_of, refuse
from pyro_mnar.kinds.scales import Logarithm, Scale
from pyro_mnar.models import GINA, SelfMasking
from pyro_mnar.nn.likelihoods import LIKELIHOODS, MixedLikelihood
from pyro_mnar.tables.constraints import SumsTo

ROWS = 80


@dataclass(frozen=True)
class Percent(Bounded):
    """From 0 to 100; in files with a percent sign."""

    upper: float = 100.0
    name: ClassVar[str] = "percent"

    def of_text(self, values: pd.Series) -> pd.Series:
        return pd.to_numeric(values.str.removesuffix("%"))


@dataclass(frozen=True)
class Agreement(Ordinal):
    """A survey's answer in words; modelled as any levels in their order."""

    levels: tuple[Any, ...] = ("disagree", "neither", "agree")
    name: ClassVar[str] = "agreement"


@dataclass(frozen=True)
class WaitingTime(Numbers):
    """A time above zero; exponential given z."""

    name: ClassVar[str] = "waiting_time"

    @property
    def likelihood(self) -> str:
        return "exponential"

    @property
    def scale(self) -> Scale:
        return Logarithm()

    def read(self, values: pd.Series, column: Hashable) -> np.ndarray:
        numbers = numbers_of(values, column)
        refuse(numbers <= 0, values, column, "times above 0")
        return numbers


class ExponentialLikelihood(nn.Module):
    """The logarithm of an exponential time is minus a Gumbel variable; here in standard deviations from its mean."""

    def __init__(self, columns: Sequence[Any], *, straight_through: bool = False) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([column.mean for column in columns]))
        self.register_buffer("std", torch.tensor([column.std for column in columns]))

    @property
    def num_outputs(self) -> int:
        return len(self.mean)

    def forward(self, outputs: torch.Tensor) -> Any:
        """Outputs are logarithms of mean times, in standard deviations from the mean logarithm."""
        gumbel = dist.Gumbel(-outputs, (1 / self.std).expand(outputs.shape))
        return dist.TransformedDistribution(gumbel, [dist.transforms.AffineTransform(0.0, -1.0)])


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a user's module does once, taken back after each test."""
    before = dict(KINDS)
    for kind in (Percent, Agreement, WaitingTime):
        register(kind)
    monkeypatch.setitem(LIKELIHOODS, "exponential", ExponentialLikelihood)
    yield
    KINDS.clear()
    KINDS.update(before)


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    z = rng.normal(size=ROWS)
    answers = np.array(Agreement().levels, dtype=object)[np.digitize(z + 0.3 * rng.normal(size=ROWS), [-0.5, 0.5])]
    frame = pd.DataFrame(
        {
            "age": 50 + 10 * z + rng.normal(size=ROWS),
            "wait": rng.exponential(np.exp(1 + z)),
            "share": 100 / (1 + np.exp(-z - rng.normal(size=ROWS))),
            "answer": answers,
        }
    )
    for column in frame.columns[1:]:
        frame[column] = frame[column].where(rng.random(ROWS) < 0.75)
    return frame


@pytest.fixture
def table(frame: pd.DataFrame) -> Table:
    return Table.from_frame(frame, kinds={"wait": "waiting_time", "share": Percent(), "answer": "agreement"})


def fitted_to(table: Table, epochs: int = 2) -> Fit:
    model = GINA(table, seed=0)
    return fit(model, ZeroImpute(table, model.latent_dim, seed=0), table, seed=0, epochs=epochs, progress=False)


def test_a_name_stands_for_it(table: Table) -> None:
    assert table.schema.kinds == {
        "age": "continuous",
        "wait": "waiting_time",
        "share": "percent",
        "answer": "agreement",
    }
    for column in table.schema.columns:
        assert isinstance(column.kind, Kind)
        assert from_plain(to_plain(column.kind)) == column.kind


def test_it_says_what_it_does_not_take(frame: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"'age': expected times above 0, got -1\.0 in row 3"):
        Table.from_frame(frame.assign(age=frame["age"].where(frame.index != 3, -1.0)), kinds={"age": "waiting_time"})


def test_the_likelihood_is_its_own(table: Table) -> None:
    """Against SciPy in the user's units, of which the logarithm's density differs by the Jacobian."""
    likelihood = MixedLikelihood(table.schema)
    outputs = torch.randn(ROWS, likelihood.num_outputs, generator=torch.Generator().manual_seed(1))
    number = likelihood.positions.index((1,))
    log_mean = outputs.split(likelihood.widths, -1)[number][:, 0].numpy()
    seen, column = table.mask[:, 1].numpy(), table.schema.columns[1]
    times = table.frame["wait"].to_numpy()[seen]
    expected = stats.expon.logpdf(times, scale=np.exp(column.mean + column.std * log_mean[seen]))
    found = likelihood(outputs).log_prob(table.x)[:, 1].detach().numpy()[seen]
    np.testing.assert_allclose(found - np.log(column.std * times), expected)


def test_fit_impute_and_a_file(table: Table, tmp_path: Path) -> None:
    result = fitted_to(table)
    imputations = impute(result, table, num_draws=3, num_particles=10)
    for completed in imputations.frames():
        assert completed.notna().all(axis=None)
        assert (completed["wait"] > 0).all() and completed["share"].between(0, 100).all()
        assert set(completed["answer"]) == set(Agreement().levels)
        for name in table.frame:
            seen = table.frame[name].notna()
            pd.testing.assert_series_equal(completed.loc[seen, name], table.frame.loc[seen, name])
    mean = imputations.mean()
    assert (mean["wait"] > 0).all() and set(mean["answer"]) <= set(Agreement().levels)
    assert list(imputations.probabilities("answer").columns) == list(Agreement().levels)

    result.save(tmp_path / "fit.pt")
    other = GINA(table, seed=1)
    loaded = Fit.load(tmp_path / "fit.pt", other, ZeroImpute(table, other.latent_dim, seed=1))
    assert loaded.schema == table.schema
    again = impute(loaded, table, num_draws=3, num_particles=10)
    np.testing.assert_array_equal(again.draws, imputations.draws)
    np.testing.assert_array_equal(again.means, imputations.means)


def test_means_are_of_times_and_not_of_their_logarithms(table: Table) -> None:
    averages = Averages(table.schema)
    particles = torch.stack([table.x, table.x.flip(0)])
    found, _ = averages.decode(averages.features(particles).mean(0).numpy())
    for at in (1, 2):
        expected = np.stack([table.schema.columns[at].decode(x[:, at].numpy()) for x in particles]).mean(0)
        np.testing.assert_allclose(found[:, at], expected)


def test_single_cells(table: Table) -> None:
    rows, columns = (np.asarray(at)[:20] for at in np.nonzero(~table.mask.numpy()))
    cells = impute(fitted_to(table), table, cells=(rows, columns), num_draws=2, num_particles=10)
    for draw in (cells.mean(), *cells.frames()):
        assert set(draw.loc[draw["column"] == "answer", "value"]) <= set(Agreement().levels)
        assert all(draw.loc[draw["column"] == "wait", "value"] > 0)


def test_bounds(frame: pd.DataFrame) -> None:
    """A waiting time that had not ended when the survey did, and no answer that could be a disagreement."""
    gaps = frame.isna()
    lower = {
        "wait": pd.Series(20.0, index=frame.index).where(gaps["wait"]),
        "answer": pd.Series("neither", index=frame.index).where(gaps["answer"]),
    }
    table = Table.from_frame(frame, kinds={"wait": "waiting_time", "answer": "agreement"}, lower=lower)
    for completed in impute(fitted_to(table), table, num_draws=2, num_particles=10).frames():
        assert (completed.loc[gaps["wait"], "wait"] >= 20).all()
        assert set(completed.loc[gaps["answer"], "answer"]) <= {"neither", "agree"}


def test_row_constraints() -> None:
    rng = np.random.default_rng(0)
    first = rng.exponential(2.0, ROWS)
    frame = pd.DataFrame({"first": first, "second": rng.exponential(1.0, ROWS)})
    frame["total"] = frame["first"] + frame["second"]
    for name in ("first", "second"):
        frame[name] = frame[name].where(rng.random(ROWS) < 0.8)
    table = Table.from_frame(
        frame,
        kinds=dict.fromkeys(("first", "second"), "waiting_time"),
        auxiliary=["total"],
        constraints=[SumsTo(["first", "second"], "total")],
    )
    for completed in impute(fitted_to(table), table, num_draws=2, num_particles=20).frames():
        np.testing.assert_allclose(completed["first"] + completed["second"], frame["total"])
        assert (completed > 0).all(axis=None)


def test_levels_are_summed_out_of_the_weight(table: Table) -> None:
    assert SelfMasking(table, seed=0, numbers="summed").summed_columns == set(range(table.schema.num_columns))


def test_a_file_of_text(tmp_path: Path) -> None:
    path = tmp_path / "survey.csv"
    path.write_text("share,age\n12.5%,1.5\n,2.5\n80%,4\n")
    table = Table.from_csv(path, kinds={"share": "percent"})
    assert table.schema.kinds["share"] == "percent"
    np.testing.assert_array_equal(table.frame["share"].to_numpy(dtype=float), [12.5, np.nan, 80.0])


def test_a_long_frame() -> None:
    at = np.arange(90)
    lines = pd.DataFrame({"row": at // 3, "column": at % 3, "value": np.exp(np.sin(at))}).iloc[1:]
    table = Table.from_long(lines, kinds="waiting_time", auxiliary=[])
    assert set(table.schema.kinds.values()) == {"waiting_time"}
    assert np.isfinite(fitted_to(table).history["bound"]).all()


class TestRegistry:
    def test_a_name_is_taken_once(self) -> None:
        @dataclass(frozen=True)
        class Other(Numbers):
            name: ClassVar[str] = "percent"

        with pytest.raises(ValueError, match="kind 'percent': expected a name of its own, got that of Percent"):
            register(Other)
        assert KINDS["percent"] is Percent
        assert register(Percent) is Percent  # as when a notebook's cell runs again

    def test_a_file_names_what_is_not_registered(self) -> None:
        plain = to_plain(Percent())
        del KINDS["percent"]
        with pytest.raises(ValueError, match=r"kind 'percent': expected one of \[.*\]; register it before loading"):
            from_plain(plain)

    def test_a_likelihood_that_nobody_made(self, table: Table) -> None:
        del LIKELIHOODS["exponential"]
        with pytest.raises(
            ValueError, match=r"column 'wait' of kind 'waiting_time': expected a likelihood among .* got"
        ):
            MixedLikelihood(table.schema)
