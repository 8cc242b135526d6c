"""Imputations follow the exact conditional law, and frames come back as they went in."""

from __future__ import annotations

from typing import NamedTuple

import arviz
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from checks import FALSE_ALARM, sampler_of, z_limit
from pyro_mnar import Fit, Table, impute, observe_mask, partially_observed, rows
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.imputation.limits import Limits
from pyro_mnar.imputation.table_gaps import impute_gaps
from pyro_mnar.models import GINA

# A model whose conditional laws are known ---------------------------------------------------------------------------
#
#   z → x_a → r_a (at random)      x_d = LOADING_d · z + NOISE_d · ε
#   └─→ x_b → r_b                  log-odds of being observed: INTERCEPT_d + SLOPE_d · x_d; high values of b go missing

LOADING, NOISE = torch.tensor([0.9, 0.8]), torch.tensor([0.5, 0.6])
INTERCEPT, SLOPE = torch.tensor([1.0, 0.3]), torch.tensor([0.0, -2.0])


def linked(batch, weight=1.0):
    with rows(batch):
        z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch)), 1.0))
        mean, noise = z[..., None] * LOADING.to(z), NOISE.to(z)
        x = partially_observed("x", dist.Normal(mean, noise), batch)
        observe_mask("r", INTERCEPT.to(z) + SLOPE.to(z) * x, batch, weight=weight)


def exact_posterior(batch):
    precision = LOADING.to(batch.x) / NOISE.to(batch.x) ** 2
    variance = 1 / (1 + (batch.mask * precision * LOADING.to(batch.x)).sum(-1))
    with rows(batch):
        pyro.sample("z", dist.Normal(variance * (batch.mask * precision * batch.x).sum(-1), variance.sqrt()))


class Law(NamedTuple):
    """The law of one missing cell, by quadrature, and the error of a self-normalised mean of one particle."""

    mean: float
    error: float
    grid: np.ndarray
    density: np.ndarray

    def cdf(self, at):
        step = self.grid[1] - self.grid[0]
        return np.interp(at, self.grid + step / 2, np.cumsum(self.density) * step)


def law_of(x, mask, column, use_mechanism):
    """Of cell ``column`` given the other entry where that is observed; x and mask of one row, standardised."""
    loading, noise = LOADING.double().numpy(), NOISE.double().numpy()
    covariance = np.outer(loading, loading) + np.diag(noise**2)
    other = 1 - column
    grid = np.linspace(-12, 12, 20_001)
    step = grid[1] - grid[0]

    def normal(given):
        ratio = covariance[column, other] / covariance[other, other]
        variance = covariance[column, column] - ratio * covariance[other, column]
        return ratio * given, variance

    if mask[other]:
        mean, variance = normal(x[other])
        prior = stats.norm.pdf(grid, mean, variance**0.5)
    else:
        prior = stats.norm.pdf(grid, 0, covariance[column, column] ** 0.5)
    weight = np.ones_like(grid)
    if use_mechanism:
        weight = 1 / (1 + np.exp(INTERCEPT[column].item() + SLOPE[column].item() * grid))
        if not mask[other]:  # the other entry is missing too, and its mask speaks of it: integrate it out
            ratio = covariance[other, column] / covariance[column, column]
            spread = (covariance[other, other] - ratio * covariance[column, other]) ** 0.5
            nodes, node_weights = np.polynomial.hermite_e.hermegauss(60)
            points = ratio * grid[:, None] + spread * nodes
            missing = 1 / (1 + np.exp(INTERCEPT[other].item() + SLOPE[other].item() * points))
            # The law needs the mean of the weight over the other entry, the error that of its square.
            first, second = missing @ node_weights, missing**2 @ node_weights
            first, second = first / node_weights.sum(), second / node_weights.sum()
            return _law(grid, step, prior, weight * first, weight**2 * second)
    return _law(grid, step, prior, weight, weight**2)


def _law(grid, step, prior, weight, squared):
    total = (prior * weight).sum() * step
    density = prior * weight / total
    mean = (density * grid).sum() * step
    error = ((prior * squared * (grid - mean) ** 2).sum() * step) ** 0.5 / total
    return Law(mean, error, grid, density)


def laws(table, use_mechanism=True):
    cells = np.argwhere(~table.mask.numpy())
    return [law_of(table.x[i].numpy(), table.mask[i].numpy(), d, use_mechanism) for i, d in cells]


def frame_with_gaps(num_rows, seed=0):
    """Draws from the model, in units of their own, with every pattern of gaps."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(num_rows, 1)) * LOADING.numpy() + random.normal(size=(num_rows, 2)) * NOISE.numpy()
    frame = pd.DataFrame(
        x * [3.0, 20.0] + [50.0, -7.0], columns=["a", "b"], index=[f"row {i}" for i in range(num_rows)]
    )
    frame.iloc[0::4, 1] = np.nan
    frame.iloc[1::4, 0] = np.nan
    frame.iloc[2::8, :] = np.nan
    return frame


def closed_form(num_rows=24):
    table = Table.from_frame(frame_with_gaps(num_rows), auxiliary=[])
    return Fit(linked, exact_posterior, table.schema), table


def imputed_within(limits, fit, table, num_draws, num_particles):
    return impute_gaps(table, sampler_of(fit, num_draws, num_particles, limits=limits), fit.device, "eager")


def decoded(table, values):
    cells = np.argwhere(~table.mask.numpy())
    columns = table.schema.columns
    return np.array([value * columns[d].std + columns[d].mean for value, (_, d) in zip(values, cells, strict=True)])


def check_means(imputations, expected, num_particles):
    """A z-test per cell with the exact error of a self-normalised mean; false alarm at 1e-5 over all cells together."""
    table = imputations.table
    scale = decoded(table, np.ones(len(expected))) - decoded(table, np.zeros(len(expected)))
    error = scale * [law.error for law in expected] / num_particles**0.5
    distance = np.abs(imputations.means - decoded(table, [law.mean for law in expected])) / error
    assert distance.max() < z_limit(len(expected)), distance


# The laws -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_mechanism", [True, False])
def test_means_are_the_exact_posterior_means(use_mechanism):
    fit, table = closed_form()
    imputations = impute(fit, table, num_draws=10, num_particles=2_000, use_mechanism=use_mechanism)
    check_means(imputations, laws(table, use_mechanism), 20_000)


def test_the_two_targets_differ_by_more_than_chance():
    fit, table = closed_form()
    ignoring = impute(fit, table, num_draws=10, num_particles=2_000, use_mechanism=False)
    with pytest.raises(AssertionError):
        check_means(ignoring, laws(table, use_mechanism=True), 20_000)


@pytest.mark.parametrize("use_mechanism", [True, False])
def test_draws_follow_the_exact_conditional_law(use_mechanism):
    fit, table = closed_form()
    imputations = impute(fit, table, num_draws=200, num_particles=300, use_mechanism=use_mechanism, seed=1)
    columns = table.schema.columns
    uniform = [
        law.cdf((draws - columns[d].mean) / columns[d].std)
        for law, draws, d in zip(laws(table, use_mechanism), imputations.draws.T, imputations.cells[1], strict=True)
    ]
    assert stats.kstest(np.concatenate(uniform), "uniform").pvalue > FALSE_ALARM


def test_means_weigh_all_particles_and_do_not_average_draws():
    fit, table = closed_form(8)
    imputations = impute(fit, table, num_draws=20_000, num_particles=1)
    check_means(imputations, laws(table), 20_000)
    # One particle a draw leaves nothing to choose from: the draws are proposals, whose mean is another one.
    ignoring = decoded(table, [law.mean for law in laws(table, use_mechanism=False)])
    of_b = imputations.cells[1] == 1
    np.testing.assert_allclose(imputations.draws.mean(0)[of_b], ignoring[of_b], atol=20 * 5 / 20_000**0.5)
    assert (imputations.means - imputations.draws.mean(0))[of_b].min() > 20 * 10 / 20_000**0.5


def test_each_draw_of_a_row_comes_from_particles_of_its_own():
    fit, table = closed_form(8)
    draws = impute(fit, table, num_draws=50, num_particles=2).draws
    assert [len(set(cell)) for cell in draws.T] == [50] * draws.shape[1]


def test_chunks_of_rows_and_draws_follow_the_same_law():
    fit, table = closed_form()
    limits = Limits(elements=3 * 2 * 2_000)  # three rows and one draw at once
    imputations = imputed_within(limits, fit, table, num_draws=10, num_particles=2_000)
    check_means(imputations, laws(table), 20_000)
    assert (imputations.effective_sample_size[table.mask.all(1).numpy()] == np.inf).all()
    assert imputations.effective_sample_size.min() > 5_000  # of 20,000: all draws' particles count, not the last one's


def test_small_chunks_count_by_their_weights():
    fit, table = closed_form(8)
    limits = Limits(elements=5 * 2 * 3)  # three hundred runs of three particles
    check_means(imputed_within(limits, fit, table, num_draws=300, num_particles=3), laws(table), 900)


def test_chunks_hold_no_more_than_they_may():
    _, table = closed_form()
    held = []

    def watched(batch):
        held.append(len(batch))
        return linked(batch)

    fit = Fit(watched, exact_posterior, table.schema)
    imputed_within(Limits(elements=5 * 2 * 10), fit, table, num_draws=3, num_particles=10)
    chunks = -(-int((~table.mask).any(1).sum()) // 5)
    # Two runs to see what the sites are, one to count plates, one to weigh, two to see that rows stand for themselves,
    # then a draw of five rows at a time.
    assert max(held) == 5 and len(held) == 6 + 3 * chunks


def test_the_mechanism_counts_in_full_whatever_weight_it_was_trained_with():
    fit, table = closed_form()
    tempered = Fit(lambda batch: linked(batch, weight=0.3), exact_posterior, table.schema)
    np.testing.assert_allclose(impute(tempered, table).draws, impute(fit, table).draws, rtol=1e-12)


def test_cells_missing_by_design_tell_nothing():
    frame = frame_with_gaps(24)
    by_design = {"b": frame["b"].isna().to_numpy()}
    table = Table.from_frame(frame, auxiliary=[], by_design=by_design)
    imputations = impute(Fit(linked, exact_posterior, table.schema), table, num_draws=10, num_particles=2_000)
    check_means(imputations, laws(table, use_mechanism=False), 20_000)  # the mask of a depends on nothing


# Rows and columns ---------------------------------------------------------------------------------------------------


def test_permuting_rows_permutes_the_means():
    fit, table = closed_form()
    order = np.random.default_rng(5).permutation(len(table))
    shuffled = impute(fit, table.frame.iloc[order], num_draws=10, num_particles=2_000, seed=7)
    check_means(shuffled, laws(shuffled.table), 20_000)
    back = shuffled.mean().loc[table.frame.index]
    first = impute(fit, table, num_draws=10, num_particles=2_000, seed=8).mean()
    error = [law.error / 20_000**0.5 for law in laws(table)]
    scale = [table.schema.columns[d].std for _, d in np.argwhere(~table.mask.numpy())]
    distance = np.abs((back - first).to_numpy()[~table.mask.numpy()]) / (2**0.5 * np.multiply(error, scale))
    assert distance.max() < z_limit(len(distance))


def test_the_order_of_columns_changes_nothing_but_their_order():
    fit, table = closed_form()
    swapped = impute(fit, table.frame[["b", "a"]]).mean()
    assert list(swapped.columns) == ["b", "a"]
    pd.testing.assert_frame_equal(swapped[["a", "b"]], impute(fit, table).mean(), check_exact=True)


def test_new_rows_are_imputed_in_the_training_tables_units():
    fit, table = closed_form()
    new = pd.DataFrame({"b": [None, 3.0, None], "a": [53.0, None, None]}, index=["x", "y", "z"], dtype=float)
    imputations = impute(fit, new, num_draws=10, num_particles=2_000)
    check_means(imputations, laws(imputations.table), 20_000)
    assert imputations.table.schema == table.schema


@pytest.mark.parametrize(
    "row", [[None, None], [1.0, 2.0], [1.0, None]], ids=["all missing", "none missing", "one missing"]
)
def test_one_row_is_a_table(row):
    fit, _ = closed_form()
    new = pd.DataFrame([row], columns=["a", "b"], dtype=float)
    imputations = impute(fit, new, num_draws=3)
    completed = [imputations.mean(), *imputations.frames()]
    assert len(completed) == 4
    for frame in completed:
        assert frame.notna().all(axis=None)
    assert imputations.cells.shape[1] == new.isna().to_numpy().sum()


def test_a_table_without_gaps_comes_back_as_it_is():
    fit, _ = closed_form()
    new = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    imputations = impute(fit, new)
    pd.testing.assert_frame_equal(imputations.mean(), new)
    assert imputations.draws.shape == (20, 0)
    assert (imputations.effective_sample_size == np.inf).all()


def test_cells_that_are_not_applicable_are_never_imputed():
    frame = frame_with_gaps(12)
    frame["b"] = frame["b"].round()
    frame.iloc[3, 1], frame.iloc[7, 1] = -999.0, -998.0
    inapplicable = {"b": [-999.0], "a": frame["a"].isna().to_numpy() & (np.arange(12) == 1)}
    table = Table.from_frame(frame, auxiliary=[], not_applicable=inapplicable, na_values={"b": [-998.0]})
    imputations = impute(Fit(linked, exact_posterior, table.schema), table, num_draws=2)
    for completed in (imputations.mean(), *imputations.frames()):
        assert completed.iloc[3, 1] == -999.0
        assert np.isnan(completed.iloc[1, 0])
        assert completed.iloc[7, 1] != -998.0
        assert completed.isna().to_numpy().sum() == 1
    assert [3, 1] not in imputations.cells.T.tolist()


def test_held_out_cells_are_imputed_over_the_values_that_the_frame_keeps():
    fit, table = closed_form()
    cells = np.zeros(table.mask.shape, dtype=bool)
    cells[3] = True
    imputations = impute(fit, table.hold_out(cells), num_draws=2)
    assert (imputations.mean().iloc[3] != table.frame.iloc[3]).all()
    assert table.frame.iloc[3].notna().all()


# Seeds --------------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_draws_and_leaves_the_callers_generator_alone():
    fit, table = closed_form()
    first = impute(fit, table, seed=3)
    before = torch.get_rng_state()
    torch.randn(5)
    moved = torch.get_rng_state()
    second = impute(fit, table, seed=3)
    assert torch.equal(torch.get_rng_state(), moved)
    assert not torch.equal(before, moved)
    np.testing.assert_array_equal(first.draws, second.draws)
    np.testing.assert_array_equal(first.means, second.means)
    assert (impute(fit, table, seed=4).draws != first.draws).all()


# Frames -------------------------------------------------------------------------------------------------------------

COLUMNS = {
    "float64": st.floats(-1e6, 1e6),
    "float32": st.floats(-1e6, 1e6, width=32),
    "float16": st.floats(-1e3, 1e3, width=16),
    "Float64": st.floats(-1e6, 1e6),
    "Float32": st.floats(-1e6, 1e6, width=32),
    "Int64": st.integers(-(2**40), 2**40),
    "Int8": st.integers(-128, 127),
    "UInt8": st.integers(0, 255),
    "boolean": st.booleans(),
    "object": st.floats(-1e6, 1e6) | st.integers(-5, 5),
    "int64": st.integers(-(2**40), 2**40),  # gaps are codes
    "uint8": st.integers(1, 255),
    "bool": st.booleans(),  # no gaps
}
CODES = {"int64": -(2**41), "uint8": 0}
NAMES = st.integers(-3, 3) | st.text(max_size=2) | st.tuples(st.integers(0, 2), st.text(max_size=1))


@st.composite
def frames(draw):
    """Small frames of any dtypes, labels and gaps, with at least one observed value a column; and their codes."""
    num_rows = draw(st.integers(1, 6))
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique_by=str))
    columns, codes = [], {}
    for name in names:
        dtype = draw(st.sampled_from(sorted(COLUMNS)))
        values = draw(st.lists(COLUMNS[dtype], min_size=num_rows, max_size=num_rows))
        gaps = draw(st.lists(st.booleans(), min_size=num_rows, max_size=num_rows))
        gaps[draw(st.integers(0, num_rows - 1))] = False
        if dtype != "bool":
            values = [CODES.get(dtype) if gap else value for gap, value in zip(gaps, values, strict=True)]
        if dtype in CODES:
            codes[name] = CODES[dtype]
        columns.append(pd.Series(values, dtype=dtype))
    frame = pd.concat(columns, axis=1)
    frame.columns = pd.Index(names, tupleize_cols=False)
    frame.index = draw(
        st.sampled_from(
            [pd.RangeIndex(num_rows), pd.Index(["x"] * num_rows), pd.date_range("2021", periods=num_rows, name="day")]
        )
    )
    return frame, codes


def bits_of(values):
    """What the cells hold, to the last bit, with gaps marked."""
    return ["gap" if value is None or value is pd.NA else np.asarray(value).tobytes() for value in values.array]


def as_seen(frame, table):
    return [bits_of(frame.iloc[:, i][table.mask[:, i].numpy()]) for i in range(frame.shape[1])]


@pytest.mark.filterwarnings("ignore:na_values of column.*stands in any row")
@given(frames())
@settings(max_examples=settings.default.max_examples * 3 // 5)
@pytest.mark.filterwarnings("ignore:constant columns")
def test_frames_come_back_with_observed_bits_dtypes_index_and_columns_kept(frame_and_codes):
    frame, codes = frame_and_codes
    before = frame.copy(deep=True)
    table = Table.from_frame(frame, auxiliary=[], na_values=codes)
    fit = Fit(GINA(table, latent_dim=1, seed=0), ZeroImpute(table, 1, hidden=(4,), seed=0), table.schema)
    imputations = impute(fit, table, num_draws=2, num_particles=3)
    completed = list(imputations.frames())
    assert len(completed) == 2
    for result in completed:
        assert result.dtypes.tolist() == frame.dtypes.tolist()
        assert as_seen(result, table) == as_seen(frame, table)
    mean = imputations.mean()
    for result in (*completed, mean):
        assert result.index.equals(frame.index)
        assert result.index.name == frame.index.name
        assert result.columns.equals(frame.columns)
        assert result.notna().all(axis=None)
    for i, dtype in enumerate(frame.dtypes):
        if table.mask[:, i].all():
            assert mean.dtypes.iloc[i] == dtype
        elif pd.api.types.is_integer_dtype(dtype) or pd.api.types.is_bool_dtype(dtype):
            assert pd.api.types.is_float_dtype(mean.dtypes.iloc[i])
        else:
            assert mean.dtypes.iloc[i] == dtype
            seen = table.mask[:, i].numpy()
            assert bits_of(mean.iloc[:, i][seen]) == bits_of(frame.iloc[:, i][seen])
    pd.testing.assert_frame_equal(frame, before)


def test_integers_get_the_nearest_whole_draw_and_the_exact_mean():
    frame = frame_with_gaps(12)
    frame["a"] = frame["a"].round().astype("Int64")
    frame["b"] = frame["b"].fillna(-999).round().astype("int64")
    table = Table.from_frame(frame, auxiliary=[], na_values={"b": -999})
    imputations = impute(Fit(linked, exact_posterior, table.schema), table, num_draws=3)
    cells = np.argwhere(~table.mask.numpy())
    for draw, completed in zip(imputations.draws, imputations.frames(), strict=True):
        assert [completed.iloc[i, d] for i, d in cells] == np.rint(draw).tolist()
    assert [imputations.mean().iloc[i, d] for i, d in cells] == imputations.means.tolist()
    assert imputations.mean().dtypes.tolist() == [pd.Float64Dtype(), np.dtype("float64")]


def test_draws_outside_a_small_integer_stop_at_its_limits():
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0] * 8, "b": pd.Series([0, 255, None] * 8, dtype="UInt8")})
    table = Table.from_frame(frame, auxiliary=[])
    imputations = impute(Fit(linked, exact_posterior, table.schema), table, num_draws=400, use_mechanism=False)
    assert imputations.draws.min() < 0
    assert imputations.draws.max() > 255
    assert {0, 255} <= {value for completed in imputations.frames() for value in completed["b"][2::3]}


@pytest.mark.parametrize("dtype", ["boolean", object])
def test_booleans_get_booleans_in_draws_and_shares_in_means(dtype):
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0] * 4, "b": pd.Series([True, False, None] * 4, dtype=dtype)})
    table = Table.from_frame(frame, auxiliary=[])
    imputations = impute(Fit(linked, exact_posterior, table.schema), table, num_draws=3)
    for completed in imputations.frames():
        assert completed["b"].dtype == dtype
        assert {type(value) for value in completed["b"].tolist()} == {bool}
    assert imputations.mean()["b"].tolist()[2::3] == pytest.approx(imputations.means.tolist())


def test_changing_a_completed_frame_changes_neither_the_callers_nor_the_next():
    fit, table = closed_form(8)
    before = table.frame.copy(deep=True)
    imputations = impute(fit, table, num_draws=2)
    first, second = imputations.frames()
    kept = second.copy(deep=True)
    first.iloc[:, :] = 0.0
    pd.testing.assert_frame_equal(second, kept)
    pd.testing.assert_frame_equal(table.frame, before)


# ArviZ --------------------------------------------------------------------------------------------------------------


def with_auxiliaries():
    frame = frame_with_gaps(12).assign(age=np.arange(12), sex=["f", "m"] * 6)
    table = Table.from_frame(frame, auxiliary=["age", "sex"])
    return impute(Fit(linked, exact_posterior, table.schema), table, num_draws=6)


def test_arviz_gets_draws_data_and_constants_with_named_dimensions():
    imputations = with_auxiliaries()
    data, table = imputations.to_inference_data(), imputations.table
    missing = data["posterior"]["x_missing"]
    assert missing.dims == ("chain", "draw", "cell")
    np.testing.assert_array_equal(missing.to_numpy()[0], imputations.draws)
    assert missing["row"].to_numpy().tolist() == [f"row {i}" for i in imputations.cells[0]]
    assert missing["column"].to_numpy().tolist() == ["ab"[d] for d in imputations.cells[1]]
    x = data["observed_data"]["x"]
    assert x.dims == ("row", "column")
    np.testing.assert_allclose(x.to_numpy(), table.frame[["a", "b"]].to_numpy())
    np.testing.assert_array_equal(data["observed_data"]["r"].to_numpy(), table.mask.numpy())
    assert data["constant_data"]["age"].to_numpy().tolist() == list(range(12))
    assert data["constant_data"]["sex"].sel(row="row 3").item() == "m"


def test_arviz_summarises_the_missing_cells():
    imputations = with_auxiliaries()
    summary = arviz.summary(imputations.to_inference_data(), kind="stats", round_to="none")
    assert len(summary) == imputations.cells.shape[1]
    np.testing.assert_allclose(summary["mean"].to_numpy(dtype=float), imputations.draws.mean(0))


@pytest.mark.parametrize("index", [[7] * 8, [1, "1", 2, "2", 3, "3", 4, "4"]], ids=["repeated", "the same as text"])
def test_arviz_numbers_rows_whose_labels_do_not_tell_them_apart(index):
    frame = frame_with_gaps(8)
    frame.index = index
    table = Table.from_frame(frame, auxiliary=[])
    data = impute(Fit(linked, exact_posterior, table.schema), table, num_draws=4).to_inference_data()
    assert data["observed_data"]["row"].to_numpy().tolist() == list("01234567")
    assert len(arviz.summary(data, kind="stats")) == frame.isna().to_numpy().sum()


@pytest.mark.parametrize(
    "index",
    [
        [0, "one", 2.5, ("a", 3), None, "five"],
        pd.date_range("2024-01-01", periods=6, tz="Europe/Paris"),
        pd.MultiIndex.from_product([["x", "y"], [1, 2, 3]]),
        ["same"] * 6,
    ],
    ids=["mixed", "timezone", "two levels", "repeated"],
)
def test_arviz_saves_and_loads_whatever_the_labels_are(index, tmp_path):
    frame = frame_with_gaps(6).reset_index(drop=True)
    frame["group"] = pd.Categorical(list("uvuvuv"))
    frame.index = index if isinstance(index, pd.Index) else pd.Index(index, tupleize_cols=False)
    table = Table.from_frame(frame, auxiliary=["group"])
    imputations = impute(Fit(linked, exact_posterior, table.schema), table, num_draws=3, num_particles=10)
    tails = pd.Series([0.3], index=[1])
    data = imputations.to_inference_data(pareto_k=tails)
    data.to_netcdf(str(tmp_path / "draws.nc"))
    loaded = arviz.from_netcdf(str(tmp_path / "draws.nc"))
    for group in ("posterior", "sample_stats", "observed_data", "constant_data"):
        assert loaded[group].equals(data[group]), group
    np.testing.assert_array_equal(data.posterior["x_missing"][0], imputations.draws)
    np.testing.assert_array_equal(data.sample_stats["effective_sample_size"], imputations.effective_sample_size)
    assert data.sample_stats["pareto_k"].to_numpy()[1] == 0.3 and np.isnan(data.sample_stats["pareto_k"][0])
    assert data.posterior["row"].dtype.kind in "UT"
