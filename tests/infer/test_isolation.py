"""Processes and threads: a child forked while another thread fits runs on its own, a fit in use can be pickled."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoGuideList, AutoNormal

from pyro_mnar import Fit, ImportanceWeightedELBO, Table, fit, impute, partially_observed, rows, shared_latents
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.infer.parameters import perturbed
from pyro_mnar.infer.session import Session
from pyro_mnar.models import GINA
from pyro_mnar.training import plan
from pyro_mnar.training.copies import copied_modules


def small_fit(progress=False):
    table = Table.from_frame(pd.DataFrame({"a": [1.0, 2.0, 3.0, 5.0], "b": [1.0, np.nan, 2.0, 4.0]}))
    model = GINA(table, latent_dim=1, seed=0)
    guide = ZeroImpute(table, 1, hidden=(4,), seed=0)
    return fit(model, guide, table, epochs=2, seed=0, progress=progress, compile="eager")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.skipif(torch.cuda.is_available(), reason="torch differentiates in no forked child where it sees a GPU")
def test_a_child_forked_while_another_thread_fits_gives_the_same_numbers():
    expected = small_fit().history["bound"].tolist()
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with Session(7).running(), pyro.poutine.block():
            torch.rand(3)
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert entered.wait(60)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:  # no exception may reach pytest's own code in this process
            try:
                signal.alarm(60)
                torch.set_num_threads(1)
                os.write(writing, repr(small_fit().history["bound"].tolist()).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            found = pipe.read()
        os.waitpid(child, 0)
    finally:
        leave.set()
        thread.join()
    assert found == repr(expected)


INSIDE, LEAVE = threading.Event(), threading.Event()


class Held:
    """A model that stays inside until it is let go, its parameters in Pyro's store."""

    def __init__(self):
        self.level = torch.nn.Linear(1, 1)

    def __call__(self, batch):
        level = pyro.module("level", self.level)
        INSIDE.set()
        assert LEAVE.wait(60)
        with rows(batch):
            partially_observed("x", dist.Normal(level(batch.x.new_ones(1)), 1.0).expand([2]), batch)


def no_latents(batch):
    pass


def test_a_fit_is_pickled_while_another_thread_runs_its_model():
    """Pyro hangs weak references on the parameters of modules that run, which cannot be pickled."""
    table = small_fit().table
    result = Fit(Held(), no_latents, table.schema)
    LEAVE.set()
    expected = impute(result, table, num_draws=2, seed=0).draws
    INSIDE.clear(), LEAVE.clear()
    with ThreadPoolExecutor(2) as pool:
        imputing = pool.submit(impute, result, table, num_draws=2, seed=0)
        try:
            assert INSIDE.wait(60)
            assert hasattr(result.model.level.weight, "unconstrained")
            pickling = pool.submit(pickle.dumps, result)
            wait([pickling], timeout=0.5)
        finally:
            LEAVE.set()
        again = pickle.loads(pickling.result(60))
        np.testing.assert_array_equal(imputing.result(60).draws, expected)
    np.testing.assert_array_equal(impute(again, table, num_draws=2, seed=0).draws, expected)


def test_a_fit_is_saved_and_made_as_it_is_while_another_thread_imputes(tmp_path):
    """A run of the model may put other numbers into its parameters for a while, and a store of its own in the place."""
    result = small_fit()
    expected = result.model.state_dict()
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with Session(7).running(), perturbed(result.model.parameters(), 1.0):
            pyro.param("another's", torch.zeros(()))
            inside.set()
            leave.wait(60)

    with pyro.get_param_store().scope(), ThreadPoolExecutor(4) as pool:
        pyro.param("own", torch.ones(()))
        holding = pool.submit(hold)
        try:
            assert inside.wait(60)
            tasks = [
                pool.submit(result.save, tmp_path / "a.fit"),
                pool.submit(Fit.from_svi, result.model, result.guide, result.table),
            ]
            wait(tasks, timeout=0.5)
        finally:
            leave.set()
        holding.result(60)
        assert list(tasks[1].result(60).store["params"]) == ["own"]
        tasks[0].result(60)
    saved = Fit.load(tmp_path / "a.fit").model.state_dict()
    assert all(torch.equal(saved[name], value) for name, value in expected.items())


NETWORK = torch.nn.Linear(1, 1, dtype=torch.float64)


def with_network(batch):
    level = pyro.module("network", NETWORK)
    with rows(batch):
        partially_observed("x", dist.Normal(level(batch.x.new_ones(1)), 1.0).expand([2]), batch)


def test_a_network_that_stayed_behind_is_refused(monkeypatch, tmp_path):
    """Pyro would run the network of the function's own module, which is untrained in another process."""
    table = small_fit().table
    result = fit(with_network, no_latents, table, epochs=2, seed=0, progress=False, compile="eager")
    impute(result, table, num_draws=1)
    result.save(tmp_path / "network.fit")
    for moved in (pickle.loads(pickle.dumps(result)), Fit.load(tmp_path / "network.fit", with_network, no_latents)):
        impute(moved, table, num_draws=1)  # in the process that trained it, it is there
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(sys.modules[__name__], "NETWORK", torch.nn.Linear(1, 1, dtype=torch.float64))
            with pytest.raises(ValueError, match="is not the trained one, which was left behind"):
                impute(moved, table, num_draws=1)


class WithNetwork(torch.nn.Module):
    """A model that brings its network along, and registers it by hand."""

    def __init__(self):
        super().__init__()
        self.level = torch.nn.Linear(1, 1, dtype=torch.float64)

    def forward(self, batch):
        level = pyro.module("level", self.level)
        with rows(batch):
            partially_observed("x", dist.Normal(level(batch.x.new_ones(1)), 1.0).expand([2]), batch)


def test_a_network_that_comes_along_is_trained_on(tmp_path):
    table = small_fit().table
    options = {"epochs": 2, "seed": 0, "progress": False, "compile": "eager"}
    first = fit(WithNetwork(), no_latents, table, **options)
    first.save(tmp_path / "level.fit")
    weights = []
    for start in (first, Fit.load(tmp_path / "level.fit", WithNetwork(), no_latents)):
        more = fit(WithNetwork(), no_latents, table, start=start, **options)
        impute(more, table, num_draws=1)  # the store's numbers are of before
        weights.append(more.model.level.weight.item())
    assert weights[0] == weights[1] != first.model.level.weight.item()


def test_guides_within_guides_keep_their_model_when_they_are_copied():
    def model(batch):
        level = pyro.sample("level", dist.Normal(0.0, 1.0))
        with rows(batch):
            partially_observed("x", dist.Normal(level, 1.0).expand([2]), batch)

    table = small_fit().table
    guide = AutoGuideList(shared_latents(model))
    guide.append(AutoNormal(shared_latents(model)))
    copied = copied_modules(model, guide)[1]
    options = {"epochs": 2, "seed": 0, "progress": False, "compile": "eager"}
    bounds = [fit(model, one, table, **options).history["bound"].tolist() for one in (copied, guide)]
    assert bounds[0] == bounds[1]


def test_a_shallow_copy_of_a_fit_is_one():
    result = small_fit()
    assert copy.copy(result).model is result.model
    assert copy.deepcopy(result).model is not result.model


def test_a_process_without_standard_error_fits(monkeypatch):
    expected = small_fit().history["bound"].tolist()
    monkeypatch.setattr(sys, "stderr", None)
    assert small_fit(progress=True).history["bound"].tolist() == expected


def test_small_steps_take_one_thread_and_the_setting_comes_back(monkeypatch):
    seen, before = set(), torch.get_num_threads()
    loss = ImportanceWeightedELBO.differentiable_loss

    def counting(self, *arguments):
        seen.add(torch.get_num_threads())
        return loss(self, *arguments)

    monkeypatch.setattr(ImportanceWeightedELBO, "differentiable_loss", counting)
    torch.set_num_threads(2)
    try:
        small_fit()
        assert (seen, torch.get_num_threads()) == ({1}, 2)
        monkeypatch.setattr(plan, "CELLS_FOR_THREADS", 0)
        small_fit()
        assert seen == {1, 2}
    finally:
        torch.set_num_threads(before)


SURROUNDINGS = """
import multiprocessing, os, sys
import numpy as np, pandas as pd
from pyro_mnar import Table, fit, impute
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import GINA

def around():
    torchs = {name: value for name, value in os.environ.items() if "TORCH" in name or "PYRO" in name}
    return torchs, sys.getrecursionlimit(), multiprocessing.get_start_method(allow_none=True)

before = around()
table = Table.from_frame(pd.DataFrame({"a": [1.0, 2.0, 3.0, 5.0], "b": [1.0, np.nan, 2.0, 4.0]}), auxiliary=[])
result = fit(GINA(table, latent_dim=1, seed=0), ZeroImpute(table, 1, hidden=(4,), seed=0), table, epochs=2, seed=0)
print(result.history["bound"].tolist(), impute(result, table, num_draws=2, num_particles=3).draws.tolist())
assert around() == before, around()
"""


def in_a_process(*flags):
    """What a process of its own prints."""
    done = subprocess.run(
        [sys.executable, *flags, "-c", SURROUNDINGS],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_an_optimised_and_strict_process_gives_the_same_numbers_and_keeps_its_surroundings(capsys):
    """``-O`` takes asserts away; ``-W error`` makes errors of warnings, torch's and Pyro's at import aside."""
    of_others = ("-W", "ignore::DeprecationWarning", "-W", "ignore::FutureWarning")
    found = in_a_process("-O", "-W", "error", *of_others)
    torch.set_default_dtype(torch.float32)
    try:
        exec(SURROUNDINGS, {})
    finally:
        torch.set_default_dtype(torch.float64)
    assert found == capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler")
def test_two_threads_that_compile_at_once_give_the_same_numbers(caplog):
    result = small_fit()
    table = Table.from_frame(pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [np.nan, 2.0, np.nan]}), schema=result.schema)
    found = {}

    def run(name):
        found[name] = impute(result, table, num_draws=2, num_particles=7, compile="inductor").draws

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not [
        record for record in caplog.records if "not captured" in record.message or "not compiled" in record.message
    ]
    np.testing.assert_array_equal(found[0], found[1])
