"""Imputation by a captured graph is the model's own: the same particles from the same numbers, or it is not used."""

from __future__ import annotations

import itertools
import logging
import re
import shutil

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule
from scipy import stats

from checks import bounded_table, gina_pair, sampler_of, table_with_gaps
from pyro_mnar import Batch, Fit, Table, fit, impute, mechanisms, partially_observed, rows
from pyro_mnar.capture.internals import CannotCapture
from pyro_mnar.capture.random_bits import normal_of, random_bits, uniform_of
from pyro_mnar.imputation.averages import Weighted
from pyro_mnar.imputation.captured_sampler import CapturedSampler, Resampled
from pyro_mnar.imputation.chunks import ELEMENTS_TO_CAPTURE, ELEMENTS_TO_COMPILE, imputation_mode
from pyro_mnar.imputation.limits import Limits
from pyro_mnar.imputation.table_gaps import impute_gaps
from pyro_mnar.imputation.target import Target
from pyro_mnar.infer.session import Session
from pyro_mnar.kinds import Bounded

CPU = torch.device("cpu")


def fitted(table: Table, mechanism=mechanisms.General, **options) -> Fit:
    return Fit(*gina_pair(table, mechanism, **options), table.schema)


def of_plain_columns() -> tuple[Fit, Table]:
    table = table_with_gaps()
    return fitted(table), table


def mixed_frame(num_rows: int = 40) -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "amount": random.lognormal(size=num_rows),
            "share": random.beta(2.0, 3.0, num_rows),
            "level": pd.Categorical(random.choice(list("abc"), num_rows)),
            "size": random.normal(size=num_rows),
        }
    )
    for column in frame:
        frame.loc[random.random(num_rows) < 0.3, column] = None
    return frame


def of_kinds() -> tuple[Fit, Table]:
    """Positive, bounded, levels summed out of the weight, continuous."""
    table = Table.from_frame(mixed_frame(), auxiliary=[], kinds={"amount": "positive", "share": Bounded(0.0, 1.0)})
    return fitted(table, mechanisms.SelfMasking), table


def of_own_functions() -> tuple[Fit, Table]:
    """A model and a guide of one's own, without modules."""
    table = table_with_gaps(num_auxiliaries=0)

    def model(batch: Batch):
        with rows(batch):
            z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch), 1), 1.0).to_event(1))
            partially_observed("x", dist.Normal(z.expand(*z.shape[:-1], 3), 0.5), batch)

    def guide(batch: Batch):
        with rows(batch):
            pyro.sample("z", dist.Normal(batch.x.mean(-1, keepdim=True), 0.7).to_event(1))

    return Fit(model, guide, table.schema), table


def of_bounds() -> tuple[Fit, Table]:
    """Gaps of which limits are known, at other cells in every chunk."""
    table = bounded_table({"score": "continuous", "amount": "positive", "share": "bounded"})
    return fitted(table), table


def by_hand(captured: CapturedSampler, batch: Batch, seed: tuple[int, int]) -> Resampled:
    """What the Sampler's own parts make of the numbers that the graph takes."""
    sampler = captured.sampler
    numbers = captured.numbers(captured.bits(batch, seed), batch.dtype)
    with sampler.session.running(), captured.captured.replayed(*numbers):
        own = sampler.draw(batch, captured.num_draws)
    features = sampler.averages.features(own.x, own.given)
    return Resampled(own.draws, *Weighted.of(own.log_weights, features), own.possible())


# The numbers --------------------------------------------------------------------------------------------------------


PAIRS = [of_plain_columns, of_kinds, of_bounds, of_own_functions]
QUICK = [  # each pair and each target once; the rest are captured as these are
    (of_plain_columns, Target.GIVEN_MASK),
    (of_kinds, Target.GIVEN_TEMPERED_MASK),
    (of_bounds, Target.GIVEN_MASK),
    (of_own_functions, Target.WITHOUT_MASK),
]


@pytest.mark.parametrize(
    ("pair", "target"),
    [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in itertools.product(PAIRS, Target)],
)
def test_the_graph_makes_of_other_rows_and_numbers_what_python_makes_of_them(pair, target):
    fit, table = pair()
    batch = table.batch()
    captured = CapturedSampler(sampler_of(fit, target=target), batch.take(torch.arange(10)), 4)
    others = batch.take(torch.arange(20, 30))
    for got, own in zip(captured(others, (7, 0)), by_hand(captured, others, (7, 0)), strict=True):
        torch.testing.assert_close(got, own, rtol=1e-10, atol=1e-10)
    again, other = captured(others, (7, 0)), captured(others, (7, 1))
    assert torch.equal(again.draws, captured(others, (7, 0)).draws)
    assert not torch.equal(again.draws, other.draws)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_machine_code_makes_the_same_to_rounding(dtype, tolerance):
    table = Table.from_frame(table_with_gaps().frame, auxiliary=["u0"], dtype=dtype)
    fit = fitted(table)
    fit.model.to(dtype), fit.guide.to(dtype)
    batch = table.batch()
    example, others = batch.take(torch.arange(10)), batch.take(torch.arange(20, 30))
    captured = CapturedSampler(sampler_of(fit), example, 4)
    graph = captured(others, (3, 0))
    captured.compile(example)
    for got, own in zip(captured(others, (3, 0)), graph, strict=True):
        torch.testing.assert_close(got, own, rtol=tolerance, atol=tolerance)
    captured.check(others, (4, 0))


def test_draws_follow_the_law_of_those_by_python():
    fit, table = of_plain_columns()
    options = {"num_draws": 400, "num_particles": 5}
    captured, eager = (impute(fit, table, compile=mode, **options) for mode in ("graph", "eager"))
    error = (captured.draws.var(0) / 400 + eager.draws.var(0) / 400) ** 0.5
    z = (captured.draws.mean(0) - eager.draws.mean(0)) / error
    # Of means of 400 independent draws: a false alarm in a hundred thousand over all cells together.
    assert np.abs(z).max() < stats.norm.isf(1e-5 / 2 / len(z))
    # A draw is one of few particles, so two samples of the same law agree to the order of 1/√n, in all cells pooled.
    centred = [((draws - eager.draws.mean(0)) / eager.draws.std(0)).ravel() for draws in (captured.draws, eager.draws)]
    assert stats.ks_2samp(*centred).pvalue > 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_made_of_bits_follow_their_laws(dtype):
    bits = [random_bits(200_000, (5, stream), dtype) for stream in range(2)]
    normal, uniform = normal_of(bits[0], dtype).double(), uniform_of(bits[1], dtype).double()
    assert stats.kstest(normal.numpy(), "norm").pvalue > 1e-5
    assert stats.kstest(uniform.numpy(), "uniform").pvalue > 1e-5
    # The two of a pair, one after the other, and two streams: √n times a correlation is standard normal.
    first, second = normal.chunk(2)
    other = normal_of(bits[1], dtype).double()
    pairs = [(first, second), (first**2 - 1, second**2 - 1), (normal[1:], normal[:-1]), (normal, other)]
    z = [((a * b).mean() / (a * b).std() * len(a) ** 0.5).abs().item() for a, b in pairs]
    assert max(z) < stats.norm.isf(1e-5 / 2 / len(z))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_bits_make_a_number_out_of_range(dtype):
    word = torch.int32 if dtype is torch.float32 else torch.int64
    ends = torch.tensor([torch.iinfo(word).min, torch.iinfo(word).max, 0, -1], dtype=word)
    uniform = uniform_of(ends, dtype)
    assert uniform.min() == 0 and uniform.max() < 1
    both = torch.cartesian_prod(ends, ends).T.reshape(-1)
    assert normal_of(both, dtype).isfinite().all()


# Chunks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(  # seven rows; a row and two draws; a row and a draw
    "size", [pytest.param(7 * 3 * 6 * 4, marks=pytest.mark.slow), 2 * 3 * 6, 1]
)
def test_numbers_do_not_depend_on_threads_and_all_rows_and_draws_are_there(size):
    fit, table = of_plain_columns()
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(impute_gaps(table, sampler_of(fit, limits=Limits(elements_of_a_graph=size)), CPU, "graph"))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[0].draws, found[1].draws)
    np.testing.assert_array_equal(found[0].means, found[1].means)
    assert found[0].draws.shape == (4, int((~table.mask).sum()))
    assert all(len(set(cell)) > 1 for cell in found[0].draws.T)  # particles of their own, not the same numbers again
    with_gaps = (~table.mask).any(1).numpy()
    assert np.isfinite(found[0].effective_sample_size[with_gaps]).all()
    assert found[0].effective_sample_size.min() >= 1.0


def test_a_small_chunk_counts_by_its_weights():
    fit, table = of_plain_columns()
    whole = impute(fit, table, num_draws=60, num_particles=20, compile="graph")
    small = sampler_of(fit, num_draws=60, num_particles=20, limits=Limits(elements_of_a_graph=3 * 20 * 5))
    parts = impute_gaps(table, small, CPU, "graph")
    spread = whole.draws.std(0) / (whole.effective_sample_size[whole.cells[0]] / 2) ** 0.5
    assert (np.abs(parts.means - whole.means) / spread).max() < 6


def test_the_callers_generators_stay_as_they_are(generators_untouched):
    fit, table = of_plain_columns()
    impute(fit, table, num_draws=2, num_particles=3, compile="graph")


def test_a_table_without_gaps_is_imputed_too():
    fit, table = of_plain_columns()
    complete = table.new_rows(table.frame.fillna(0.0))
    assert impute(fit, complete, compile="graph").draws.shape == (20, 0)


# The choice ---------------------------------------------------------------------------------------------------------


def test_auto_counts_particles(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    assert imputation_mode(ELEMENTS_TO_CAPTURE - 1, CPU)[0] == "eager"
    assert imputation_mode(ELEMENTS_TO_CAPTURE, CPU)[0] == "graph"
    monkeypatch.setattr(shutil, "which", lambda name: "there")
    assert imputation_mode(ELEMENTS_TO_COMPILE, CPU)[0] == "inductor"
    assert imputation_mode(ELEMENTS_TO_COMPILE, torch.device("cuda"))[0] == "graph"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert imputation_mode(ELEMENTS_TO_COMPILE, CPU) == ("graph", "no C++ compiler: looked for g++ and clang++")


def test_the_log_says_what_was_chosen_and_why(caplog):
    fit, table = of_plain_columns()
    with caplog.at_level(logging.INFO):
        impute(fit, table, num_draws=2, num_particles=3)
    assert re.fullmatch(r"imputation: eager \([\d,]+ particle cells are too few .*\)", caplog.messages[-1])


def test_an_unknown_mode_is_refused():
    fit, table = of_plain_columns()
    with pytest.raises(ValueError, match=r"compile: expected one of .*'graph'.*, got 'jit'"):
        impute(fit, table, compile="jit")


def branching(fit: Fit) -> Fit:
    def model(batch: Batch):
        if batch.x.sum() > 1e9:
            raise AssertionError
        return fit.model(batch)

    return Fit(model, fit.guide, fit.schema)


def falls_back(caplog, reason: str, fit: Fit, table: Table, **options):
    """Python takes over, with a warning that says why, and the numbers are those of a run by Python."""
    with caplog.at_level(logging.WARNING):
        found = impute(fit, table, num_draws=2, num_particles=20, compile="graph", **options)
    (message,) = caplog.messages
    assert message.startswith("imputation: eager (not captured: ")
    assert re.search(reason, message), message
    np.testing.assert_array_equal(
        found.draws, impute(fit, table, num_draws=2, num_particles=20, compile="eager", **options).draws
    )


def test_a_model_with_branches_is_run_by_python(caplog):
    fit, table = of_plain_columns()
    falls_back(caplog, r"reads values of a tensor \(test_captured_imputation.py, line \d+\)", branching(fit), table)


def test_what_rows_share_keeps_its_random_numbers_where_python_goes_on():
    def model(batch):
        theta = pyro.sample("theta", dist.Normal(batch.x.new_zeros(()), 1.0))
        with rows(batch):
            partially_observed("x", dist.Normal(theta + batch.x.new_zeros(3), 1.0), batch)

    def guide(batch):
        pyro.sample("theta", dist.Normal(pyro.param("at", lambda: batch.x.new_zeros(())), 0.1))

    table = table_with_gaps()
    sampler = sampler_of(fit(model, guide, table, epochs=1, progress=False))
    with pytest.raises(CannotCapture, match="latents that all rows share"):
        CapturedSampler(sampler, table.batch(), 4)
    with sampler.session.running():
        after = torch.randn(20)
    with Session(0).running():
        assert not torch.equal(after, torch.randn(20))  # which the latents have had


def test_random_numbers_of_other_samplers_are_drawn_by_python(caplog):
    frame = table_with_gaps().frame.drop(columns="u0")
    frame["visits"] = np.random.default_rng(0).poisson(4.0, len(frame)).astype(float)
    frame.loc[::3, "visits"] = np.nan
    table = Table.from_frame(frame, auxiliary=[], kinds={"visits": "count"})
    falls_back(caplog, "random numbers of 'aten.*' cannot be drawn beforehand", fitted(table), table)


def test_captured_draws_are_held_between_bounds():
    fit, table = of_bounds()
    found = impute(fit, table, num_draws=5, num_particles=4, compile="graph")
    lower, upper = (bound[tuple(found.cells)] for bound in (table.bounds.lower, table.bounds.upper))
    assert ((found.draws >= lower) & (found.draws <= upper)).all() and np.isfinite(upper).any()


def test_constraints_and_single_cells_are_left_to_python(caplog):
    fit, table = of_plain_columns()
    falls_back(caplog, "row constraints", fit, table, constraints=[lambda frame: frame["x0"] > -100.0])
    caplog.clear()
    falls_back(caplog, "different numbers of the cells", fit, table, cells=tuple((~table.mask).nonzero().T.numpy()))


def test_a_model_that_changes_as_it_runs_is_run_by_python(caplog):
    fit, table = of_plain_columns()

    class Restless(PyroModule):
        def __init__(self):
            super().__init__()
            self.inner, self.runs = fit.model, 0

        def forward(self, batch: Batch):
            self.runs += 1
            with pyro.poutine.scale(scale=1.0 + self.runs):
                return self.inner(batch)

    with caplog.at_level(logging.WARNING):
        impute(Fit(Restless(), fit.guide, fit.schema), table, num_draws=2, num_particles=20, compile="graph")
    assert "are not the model's own any more" in caplog.messages[0]


def test_unusable_weights_are_named_as_by_python():
    fit, table = of_plain_columns()
    with torch.no_grad():
        next(iter(fit.guide.parameters())).fill_(torch.nan)
    for mode in ("eager", "graph"):
        with pytest.raises(ValueError, match="weight is not a number"):
            impute(fit, table, num_draws=2, num_particles=3, compile=mode)


def test_no_compiler_leaves_the_graph(caplog, monkeypatch):
    fit, table = of_plain_columns()
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with caplog.at_level(logging.WARNING):
        found = impute(fit, table, num_draws=2, num_particles=3, compile="inductor")
    assert caplog.messages == ["imputation: graph (not compiled: no C++ compiler: looked for g++ and clang++)"]
    graph = impute(fit, table, num_draws=2, num_particles=3, compile="graph")
    np.testing.assert_array_equal(found.draws, graph.draws)
