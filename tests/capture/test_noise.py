"""What a refusal to capture says: the user's own line, in whichever environment packages are installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from pyro_mnar.capture.internals import CannotCapture
from pyro_mnar.capture.noise import Noise, _is_users


def test_the_line_that_reads_a_value_is_named():
    with pytest.raises(CannotCapture, match=rf"reads values of a tensor \({Path(__file__).name}, line \d+\)"), Noise():
        torch.ones(()).item()


@pytest.mark.parametrize(
    ("filename", "module", "users"),
    [
        ("/home/ann/study/model.py", "model", True),
        ("/home/ann/study/pyro_mnar_study.py", "pyro_mnar_study", True),
        ("<ipython-input-1>", "__main__", False),
        ("/home/ann/other/lib/python3.11/site-packages/pyro/poutine/runtime.py", "pyro.poutine.runtime", False),
        ("/usr/lib/python3/dist-packages/torch/functional.py", "torch.functional", False),
        ("/home/ann/checkout/models/gina.py", "pyro_mnar.models.gina", False),
        (f"{Path(sys.modules['contextlib'].__file__ or '')}", "contextlib", False),
    ],
)
def test_only_the_users_own_files_are_named(filename: str, module: str, users: bool):
    assert _is_users(filename, module) == users
