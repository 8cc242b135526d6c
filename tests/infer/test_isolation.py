"""Processes: a child forked while another thread fits runs on its own, and a process without standard error fits."""

from __future__ import annotations

import os
import signal
import sys
import threading

import numpy as np
import pandas as pd
import pyro
import pytest
import torch

from pyro_mnar import Table, fit
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.infer.session import Session
from pyro_mnar.models import GINA


def small_fit(progress=False):
    table = Table.from_frame(pd.DataFrame({"a": [1.0, 2.0, 3.0, 5.0], "b": [1.0, np.nan, 2.0, 4.0]}))
    model = GINA(table, latent_dim=1, seed=0)
    guide = ZeroImpute(table, 1, hidden=(4,), seed=0)
    return fit(model, guide, table, epochs=2, seed=0, progress=progress, compile="eager")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
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


def test_a_process_without_standard_error_fits(monkeypatch):
    expected = small_fit().history["bound"].tolist()
    monkeypatch.setattr(sys, "stderr", None)
    assert small_fit(progress=True).history["bound"].tolist() == expected
