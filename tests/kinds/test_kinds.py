"""Column kinds: what is chosen, values to numbers and back, log-probabilities, imputations of a column's own kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.poutine as poutine
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit, logit

from pyro_mnar import Batch, Fit, MissingnessGraph, Table, fit, impute
from pyro_mnar.distributions import Columns, Levels
from pyro_mnar.graphs.recovery import missingness_graph_of
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.imputation.averages import Averages
from pyro_mnar.imputation.generation import generate
from pyro_mnar.kinds import KINDS as KINDS_BY_NAME
from pyro_mnar.kinds import (
    Binary,
    Bounded,
    Categorical,
    Continuous,
    Count,
    Datetime,
    HeavyTailed,
    Kind,
    Ordinal,
    Positive,
    ZeroInflated,
    from_plain,
    to_plain,
)
from pyro_mnar.models import GINA, LatentDependent, SelfMasking
from pyro_mnar.nn.indicators import Indicators
from pyro_mnar.nn.likelihoods import MixedLikelihood
from pyro_mnar.tables.schema import Schema

ROWS = 60
MOODS = ["bad", "fair", "good"]


def mixed_frame(rows: int = ROWS, seed: int = 0) -> pd.DataFrame:
    """Every kind, with holes in all but the first column."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=rows)
    cut = np.digitize(z + 0.3 * rng.normal(size=rows), [-0.5, 0.5])
    frame = pd.DataFrame(
        {
            "age": 50 + 10 * z + rng.normal(size=rows),
            "income": np.exp(8 + 0.5 * z + 0.3 * rng.normal(size=rows)),
            "share": expit(z + rng.normal(size=rows)),
            "price": 5 + rng.standard_t(3, size=rows),
            "sex": rng.choice(["f", "m"], rows),
            "town": pd.Categorical(np.array(["A", "B", "C"])[rng.permutation(cut)]),
            "mood": pd.Categorical(np.array(MOODS)[cut], categories=MOODS, ordered=True),
            "visits": pd.array(rng.poisson(np.exp(0.5 + 0.5 * z)), dtype="Int64"),
            "score": pd.array(np.digitize(z, [-1, 0, 1]) + 1, dtype="Int64"),
            "flag": pd.array(z > 0, dtype="boolean"),
        }
    )
    for column in frame.columns[1:]:
        frame.loc[rng.random(rows) < 0.25, column] = pd.NA if frame[column].dtype == "Int64" else None
    return frame


KINDS: dict[str, str | Kind] = {
    "income": "positive",
    "share": Bounded(0, 1),
    "price": "heavy_tailed",
    "visits": "count",
    "score": "ordinal",
}


def mixed_table(rows: int = ROWS, seed: int = 0) -> Table:
    return Table.from_frame(mixed_frame(rows, seed), kinds=KINDS)


AWKWARD = {
    "floats": (pd.Series([1.0, 2.5, None]), "continuous"),
    "booleans": (pd.Series([True, False, True]), "binary"),
    "booleans with gaps": (pd.Series([True, None, False], dtype=object), "binary"),
    "nullable booleans": (pd.Series([True, False, None], dtype="boolean"), "binary"),
    "two words": (pd.Series(["m", "f", None]), "binary"),
    "three words": (pd.Series(["a", "b", "c", None]), "categorical"),
    "categories": (pd.Series(pd.Categorical(["x", "y", None], categories=["x", "y", "z"])), "binary"),
    "ordered categories": (
        pd.Series(pd.Categorical(["lo", "hi", None], categories=["lo", "mid", "hi"], ordered=True)),
        "ordinal",
    ),
    "zeros and ones": (pd.Series([0, 1] * 20), "binary"),
    "stars": (pd.Series([1, 2, 3, 4, 5] * 20), "ordinal"),
    "stars beside gaps, which makes them floats": (pd.Series([1, 2, 3, None, 5] * 20), "ordinal"),
    "zeros and ones beside gaps": (pd.Series([0, 1, None] * 20), "binary"),
    "zeros and ones as floats, without gaps": (pd.Series([0.0, 1.0] * 20), "continuous"),
    "whole numbers as objects": (pd.Series([1, 2, None] * 20, dtype=object), "binary"),
    "few whole numbers, seen once": (pd.Series([1, 2, 3]), "continuous"),
    "zeros and ones, four beside gaps": (pd.Series([0.0, 1.0, None, 1.0, 0.0]), "binary"),
    "neighbouring codes of four rows": (pd.Series([3, 4, 4, 3], dtype="Int64"), "binary"),
    "whole numbers as far apart as there are": (pd.Series([0, -(2**63), 0, -(2**63)] * 3), "continuous"),
    "zeros and ones, three": (pd.Series([0, 1, 1]), "continuous"),
    "two numbers that are no neighbours": (pd.Series([2, 5, 5, 2, None]), "continuous"),
    "many whole numbers": (pd.Series(range(5, 105)), "continuous"),
    "numbers as objects": (pd.Series([1, 2.5, None], dtype=object), "continuous"),
}


@pytest.mark.parametrize("case", AWKWARD)
def test_dtype_tells_the_kind(case: str) -> None:
    values, expected = AWKWARD[case]
    table = Table.from_frame(pd.DataFrame({"a": values, "b": np.arange(len(values)) + 0.5}))
    assert table.schema.kinds == {"a": expected, "b": "continuous"}
    assert (f"1 {expected}" in repr(table)) or expected == "continuous"


def test_kinds_overrule_the_dtype() -> None:
    frame = pd.DataFrame({"a": [1, 2, 3], "b": [0.5, 1.5, 2.5]})
    schema = Table.from_frame(frame, kinds={"a": "count", "b": Positive()}).schema
    assert schema.kinds == {"a": "count", "b": "positive"}


WRONG = {
    "not positive": ({"a": [1.0, 0.0]}, {"a": "positive"}, "'a': expected numbers above 0 .* got 0.0 in row 1"),
    "out of bounds": ({"a": [0.5, 1.5]}, {"a": "bounded"}, "'a': expected numbers from 0.0 to 1.0 .* got 1.5 in row 1"),
    "not a count": ({"a": [1.0, 2.5]}, {"a": "count"}, "'a': expected whole numbers from 0, got 2.5 in row 1"),
    "negative count": ({"a": [1, -2]}, {"a": "count"}, "'a': expected whole numbers from 0, got -2 in row 1"),
    "three levels": ({"a": ["x", "y", "z"]}, {"a": "binary"}, "'a': expected two levels for kind 'binary', got 3"),
    "one level": ({"a": ["x", "x", None]}, {"a": "categorical"}, "'a': expected at least two levels"),
    "undeclared level": (
        {"a": ["x", "y", "z"]},
        {"a": Categorical(("x", "y"))},
        r"'a': expected one of \['x', 'y'\], got 'z' in row 2",
    ),
    "names": (
        {"a": [f"id{i}" for i in range(200)]},
        {},
        r"expected at least one column to model, got .*'a' \(200 diff",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_values_that_do_not_fit_are_refused_by_name(case: str) -> None:
    columns, kinds, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        Table.from_frame(pd.DataFrame(columns), kinds=kinds, auxiliary=[])


def test_bounds_are_checked() -> None:
    with pytest.raises(ValueError, match="Bounded: expected finite limits, lower below upper, got 2 and 1"):
        Bounded(2, 1)


WORDS = ("a", "b", "c")
EVERY_KIND: dict[str, tuple[Kind, Callable[[np.ndarray], Any]]] = {  # and values of it, from numbers between 0 and 1
    "continuous": (Continuous(), lambda at: 1e3 * (at - 0.5)),
    "fixed noise": (Continuous(noise=0.2), lambda at: at),
    "heavy_tailed": (HeavyTailed(), lambda at: np.tan(3 * (at - 0.5))),
    "positive": (Positive(), lambda at: np.exp(20 * (at - 0.5))),
    "bounded": (Bounded(-1, 3), lambda at: 4 * (0.001 + 0.998 * at) - 1),
    "count": (Count(), lambda at: np.rint(1e4 * at**4)),
    "poisson": (Count(overdispersed=False), lambda at: np.rint(5 * at)),
    "binary": (Binary((0, 1)), lambda at: np.rint(at).astype(int)),
    "binary words": (Binary(("m", "f")), lambda at: [("m", "f")[int(a > 0.5)] for a in at]),
    "ordinal": (Ordinal((1, 2, 5)), lambda at: np.array([1, 2, 5])[(2.99 * at).astype(int)]),
    "ordinal words": (Ordinal(WORDS), lambda at: [WORDS[int(2.99 * a)] for a in at]),
    "categorical": (Categorical(WORDS), lambda at: [WORDS[int(2.99 * a)] for a in at]),
    "zero_inflated": (ZeroInflated(), lambda at: np.array([0.0, 1.0, 2.5, *np.where(at < 0.3, 0.0, 9 * at)])),
    "datetime": (Datetime(whole_days=True), lambda at: pd.to_datetime(np.rint(2e4 * at), unit="D")),
}


def test_every_kind_is_among_them() -> None:
    assert {kind.name for kind, _ in EVERY_KIND.values()} == set(KINDS_BY_NAME)


@pytest.mark.filterwarnings("ignore:constant columns", "ignore:numbers that look like codes")  # nine beside zeros
@pytest.mark.parametrize("case", EVERY_KIND)
@given(at=st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_values_come_back_from_the_line(case: str, at: list[float]) -> None:
    """Encoded, standardised by their own moments, and decoded: words the same, numbers to rounding."""
    kind, values_at = EVERY_KIND[case]
    values = values_at(np.array(at))
    table = Table.from_frame(pd.DataFrame({"y": values}), kinds={"y": kind}, auxiliary=[])
    column = table.schema.columns[0]
    numbers = column.decode(table.x[:, 0].numpy())
    if isinstance(kind, Categorical):
        assert list(kind.label(numbers)) == list(values)
    else:
        if isinstance(kind, Datetime):
            values = values.to_numpy().astype("datetime64[D]").astype(np.float64)  # days since 1970
        np.testing.assert_allclose(numbers, values, rtol=1e-9, atol=1e-9 * max(1.0, np.abs(values).max()))
    assert from_plain(to_plain(kind)) == kind


def test_a_frame_comes_back_through_the_schema() -> None:
    table = mixed_table()
    for d, column in enumerate(table.schema.columns):
        seen = table.mask[:, d].numpy()
        numbers = column.read(table.frame[column.name])[seen]
        np.testing.assert_allclose(column.decode(table.x[table.mask[:, d], d].numpy()), numbers, rtol=1e-6)
    assert Schema.from_dict(table.schema.to_dict()) == table.schema


def test_unseen_levels_are_refused_or_other() -> None:
    frame = pd.DataFrame({"town": ["A", "B", "C", None], "x": [1.0, 2.0, 3.0, 4.5]})
    new = pd.DataFrame({"town": ["D"], "x": [1.0]})
    with pytest.raises(ValueError, match=r"'town': expected one of \['A', 'B', 'C'\], got 'D' in row 0"):
        Table.from_frame(frame).new_rows(new)
    table = Table.from_frame(frame, kinds={"town": Categorical(other="elsewhere")})
    levels = table.schema.columns[0].kind.levels
    assert levels == ("A", "B", "C", "elsewhere")
    column = table.schema.columns[0]
    assert column.decode(table.new_rows(new).x[:, 0].numpy()) == levels.index("elsewhere")


class TestLogProbabilities:
    """Against scipy, in the user's units: a density differs by the Jacobian of the way to the line."""

    def part(self, name: str) -> tuple[Table, int, torch.nn.Module, torch.Tensor, torch.Tensor]:
        """The table, the column, its likelihood, outputs of a network, and log-probabilities of the observed cells."""
        table = mixed_table()
        d = table.schema.names.index(name)
        likelihood = MixedLikelihood(table.schema)
        generator = torch.Generator().manual_seed(1)
        outputs = torch.randn(ROWS, likelihood.num_outputs, generator=generator)
        fn = likelihood(outputs)
        assert isinstance(fn, Columns) and fn.batch_shape == table.x.shape
        log_prob = fn.log_prob(table.x)[:, d]
        number = next(i for i, positions in enumerate(likelihood.positions) if d in positions)
        own = outputs.split(likelihood.widths, -1)[number]
        return table, d, likelihood.parts[number], own, log_prob

    def values(self, table: Table, d: int) -> tuple[np.ndarray, np.ndarray]:
        seen = table.mask[:, d].numpy()
        return seen, table.schema.columns[d].read(table.frame.iloc[:, d])[seen]

    @pytest.mark.parametrize("name", ["age", "income", "share"])
    def test_normal_and_normal_of_logarithm_or_logit(self, name: str) -> None:
        table, d, noise, outputs, log_prob = self.part(name)
        column, (seen, values) = table.schema.columns[d], self.values(table, d)
        place = [c.name for c in table.schema.columns if c.name in ("age", "income", "share")].index(name)
        mean = column.mean + column.std * outputs[seen, place].numpy()
        std = column.std * noise.noise[place].item()
        if name == "age":
            expected, slope = stats.norm.logpdf(values, mean, std), column.std
        elif name == "income":
            expected, slope = stats.lognorm.logpdf(values, s=std, scale=np.exp(mean)), column.std * values
        else:
            expected = stats.norm.logpdf(logit(values), mean, std) - np.log(values * (1 - values))
            slope = column.std * values * (1 - values)
        np.testing.assert_allclose(log_prob[seen].detach().numpy() - np.log(slope), expected)

    def test_student(self) -> None:
        table, d, noise, outputs, log_prob = self.part("price")
        column, (seen, values) = table.schema.columns[d], self.values(table, d)
        df = 2 + np.log1p(np.exp(noise.raw_df.item()))
        mean = column.mean + column.std * outputs[seen, 0].numpy()
        expected = stats.t.logpdf(values, df, mean, column.std * noise.noise.item())
        np.testing.assert_allclose(log_prob[seen].detach().numpy() - np.log(column.std), expected)

    def test_binary(self) -> None:
        table, d, _, outputs, log_prob = self.part("sex")
        seen, values = self.values(table, d)
        np.testing.assert_allclose(
            log_prob[seen].detach().numpy(), stats.bernoulli.logpmf(values, expit(outputs[seen, 0].numpy()))
        )

    def test_categorical(self) -> None:
        table, d, _, outputs, log_prob = self.part("town")
        seen, values = self.values(table, d)
        odds = np.concatenate([np.ones((seen.sum(), 1)), np.exp(outputs[seen].numpy())], axis=1)
        expected = [
            stats.multinomial.logpmf(np.eye(3)[int(v)], 1, p)
            for v, p in zip(values, odds / odds.sum(1)[:, None], strict=True)
        ]
        np.testing.assert_allclose(log_prob[seen].detach().numpy(), expected)

    @pytest.mark.parametrize(("name", "place", "levels"), [("mood", 0, 3), ("score", 1, 4)])
    def test_ordinal(self, name: str, place: int, levels: int) -> None:
        """Two columns of 3 and 4 levels, in one computation."""
        table, d, likelihood, outputs, log_prob = self.part(name)
        assert likelihood.raw_cutpoints.shape == (2, 3)
        seen, values = self.values(table, d)
        cuts = likelihood.cutpoints[place].detach().numpy()[: levels - 1]
        above = stats.logistic.cdf(cuts - outputs[seen, place].numpy()[:, None])
        below = np.concatenate([np.zeros((len(above), 1)), above, np.ones((len(above), 1))], axis=1)
        codes = table.schema.columns[d].kind.codes(values)
        expected = np.log(np.diff(below, axis=1)[np.arange(len(codes)), codes])
        np.testing.assert_allclose(log_prob[seen].detach().numpy(), expected)

    def test_negative_binomial(self) -> None:
        table, d, counts, outputs, log_prob = self.part("visits")
        seen, values = self.values(table, d)
        mean = counts.offset.item() * np.exp(outputs[seen, 0].numpy())
        total = np.exp(counts.log_total.item())
        np.testing.assert_allclose(
            log_prob[seen].detach().numpy(), stats.nbinom.logpmf(values, total, total / (total + mean)), rtol=1e-6
        )

    def test_poisson(self) -> None:
        frame = pd.DataFrame({"a": [0, 1, 5, 2], "b": [1, 1, 0, 3]})
        table = Table.from_frame(frame, kinds=dict.fromkeys("ab", Count(overdispersed=False)), auxiliary=[])
        outputs = torch.linspace(-1, 1, 8).reshape(4, 2)
        log_prob = MixedLikelihood(table.schema)(outputs).log_prob(table.x)
        mean = frame.mean().to_numpy() * np.exp(outputs.numpy())
        np.testing.assert_allclose(log_prob.numpy(), stats.poisson.logpmf(frame.to_numpy(), mean), rtol=1e-6)


def test_ordinal_levels_start_equally_likely() -> None:
    table = mixed_table()
    likelihood = MixedLikelihood(table.schema)
    fn = likelihood(torch.zeros(1, likelihood.num_outputs))
    ordinal = next(part for columns, part in fn.parts if table.schema.names.index("mood") in columns)
    np.testing.assert_allclose(ordinal.probs[0, 0].detach().numpy(), [1 / 3, 1 / 3, 1 / 3, 0], atol=1e-6)
    np.testing.assert_allclose(ordinal.probs[0, 1].detach().numpy(), [1 / 4] * 4, atol=1e-6)


def test_levels_are_drawn_as_often_as_they_are_probable() -> None:
    logits = torch.tensor([[0.3, -1.0, 0.5], [1.0, 0.0, -torch.inf]])
    fn = Levels(logits, torch.tensor([[-1.0, 0.0, 2.0], [0.0, 1.0, 1e6]]))
    codes = fn.codes(fn.sample((20_000,)))
    found = torch.stack([(codes == level).double().mean(0) for level in range(3)], dim=-1)
    torch.testing.assert_close(found, fn.probs, atol=4 * 0.5 / 20_000**0.5, rtol=0)
    assert (codes[:, 1] < 2).all()


def test_averages_are_of_values_and_shares_of_levels() -> None:
    """The mean of an income is not the income at the mean logarithm."""
    table = mixed_table()
    averages = Averages(table.schema)
    particles = torch.stack([table.x, table.x.flip(0), table.x.roll(7, 0)])
    found, shares = averages.decode(averages.features(particles).mean(0).numpy())
    decoded = [np.stack([c.decode(x[:, d].numpy()) for d, c in enumerate(table.schema.columns)], 1) for x in particles]
    for d, column in enumerate(table.schema.columns):
        values = np.stack(decoded)[:, :, d]
        if isinstance(column.kind, Categorical):
            expected = np.stack([(values == point).mean(0) for point in column.kind.points], axis=1)
            np.testing.assert_allclose(shares[d], expected)
            assert not column.kind.holds_words or (found[:, d] == expected.argmax(1)).all()
        elif column.kind.name != "count" or table.mask[:, d].all():
            np.testing.assert_allclose(found[:, d], values.mean(0))


def test_indicators_see_levels_and_no_gaps() -> None:
    table = mixed_table()
    indicators = Indicators(table.schema)
    assert len(indicators) == 2 and indicators.sources == [table.schema.names.index("town")] * 2
    town = table.frame["town"]
    seen = indicators.observed_features(table.x, table.mask)[:, -2:].numpy()
    np.testing.assert_array_equal(seen, np.stack([town == "B", town == "C"], axis=1))


@pytest.fixture
def fitted() -> tuple[Fit, Table]:
    table = mixed_table()
    model = GINA(table, seed=0)
    guide = ZeroImpute(table, model.latent_dim, seed=0)
    return fit(model, guide, table, seed=0, epochs=3, progress=False), table


class TestImputation:
    def test_draws_are_of_the_columns_own_kind_and_dtype(self, fitted: tuple[Fit, Table]) -> None:
        result, table = fitted
        before = table.frame
        for frame in impute(result, table, num_draws=3, num_particles=10).frames():
            pd.testing.assert_series_equal(frame.dtypes, before.dtypes)
            assert frame.notna().all(axis=None)
            for name in before:
                seen = before[name].notna()
                pd.testing.assert_series_equal(frame.loc[seen, name], before.loc[seen, name])
            assert (frame["income"] > 0).all() and frame["share"].between(0, 1).all() and (frame["visits"] >= 0).all()
            assert set(frame["sex"]) <= {"f", "m"} and set(frame["score"]) <= {1, 2, 3, 4}

    def test_words_get_the_most_probable_and_its_probability(self, fitted: tuple[Fit, Table]) -> None:
        result, table = fitted
        imputations = impute(result, table, num_draws=3, num_particles=10)
        mean = imputations.mean()
        for name in ("sex", "town", "mood"):
            shares = imputations.probabilities(name)
            np.testing.assert_allclose(shares.sum(axis=1), 1)
            assert (mean.loc[shares.index, name].astype(str) == shares.idxmax(axis=1).astype(str)).all()
        score = imputations.probabilities("score")
        np.testing.assert_allclose(
            mean.loc[score.index, "score"].astype(float), score.to_numpy() @ [1, 2, 3, 4], rtol=1e-6
        )
        with pytest.raises(ValueError, match="'age': expected one whose values are levels"):
            imputations.probabilities("age")

    def test_generated_rows_are_of_the_columns_own_kind(self, fitted: tuple[Fit, Table]) -> None:
        result, table = fitted
        drawn = generate(result, table)
        assert set(drawn["town"]) <= {"A", "B", "C"} and (drawn["visits"] == drawn["visits"].round()).all()

    def test_a_file_brings_it_back(self, fitted: tuple[Fit, Table], tmp_path: object) -> None:
        result, table = fitted
        path = f"{tmp_path}/fit.pt"
        result.save(path)
        model = GINA(table, seed=1)
        loaded = Fit.load(path, model, ZeroImpute(table, model.latent_dim, seed=1))
        assert loaded.schema == table.schema
        one, other = (impute(f, table, num_draws=1, num_particles=5).draws for f in (result, loaded))
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("preset", ["self_masking", "general", "no_self_censoring"])
def test_mechanisms_see_exactly_the_declared_parents_among_words_too(preset: str) -> None:
    table = Table.from_frame(mixed_frame()[["age", "town", "mood", "income"]], kinds={"income": "positive"})
    graph = MissingnessGraph.preset(preset, table)
    model = GINA(table, graph=graph, seed=0)
    with torch.no_grad():
        for parameter in model.mechanism.parameters():
            parameter.normal_()
    found = missingness_graph_of(model, table)
    assert {(e.parent, e.child) for e in found.edges} == {(e.parent, e.child) for e in graph.edges}


def test_signs_of_words_are_refused() -> None:
    table = Table.from_frame(mixed_frame()[["age", "town"]])
    with pytest.raises(ValueError, match="sign: column 'town' has levels without an order"):
        SelfMasking(table, sign=-1)
    with pytest.raises(ValueError, match="'town': its levels have no order, so its edges have no sign"):
        GINA(table, graph=MissingnessGraph([("town", "R[town]", {"sign": "high"})], table))
    assert LatentDependent(table, seed=0).mechanism(table.x, torch.zeros(ROWS, 1)).shape == table.x.shape


def test_batches_given_as_tensors_still_work() -> None:
    """A batch without a schema holds numbers only."""
    assert Batch.of(torch.tensor([[1.0, torch.nan]])).mask.tolist() == [[True, False]]


class TestSummedOut:
    """p(r_d = 0 | z) = Σ_x p(x|z) p(r_d = 0 | x, z), whichever level was drawn."""

    COLUMNS = ("age", "sex", "town", "mood", "score")

    def model(self, mechanism: type = LatentDependent) -> tuple[Table, torch.nn.Module]:
        table = Table.from_frame(mixed_frame()[list(self.COLUMNS)], kinds={"score": "ordinal"})
        model = mechanism(table, latent_dim=2, seed=0)
        with torch.no_grad():
            for parameter in model.mechanism.parameters():
                parameter.normal_(generator=torch.Generator().manual_seed(3))
        return table, model

    def brute_force(self, table: Table, model: torch.nn.Module, z: torch.Tensor) -> torch.Tensor:
        """log p(x_o, r | z) per row, cell by cell and level by level."""
        batch, fn = table.batch(), model.decoder(z)
        total = torch.zeros(len(batch))
        for d, column in enumerate(table.schema.columns):
            seen = batch.mask[:, d]
            logits = model.mechanism(batch.x, z)[:, d]
            own = fn.log_prob(batch.x)[:, d] + torch.nn.functional.logsigmoid(logits) * column.incomplete
            total = total + own.masked_fill(~seen, 0.0)
            if not seen.all():
                terms = []
                for point in column.points:
                    x = batch.x.clone()
                    x[:, d] = point
                    missing = torch.nn.functional.logsigmoid(-model.mechanism(x, z)[:, d])
                    terms.append(fn.log_prob(x)[:, d] + missing)
                total = total + torch.stack(terms).logsumexp(0).masked_fill(seen, 0.0)
        return total

    def test_weight_and_gradient_are_the_sum(self, own_store: None) -> None:
        table, model = self.model()
        batch = table.batch()
        z = torch.randn(ROWS, 2)
        for draw in range(3):
            pyro.set_rng_seed(draw)
            trace = poutine.trace(poutine.condition(model, data={"z": z})).get_trace(batch)
            trace.compute_log_prob()
            sites = [trace.nodes[n]["log_prob"] for n in trace.nodes if n.endswith("_observed") or n == "r"]
            log_weight = sum(sites)
            torch.testing.assert_close(log_weight, self.brute_force(table, model, z))
            parameters = [*model.mechanism.parameters(), *model.decoder.parameters()]
            found, exact = (
                torch.autograd.grad(total.sum(), parameters, allow_unused=True)
                for total in (log_weight, self.brute_force(table, model, z))
            )
            for one, other in zip(found, exact, strict=True):
                assert (one is None) == (other is None)
                if one is not None:
                    torch.testing.assert_close(one, other)

    def test_draws_know_that_the_value_was_withheld(self) -> None:
        """With one binary column and a latent that says nothing, shares among gaps by Bayes, in both targets."""
        table = Table.from_frame(pd.DataFrame({"a": [1.0, 2.0] * 200, "b": ["x", "y", None, None] * 100}))
        model = SelfMasking(table, latent_dim=1, seed=0)
        with torch.no_grad():
            for parameter in (*model.decoder.parameters(), *model.mechanism.parameters()):
                parameter.zero_()
        model.mechanism.put_lines(slope=torch.full((2,), -1.0))
        fitted = Fit(model, ZeroImpute(table, 1, seed=0), table.schema)
        points = table.schema.columns[1].points
        odds = expit(points)  # of missing: the slope of being observed is -1
        with_r = impute(fitted, table, num_draws=50, num_particles=20).draws.mean()
        without = impute(fitted, table, num_draws=50, num_particles=20, use_mechanism=False).draws.mean()
        error = 0.5 / np.sqrt(200 * 50)
        assert with_r == pytest.approx(odds[1] / odds.sum(), abs=5 * error)
        assert without == pytest.approx(0.5, abs=5 * error)
        generated = generate(fitted, table.take(np.repeat(np.arange(400), 20)))
        assert (generated["b"] == "y").mean() == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(8000))

    def test_only_where_no_other_mask_depends_on_the_level(self) -> None:
        table, model = self.model()
        everything = set(range(table.schema.num_columns))
        levels = {d for d, column in enumerate(table.schema.columns) if column.kind.has_levels}
        assert model.summed_columns == everything
        assert GINA(table, seed=0).summed_columns == everything
        assert GINA(table, seed=0, numbers="sampled").summed_columns == levels
        assert GINA(table, seed=0, numbers="summed").summed_columns == everything
        assert not GINA(table, seed=0, mechanism_weight=0.5).summed_columns
        assert not GINA(table, seed=0, graph=MissingnessGraph.fully_connected(table)).summed_columns


@pytest.mark.parametrize("dtype", ["object", "str", "string", "string[python]", "string[pyarrow]", "arrow", "category"])
def test_words_are_words_in_every_dtype(dtype: str) -> None:
    if dtype == "str" and pd.__version__ < "3":
        pytest.skip("objects, in which a gap becomes the word None")
    of_arrow = pytest.importorskip("pyarrow").string() if "arrow" in dtype else None
    words = pd.Series(["x", "y", None, "z"] * 5).astype(pd.ArrowDtype(of_arrow) if dtype == "arrow" else dtype)
    table = Table.from_frame(pd.DataFrame({"a": words, "b": np.arange(20.0)}), auxiliary=[])
    assert table.schema.columns[0].kind == Categorical(("x", "y", "z"))
