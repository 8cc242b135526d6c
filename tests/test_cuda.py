"""What a CUDA card must do as the processor does: training in every mode, imputation, restarts, checkpoints, files.

Random numbers of a card are others than the processor's, so results are compared by what they estimate.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_mnar import Fit, Table, fit, impute
from pyro_mnar.capture.replay import Replayed
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.mechanisms import SelfMasking
from pyro_mnar.models import GINA
from pyro_mnar.training.captured_steps import STEPS_OF_A_REPLAY
from pyro_mnar.training.evidence import log_evidence

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
MODES = ("eager", "graph", "inductor")


def masked(count: int = 300) -> Table:
    """Three columns of one factor; the larger a value of ``a``, the likelier its gap."""
    random = np.random.default_rng(0)
    factor = random.normal(size=(count, 1))
    frame = pd.DataFrame(factor + 0.5 * random.normal(size=(count, 3)), columns=list("abc"))
    frame["k"] = pd.Categorical(np.where(factor[:, 0] + random.normal(size=count) > 0, "yes", "no"))
    frame.loc[random.random(count) < 1 / (1 + np.exp(1 - 2 * frame["a"])), "a"] = np.nan
    frame.loc[random.random(count) < 0.2, "k"] = None
    return Table.from_frame(frame, auxiliary=["c"])


def trained(table: Table, **options: Any) -> Fit:
    pair = GINA(table, latent_dim=2, mechanism=SelfMasking, seed=0), ZeroImpute(table, 2, hidden=[16], seed=0)
    defaults = {"epochs": 100, "start": "random", "device": "cuda", "progress": False}
    return fit(*pair, table, **{**defaults, **options})


@pytest.fixture(scope="module")
def table() -> Table:
    torch.set_default_dtype(torch.float64)
    return masked()


@pytest.fixture(scope="module")
def here(table: Table) -> Fit:
    """The fit by the processor."""
    torch.set_default_dtype(torch.float64)
    return trained(table, device="cpu", compile="graph")


@pytest.mark.parametrize("mode", MODES)
def test_training_reaches_the_processors_evidence(table: Table, here: Fit, mode: str, caplog: Any) -> None:
    with caplog.at_level(logging.INFO, logger="pyro_mnar"):
        there = trained(table, compile=mode)
    assert there.device.type == "cuda"
    assert f"training steps: {mode} " in caplog.text and "no CUDA graph" not in caplog.text
    evidence = [log_evidence(one, table, num_particles=500, seed=1).log_p.mean() for one in (there, here)]
    assert evidence[0] == pytest.approx(evidence[1], abs=0.05)  # seeds differ by .01 on the processor


@pytest.mark.parametrize("mode", MODES)
def test_imputations_are_those_of_the_processor_but_for_chance(table: Table, here: Fit, mode: str) -> None:
    own = {"num_draws": 40, "num_particles": 200, "seed": 3}
    there, expected = impute(here, table, device="cuda", compile=mode, **own), impute(here, table, **own)
    here.model.cpu(), here.guide.cpu()
    gaps = table.frame["a"].isna()
    values = [np.stack([frame["a"][gaps] for frame in one.frames()]) for one in (there, expected)]
    assert np.abs(there.mean()["a"][gaps] - expected.mean()["a"][gaps]).max() < 0.15
    assert (values[0].std(0) / values[1].std(0)).mean() == pytest.approx(1.0, abs=0.05)
    pd.testing.assert_series_equal(there.mean()["a"][~gaps], table.frame["a"][~gaps])


def test_the_same_seed_gives_the_same_fit_and_draws(table: Table) -> None:
    """To rounding: a card's sums are not always taken in one order."""
    runs = [trained(table, epochs=5, compile="graph") for _ in range(2)]
    torch.testing.assert_close(*([*run.model.parameters()] for run in runs), rtol=1e-6, atol=1e-8)  # pyright: ignore
    draws = [impute(runs[0], table, num_draws=2, num_particles=20, seed=1).draws for _ in range(2)]
    np.testing.assert_allclose(*draws, rtol=1e-6, atol=1e-8)


def test_restarts_and_bootstrap_are_trained_at_once(table: Table) -> None:
    found = trained(table, epochs=40, restarts=3, compile="graph", held_out=0.2)
    assert found.restarts["bound"].notna().all() and len(found.members) == 3
    again = trained(table, epochs=40, bootstrap=4, compile="graph")
    assert len(again.bootstrap) == 4
    assert np.isfinite(impute(again, table, num_draws=4, num_particles=20).draws).all()


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_an_interrupted_fit_goes_on_to_the_same_numbers(table: Table, mode: str, tmp_path: Path) -> None:
    whole = trained(table, epochs=8, compile=mode)
    place = tmp_path / "checkpoint"
    trained(table, epochs=8, compile=mode, checkpoint=place, every=3)
    resumed = trained(table, epochs=8, compile=mode, checkpoint=place, every=3, resume=True)
    np.testing.assert_allclose(resumed.history["bound"], whole.history["bound"], rtol=1e-6)


def test_a_file_of_a_fit_on_a_card_is_read_anywhere(table: Table, tmp_path: Path) -> None:
    there = trained(table, epochs=5)
    there.save(tmp_path / "fit")
    back = Fit.load(tmp_path / "fit")
    assert back.device.type == "cpu"
    evidence = [log_evidence(one, table, num_particles=2_000, seed=1).log_p.mean() for one in (there, back)]
    assert evidence[0] == pytest.approx(evidence[1], abs=0.03)


def test_a_start_from_the_data_is_the_processors(table: Table) -> None:
    pairs, table = [], Table.from_frame(table.frame[["a", "b", "c"]], auxiliary=["c"])
    for device in ("cpu", "cuda"):
        model = GINA(table, latent_dim=2, mechanism=SelfMasking, seed=0)
        guide = ZeroImpute(table, 2, seed=0)
        pairs.append(
            fit(model, guide, table, start="data", epochs=1, learning_rate=1e-12, device=device, progress=False)
        )
    for one, other in zip(*(pair.model.parameters() for pair in pairs), strict=True):
        torch.testing.assert_close(one, other.cpu(), rtol=1e-5, atol=1e-6)


def test_what_cannot_be_recorded_is_run_as_it_is(caplog: Any) -> None:
    state = torch.zeros(1, device="cuda")

    def reads(inputs: list[torch.Tensor]) -> torch.Tensor:
        inputs[0].add_(inputs[1] * float(inputs[1]))  # waits for the processor
        return inputs[0].clone()

    step = Replayed(reads, [state], 1)
    with caplog.at_level(logging.WARNING):
        found = [step([state, torch.full((1,), value, device="cuda")]).item() for value in (1.0, 2.0)]
    assert found == [1.0, 5.0] and "no CUDA graph" in caplog.text


def test_a_recorded_step_leaves_no_trace_of_its_warming_up() -> None:
    state, weight = torch.zeros(3, device="cuda"), torch.ones(3, device="cuda")

    def add(inputs: list[torch.Tensor]) -> torch.Tensor:
        return inputs[0].add_(inputs[1] * inputs[2]).sum()

    step = Replayed(add, [state], 1)
    found = [step([state, torch.full((3,), float(n), device="cuda"), weight]).item() for n in range(STEPS_OF_A_REPLAY)]
    assert found == [3.0 * sum(range(n + 1)) for n in range(STEPS_OF_A_REPLAY)]
