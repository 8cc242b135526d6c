"""What `make fuzz` tries, a few times each; and what it would notice."""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from bad_inputs.case import FRAME
from fuzz.oracle import Hangs, judged, limited, unchanged
from fuzz.run import tried
from fuzz.targets import targets


@pytest.fixture(autouse=True)
def as_users_have_it(float64: None, no_type_checker: None) -> Iterator[None]:
    """float32, no type checker."""
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


@pytest.mark.parametrize("name", targets())
def test_nothing_is_found(name: str) -> None:
    assert tried(name, targets()[name], seed=0, examples=4, is_kept=False) == []


def warns() -> None:
    warnings.warn("a", RuntimeWarning, stacklevel=1)


def two_lines() -> None:
    raise OSError("a\nb")


FOUND: dict[str, Callable[[], Any]] = {
    "another error": lambda: {}["a"],
    "an error of numpy's": lambda: np.zeros(3).reshape(2, 2),
    "an error of pandas'": lambda: bool(pd.Series([1, 2])),
    "a warning of another's": warns,
    "more than one line": two_lines,
}


@pytest.mark.parametrize("what", FOUND)
def test_findings_are_noticed(what: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        judged(FOUND[what])


def test_a_changed_frame_is_noticed() -> None:
    frame = FRAME.copy()
    with pytest.raises(AssertionError, match="frame was changed"), unchanged(frame):
        frame.loc[0, "age"] = 7.0


def test_what_hangs_is_noticed() -> None:
    with pytest.raises(Hangs, match="of the processor"), limited(0.05):
        sum(1 for _ in itertools.count())
    with pytest.raises(Hangs, match=r"more than 0\.5 s"), limited(0.05):
        time.sleep(5)
