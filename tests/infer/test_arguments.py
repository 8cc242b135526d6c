"""Numbers and devices that users give: taken, or refused in one line that names the argument."""

from __future__ import annotations

import math
import os
from fractions import Fraction

import numpy as np
import pytest
import torch

from pyro_mnar.devices import device_of
from pyro_mnar.infer.arguments import THREADS_PER_CORE, thread_count
from pyro_mnar.messages import positive_number, whole_number

NO_WHOLE_NUMBERS = [
    True,
    False,
    np.True_,
    1.0,
    1.5,
    math.nan,
    math.inf,
    "2",
    b"2",
    None,
    [1],
    (1,),
    {},
    1j,
    Fraction(1),
]
NO_NUMBERS = [True, np.False_, "0.1", b"1", None, [0.1], 1j, Fraction(1, 2)]
NOT_POSITIVE = [0, -1, 0.0, -0.5, math.nan, math.inf, -math.inf, np.float64("nan"), np.float32("inf"), np.int64(-3)]
NO_DEVICES = [3.5, -1, 0, True, None, [], b"cpu"]
ABSENT = ["nope", "", "cpu:x", "cuda:-1", f"cuda:{torch.cuda.device_count()}", "cuda:99", "CPU", "gpu"]


def line_of(error, call, *arguments):
    with pytest.raises(error) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("value", NO_WHOLE_NUMBERS, ids=repr)
def test_what_is_no_whole_number_is_refused(value):
    assert line_of(TypeError, whole_number, "epochs", value) == f"epochs: expected a whole number, got {value!r}"


@pytest.mark.parametrize("value", [0, -1, -(10**30), np.int8(-5)], ids=repr)
def test_a_whole_number_below_the_least_is_refused(value):
    assert line_of(ValueError, whole_number, "epochs", value) == f"epochs: expected at least 1, got {value}"


@pytest.mark.parametrize("value", [1, 7, np.int64(7), np.uint8(7), 10**30], ids=repr)
def test_whole_numbers_are_taken(value):
    found = whole_number("epochs", value)
    assert (type(found), found) == (int, int(value))


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_what_is_no_number_is_refused(value):
    assert "rate: expected a number above 0" in line_of(TypeError, positive_number, "rate", value)


@pytest.mark.parametrize("value", NOT_POSITIVE, ids=repr)
def test_a_number_that_is_not_above_zero_is_refused(value):
    assert "rate: expected more than 0" in line_of(ValueError, positive_number, "rate", value)


@pytest.mark.parametrize("value", NO_DEVICES, ids=repr)
def test_what_is_no_device_is_refused(value):
    assert "device: expected a name such as 'cpu'" in line_of(TypeError, device_of, value)


@pytest.mark.parametrize("name", ABSENT)
def test_a_device_that_is_not_there_is_refused(name):
    message = line_of(ValueError, device_of, name)
    assert message.startswith("device: ") and repr(name) in message and "cpu" in message


def test_devices_that_are_there_are_taken():
    assert [device_of(given) for given in ("cpu", torch.device("cpu"), "meta")] == [
        torch.device("cpu"), torch.device("cpu"), torch.device("meta"),
    ]  # fmt: skip


def test_threads_are_as_many_as_a_machine_may_start():
    assert thread_count(np.int64(2)) == 2
    assert "at most" in line_of(ValueError, thread_count, THREADS_PER_CORE * (os.cpu_count() or 1) + 1)
    assert "at most" in line_of(ValueError, thread_count, 100_000)
    assert "at least 1" in line_of(ValueError, thread_count, 0)
